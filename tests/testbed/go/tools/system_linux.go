package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bundles of a node's containers, below a run's directory.
const bundles = "node-*/containerd/state/io.containerd.runtime.v2.task/k8s.io/*"

// container is what of a container lies outside of its run's directory.
type container struct {
	id, socket string
}

// findContainers lists the run's containers by the bundles that their runtime keeps.
func findContainers(dir string) []container {
	paths, _ := filepath.Glob(filepath.Join(dir, bundles))
	var found []container
	for _, path := range paths {
		var shim struct{ Address string }
		if content, err := os.ReadFile(filepath.Join(path, "bootstrap.json")); err == nil {
			_ = json.Unmarshal(content, &shim)
		}
		found = append(found, container{id: filepath.Base(path), socket: strings.TrimPrefix(shim.Address, "unix://")})
	}
	return found
}

// killOnce sends SIGKILL to every process that carries the marker or is in one of the containers.
func killOnce(dir string, containers []container) (seen int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The handle is taken before the check, so a process that gets the same id afterwards is safe.
		process, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if marked(pid, dir) || contained(pid, containers) {
			seen++
			_ = process.Kill()
		}
		_ = process.Release()
	}
	return seen
}

func marked(pid int, dir string) bool {
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && slices.ContainsFunc(bytes.Split(environment, []byte{0}), func(variable []byte) bool {
		return string(variable) == marker+"="+dir
	})
}

func contained(pid int, containers []container) bool {
	if len(containers) == 0 {
		return false
	}
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	// A zombie keeps its cgroup; it is gone as soon as its parent looks.
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(status, []byte(") Z ")) {
		return false
	}
	return slices.ContainsFunc(containers, func(c container) bool { return bytes.Contains(content, []byte("/"+c.id)) })
}

// releaseSystem gives back what the run took of the machine.
func releaseSystem(dir string, containers []container) error {
	failed := unmount(dir)
	for _, c := range containers {
		if c.socket != "" {
			_ = os.Remove(c.socket)
		}
	}
	removeCgroups(containers)
	return errors.Join(failed, undo(filepath.Join(dir, "undo")))
}

// unmount takes away every mount below the directory, the latest first.
func unmount(dir string) error {
	for range 10 {
		mounts, err := mountsBelow(dir)
		if err != nil || len(mounts) == 0 {
			return err
		}
		for _, mount := range slices.Backward(mounts) {
			// Whether it worked shows in the next list.
			_ = unix.Unmount(mount, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
	return fmt.Errorf("mounts are left below %s", dir)
}

func mountsBelow(dir string) ([]string, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			if path := unescape.Replace(fields[4]); strings.HasPrefix(path, dir+"/") {
				found = append(found, path)
			}
		}
	}
	return found, nil
}

// removeCgroups removes the empty control groups that killed containers leave.
func removeCgroups(containers []container) {
	if len(containers) == 0 {
		return
	}
	var left []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil //nolint:nilerr // A group that vanished meanwhile is what we want.
		}
		if slices.ContainsFunc(containers, func(c container) bool { return c.id == entry.Name() }) {
			left = append(left, path)
		}
		return nil
	})
	for _, path := range left {
		_ = unix.Rmdir(path)
		// Its parent too, if it was made for containers and this was the last.
		if parent := filepath.Dir(path); filepath.Base(parent) == "k8s.io" {
			_ = unix.Rmdir(parent)
		}
	}
}

// undo reverts, latest first, the changes of the machine that a run wrote down before making them:
//
//	address CIDR          on the loopback interface
//	link NAME             a network interface
//	sysctl PATH VALUE     a file below /proc/sys and what was in it
//	links-into DIR PATH   symbolic links in DIR that point below PATH
//	directory PATH        if it is empty
func undo(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	var changes [][]string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		changes = append(changes, strings.Fields(lines.Text()))
	}
	failed := lines.Err()
	for _, change := range slices.Backward(changes) {
		switch {
		case len(change) == 2 && change[0] == "address":
			failed = errors.Join(failed, removeAddress(change[1]))
		case len(change) == 2 && change[0] == "link":
			failed = errors.Join(failed, removeLink(change[1]))
		case len(change) >= 3 && change[0] == "sysctl":
			failed = errors.Join(failed, os.WriteFile(change[1], []byte(strings.Join(change[2:], " ")+"\n"), 0))
		case len(change) == 3 && change[0] == "links-into":
			removeLinksInto(change[1], change[2])
		case len(change) == 2 && change[0] == "directory":
			_ = unix.Rmdir(change[1])
		}
	}
	return failed
}

func removeLinksInto(dir, target string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if destination, err := os.Readlink(path); err == nil && strings.HasPrefix(destination, target+"/") {
			_ = os.Remove(path)
		}
	}
}

// newAddAddressCommand gives the loopback interface an address.
func newAddAddressCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "add-address CIDR",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			link, address, err := onLoopback(args[0])
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, address); err != nil {
				return fmt.Errorf("add %s to the loopback interface: %w", args[0], err)
			}
			return nil
		},
	}
}

func onLoopback(cidr string) (netlink.Link, *netlink.Addr, error) {
	address, err := netlink.ParseAddr(cidr)
	if err != nil {
		return nil, nil, err
	}
	link, err := netlink.LinkByName("lo")
	return link, address, err
}

func removeAddress(cidr string) error {
	link, address, err := onLoopback(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(link, address); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove %s from the loopback interface: %w", cidr, err)
	}
	return nil
}

// removeLink removes a bridge and what is plugged into it.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, plugged := range links {
		if plugged.Attrs().MasterIndex == link.Attrs().Index {
			// The kernel removes it by itself when its network namespace goes, maybe just now.
			_ = netlink.LinkDel(plugged)
		}
	}
	return netlink.LinkDel(link)
}
