// Package main runs the runc beside it, on bundles without a seccomp profile.
//
// A runc built without libseccomp refuses a bundle that names a profile, and the kubelet names one for every
// sandbox. Filtering system calls is not what the testbed is there to test.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if bundle, ok := bundleToCreate(os.Args); ok {
		if err := removeSeccomp(filepath.Join(bundle, "config.json")); err != nil {
			return err
		}
	}
	return syscall.Exec(filepath.Join(filepath.Dir(self), "runc"), os.Args, os.Environ())
}

// bundleToCreate is the value of --bundle, if the command is create.
func bundleToCreate(args []string) (string, bool) {
	create := slices.Index(args, "create")
	bundle := slices.Index(args, "--bundle")
	if create < 0 || bundle < create || bundle+1 >= len(args) {
		return "", false
	}
	return args[bundle+1], true
}

func removeSeccomp(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config, linux map[string]json.RawMessage
	if err := json.Unmarshal(content, &config); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if config["linux"] == nil {
		return nil
	}
	if err := json.Unmarshal(config["linux"], &linux); err != nil {
		return fmt.Errorf("%s: linux: %w", path, err)
	}
	if linux["seccomp"] == nil {
		return nil
	}
	delete(linux, "seccomp")
	if config["linux"], err = json.Marshal(linux); err != nil {
		return err
	}
	if content, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}
