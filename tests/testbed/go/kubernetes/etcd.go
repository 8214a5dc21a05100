package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// newEtcdCommand serves one etcd member. Its flags are a few of etcd's own, by the same names, so that a
// real etcd can stand in for it.
func newEtcdCommand(ctx context.Context) *cobra.Command {
	config := embed.NewConfig()
	var clients, advertised, peers, advertisedPeers string
	command := &cobra.Command{
		Use:  "etcd",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, flag := range []struct {
				name, value string
				urls        *[]url.URL
			}{
				{"--listen-client-urls", clients, &config.ListenClientUrls},
				{"--advertise-client-urls", advertised, &config.AdvertiseClientUrls},
				{"--listen-peer-urls", peers, &config.ListenPeerUrls},
				{"--initial-advertise-peer-urls", advertisedPeers, &config.AdvertisePeerUrls},
			} {
				parsed, err := url.Parse(flag.value)
				if err != nil {
					return fmt.Errorf("%s: %w", flag.name, err)
				}
				*flag.urls = []url.URL{*parsed}
			}
			server, err := embed.StartEtcd(config)
			if err != nil {
				return err
			}
			defer server.Close()
			select {
			case <-ctx.Done():
				return nil
			case err := <-server.Err():
				return err
			}
		},
	}
	flags := command.Flags()
	flags.StringVar(&config.Name, "name", config.Name, "name of the member")
	flags.StringVar(&config.Dir, "data-dir", "", "directory of the member's data")
	flags.StringVar(&clients, "listen-client-urls", "http://127.0.0.1:2379", "where clients connect")
	flags.StringVar(&advertised, "advertise-client-urls", "http://127.0.0.1:2379", "where clients are told to connect")
	flags.StringVar(&peers, "listen-peer-urls", "http://127.0.0.1:0", "where peers would connect")
	flags.StringVar(&advertisedPeers, "initial-advertise-peer-urls", "http://127.0.0.1:0", "where peers are told to connect")
	flags.StringVar(&config.InitialCluster, "initial-cluster", "default=http://127.0.0.1:0", "the members")
	flags.BoolVar(&config.UnsafeNoFsync, "unsafe-no-fsync", false, "do not sync to disk")
	flags.StringVar(&config.LogLevel, "log-level", "warn", "least severe level to log")
	_ = command.MarkFlagRequired("data-dir")
	return command
}
