//go:build !linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// container has no meaning here: real nodes need Linux.
type container struct{}

func findContainers(string) []container { return nil }

func releaseSystem(string, []container) error { return nil }

// killOnce sends SIGKILL to every process whose arguments name the run's directory, as each component's do.
func killOnce(dir string, _ []container) (seen int) {
	list, err := exec.Command("ps", "-axo", "pid=,command=").Output()
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(list) {
		pid, command, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		id, err := strconv.Atoi(pid)
		if err != nil || id == os.Getpid() || id == os.Getppid() || !strings.Contains(command, dir+"/") {
			continue
		}
		if process, err := os.FindProcess(id); err == nil {
			seen++
			_ = process.Kill()
		}
	}
	return seen
}

func newAddAddressCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "add-address CIDR",
		RunE: func(*cobra.Command, []string) error { return errors.New("real nodes need Linux") },
	}
}
