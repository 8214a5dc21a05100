package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	// marker is the environment variable that carries the run's directory in every process of a run, and in
	// the processes that those start: so nothing needs to be written down, and no process can be missed or
	// mistaken for another.
	marker = "HEADSTART_TESTBED_RUN"
	// killLimit is how long processes may take to be gone after SIGKILL.
	killLimit = 90 * time.Second
	// keptFile in a run's directory says that the run is meant to outlive its starter.
	keptFile = "kept"
)

// newReapCommand removes all that is left of a run: processes, mounts, network, directory.
//
//	reap DIR              now
//	reap --wait DIR       when standard input ends, unless the word "keep" comes before
//	reap --stale PARENT   every run below PARENT whose owner is gone and that is not kept
func newReapCommand() *cobra.Command {
	var wait, stale bool
	command := &cobra.Command{
		Use:  "reap DIR",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if stale {
				return reapStale(args[0])
			}
			if wait {
				detach()
				if keep, err := waitForOwner(); keep || err != nil {
					return err
				}
			}
			return reapWhenFree(args[0])
		},
	}
	command.Flags().BoolVar(&wait, "wait", false, "wait for the end of standard input")
	command.Flags().BoolVar(&stale, "stale", false, "DIR holds runs: reap those that were abandoned")
	return command
}

// detach makes what ends the owner (a ctrl-c, a closed terminal) not end the reaper.
func detach() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	// Fails only for a leader of a process group, which is out of the terminal's reach already.
	_, _ = syscall.Setsid()
}

func waitForOwner() (keep bool, err error) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "keep" {
			return true, nil
		}
	}
	return false, lines.Err()
}

// lock opens the lock file of a run and waits for its lock, or does not wait and reports whether it is free.
func lock(path string, wait bool) (file *os.File, free bool, err error) {
	file, err = os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, false, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err = syscall.Flock(int(file.Fd()), how)
		switch {
		case err == nil:
			return file, true, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			file.Close()
			return nil, false, nil
		default:
			file.Close()
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

func reapWhenFree(dir string) error {
	file, _, err := lock(filepath.Join(dir, "lock"), true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Another reaper was faster.
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return reap(dir)
}

func reapStale(parent string) error {
	// Runs are created under this lock, so none is seen between its creation and its own lock.
	creation, _, err := lock(filepath.Join(parent, "lock"), true)
	if err != nil {
		return err
	}
	defer creation.Close()
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	abandoned := map[string]*os.File{}
	for _, entry := range entries {
		dir := filepath.Join(parent, entry.Name())
		if !entry.IsDir() || exists(filepath.Join(dir, keptFile)) {
			continue
		}
		file, free, err := lock(filepath.Join(dir, "lock"), false)
		if errors.Is(err, fs.ErrNotExist) {
			// Created by no run, or half removed: there is nothing but files.
			_ = os.RemoveAll(dir)
			continue
		}
		if err != nil {
			return err
		}
		if free {
			abandoned[dir] = file
		}
	}
	creation.Close()
	var failed error
	for dir, file := range abandoned {
		failed = errors.Join(failed, reap(dir))
		file.Close()
	}
	return failed
}

// reap does the work. A step that fails does not keep the later ones from running.
func reap(dir string) error {
	if !exists(dir) {
		return nil
	}
	if strings.Count(filepath.Clean(dir), string(filepath.Separator)) < 2 || !filepath.IsAbs(dir) {
		return fmt.Errorf("%q is not the directory of a run", dir)
	}
	containers := findContainers(dir)
	failed := kill(dir, containers)
	failed = errors.Join(failed, releaseSystem(dir, containers))
	if failed != nil {
		// The directory stays, so that the next start tries again.
		return fmt.Errorf("clean up %s: %w", dir, failed)
	}
	// The lock's file goes last: what was killed half way is seen as abandoned and not as half removed.
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != "lock" {
			failed = errors.Join(failed, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return errors.Join(failed, os.RemoveAll(dir))
}

// kill ends the run's processes, again and again until there are none: one may have started another
// between being seen and being killed.
func kill(dir string, containers []container) error {
	deadline := time.Now().Add(killLimit)
	for {
		left := killOnce(dir, containers)
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes did not end %s after SIGKILL", left, killLimit)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
