// Package main is the testbed's own small tools: what the Rust half leaves to Go's libraries (images,
// registries, the container runtime's API) and to a process that outlives it (the reaper).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "tools", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(
		newImageCommand(), newRegistryCommand(), newImagesCommand(), newRemoveImageCommand(), newPullImageCommand(),
		newRemoveEndedPodsCommand(), newReapCommand(), newAddAddressCommand(), newGetCommand(),
	)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
