package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// serviceAccountDir is where a pod finds its credentials.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// newGetCommand asks the API server for a path, from within a pod, as the pod's ServiceAccount.
func newGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "get PATH",
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			token, err := os.ReadFile(filepath.Join(serviceAccountDir, "token"))
			if err != nil {
				return err
			}
			authority, err := os.ReadFile(filepath.Join(serviceAccountDir, "ca.crt"))
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(authority)
			host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
			request, err := http.NewRequestWithContext(command.Context(), http.MethodGet, "https://"+host+args[0], nil)
			if err != nil {
				return err
			}
			request.Header.Set("Authorization", "Bearer "+string(token))
			client := &http.Client{
				Timeout:   10 * time.Second,
				Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
			}
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if _, err := io.Copy(command.OutOrStdout(), response.Body); err != nil {
				return err
			}
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: %s", args[0], response.Status)
			}
			return nil
		},
	}
}
