package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// newEtcdCommand serves one etcd member on loopback. It does not sync to disk: its data is worth no more
// than the run that made it.
func newEtcdCommand(ctx context.Context) *cobra.Command {
	var dir, client string
	command := &cobra.Command{
		Use:  "etcd",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			clientURL, err := url.Parse(client)
			if err != nil {
				return fmt.Errorf("--listen-client-url: %w", err)
			}
			peerURL := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
			config := embed.NewConfig()
			config.Dir = dir
			config.UnsafeNoFsync = true
			config.LogLevel = "warn"
			config.ListenClientUrls = []url.URL{*clientURL}
			config.AdvertiseClientUrls = config.ListenClientUrls
			config.ListenPeerUrls = []url.URL{peerURL}
			config.AdvertisePeerUrls = config.ListenPeerUrls
			config.InitialCluster = config.InitialClusterFromName(config.Name)
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
	command.Flags().StringVar(&dir, "data-dir", "", "directory of the member's data")
	command.Flags().StringVar(&client, "listen-client-url", "http://127.0.0.1:2379", "where clients connect")
	_ = command.MarkFlagRequired("data-dir")
	return command
}
