// Package main is one binary that is, by its first argument or its own name, any component of a Kubernetes
// control plane, a kubelet, or kubectl.
//
// One binary keeps the build to one link step, and every component at the version that go.mod pins.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components maps the first argument to the command that serves it.
var components = map[string]func(context.Context) *cobra.Command{
	"etcd":                    newEtcdCommand,
	"kube-apiserver":          func(context.Context) *cobra.Command { return apiserver.NewAPIServerCommand() },
	"kube-controller-manager": func(context.Context) *cobra.Command { return controllermanager.NewControllerManagerCommand() },
	"kube-scheduler":          func(context.Context) *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 kubelet.NewKubeletCommand,
	"kubectl":                 func(context.Context) *cobra.Command { return kubectl.NewDefaultKubectlCommand() },
}

func main() {
	name := filepath.Base(os.Args[0])
	if components[name] == nil {
		if len(os.Args) < 2 || components[os.Args[1]] == nil {
			names := make([]string, 0, len(components))
			for name := range components {
				names = append(names, name)
			}
			slices.Sort(names)
			fmt.Fprintf(os.Stderr, "usage: %s COMPONENT [flags], COMPONENT one of: %s\n", name, strings.Join(names, ", "))
			os.Exit(2)
		}
		// Each component parses os.Args itself, so it must see its own name first.
		name, os.Args = os.Args[1], os.Args[1:]
	}
	ctx := context.Background()
	if name == "etcd" || name == "kubelet" {
		// The other components install a handler of their own, and a second one panics.
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
	}
	os.Exit(cli.Run(components[name](ctx)))
}
