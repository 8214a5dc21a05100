//go:build components

// The components of the control plane that know the policies, so that go.mod keeps what building them takes.
package main

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
