package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// criTimeout bounds one request to a container runtime.
const criTimeout = 30 * time.Second

// pullTimeout bounds a pull, which a limited registry makes last.
const pullTimeout = 5 * time.Minute

// removeTimeout bounds the removal of all pods of a container runtime that have ended, each of which runs network plugins.
const removeTimeout = time.Minute

// retryPause is between two attempts.
const retryPause = 100 * time.Millisecond

// newImagesCommand prints the names of a container runtime's images, one per line.
func newImagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "images SOCKET",
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return withImageService(command.Context(), args[0], criTimeout, func(ctx context.Context, images runtime.ImageServiceClient) error {
				response, err := images.ListImages(ctx, &runtime.ListImagesRequest{})
				if err != nil {
					return err
				}
				for _, image := range response.Images {
					for _, name := range append(image.RepoTags, image.RepoDigests...) {
						if _, err := fmt.Fprintln(command.OutOrStdout(), name); err != nil {
							return err
						}
					}
				}
				return nil
			})
		},
	}
}

// newRemoveImageCommand removes an image from a container runtime; one that is not there is no error.
func newRemoveImageCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "remove-image SOCKET REFERENCE",
		Args: cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			return withImageService(command.Context(), args[0], criTimeout, func(ctx context.Context, images runtime.ImageServiceClient) error {
				_, err := images.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: args[1]}})
				return err
			})
		},
	}
}

// newPullImageCommand pulls an image into a container runtime, as a kubelet would.
func newPullImageCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "pull-image SOCKET REFERENCE",
		Args: cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			return withImageService(command.Context(), args[0], pullTimeout, func(ctx context.Context, images runtime.ImageServiceClient) error {
				_, err := images.PullImage(ctx, &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: args[1]}})
				return err
			})
		},
	}
}

// newRemoveEndedPodsCommand removes what a container runtime still keeps of pods that have ended, as a kubelet does about
// once a minute.
func newRemoveEndedPodsCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "remove-ended-pods SOCKET",
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return withConnection(command.Context(), args[0], removeTimeout, removeEndedPods)
		},
	}
}

func removeEndedPods(ctx context.Context, connection *grpc.ClientConn) error {
	pods := runtime.NewRuntimeServiceClient(connection)
	ended := &runtime.PodSandboxFilter{State: &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_NOTREADY}}
	for {
		response, err := pods.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{Filter: ended})
		if err != nil {
			return err
		}
		var failed error
		for _, pod := range response.Items {
			if _, err := pods.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
				failed = err
			}
		}
		if failed == nil {
			return nil
		}
		// The kubelet may be at the same: then it is gone when looked for again.
		select {
		case <-ctx.Done():
			return failed
		case <-time.After(retryPause):
		}
	}
}

func withImageService(ctx context.Context, socket string, timeout time.Duration, use func(context.Context, runtime.ImageServiceClient) error) error {
	return withConnection(ctx, socket, timeout, func(ctx context.Context, connection *grpc.ClientConn) error {
		return use(ctx, runtime.NewImageServiceClient(connection))
	})
}

func withConnection(ctx context.Context, socket string, timeout time.Duration, use func(context.Context, *grpc.ClientConn) error) error {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return use(ctx, connection)
}
