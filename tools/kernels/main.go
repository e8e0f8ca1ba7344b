// SPDX-License-Identifier: Apache-2.0

// Command kernels runs the tests of the packet path on Debian's kernels. It downloads them
// from the archive and boots them in qemu. It needs apt, qemu-system-x86, busybox-static and
// cpio.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// modules are the modules that the tests need, in the order of insertion.
var modules = []string{"llc", "stp", "bridge", "veth", "macvlan", "vrf", "sch_ingress", "cls_bpf"}

// packages are the packages to test. The build tag kernels adds tests that need features
// which this host's kernel may lack.
var packages = []string{"pkg/datapath", "pkg/transmit", "pkg/link"}

const (
	done    = "KERNEL TEST DONE"
	failed  = "KERNEL TEST FAILED"
	timeout = 30 * time.Minute
)

// script is the init of the virtual machine.
const script = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
export PATH=/bin CI=true HOME=/tmp
for m in /modules/*.ko; do insmod $m || echo "` + failed + `: insmod $m"; done
ip link set lo up
uname -r
for d in /src/*/*/*.test; do
	cd $(dirname $d)
	./$(basename $d) -test.v -test.timeout 25m 2>&1 | grep -E '^(---|FAIL|PASS|panic)|^ +[a-z_]+\.go:'
done
echo "` + done + `"
poweroff -f
`

const help = `kernels runs the tests of the packet path on Debian's kernels. It downloads them from the
archive and boots them in qemu. It needs apt, qemu-system-x86, busybox-static and cpio.

Flags:
`

func main() {
	suites := flag.String("suites", "", "Debian `suites` of the kernels, separated by commas (default this host's, and its backports)")
	name := flag.String("package", "linux-image-amd64", "the `package` of the kernel")
	lab.Main("kernels", help, func(ctx context.Context) error { return run(ctx, *suites, *name) })
}

func run(ctx context.Context, suites, name string) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("kernels runs on amd64 only, not on %s", runtime.GOARCH)
	}
	uri, suite, err := archive(ctx)
	if err != nil {
		return err
	}
	if suites == "" {
		suites = suite + "," + suite + "-backports"
	}
	work, err := os.MkdirTemp("", "kernels-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	root := filepath.Join(work, "root")
	if err := buildTests(ctx, root); err != nil {
		return err
	}
	var errs []error
	for s := range strings.SplitSeq(suites, ",") {
		if err := test(ctx, work, root, uri, s, name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

// archive returns the archive and the suite of this host's packages.
func archive(ctx context.Context) (uri, suite string, err error) {
	out, err := output(ctx, "", "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)")
	if err != nil {
		return "", "", err
	}
	words := strings.Fields(out)
	if len(words) < 2 {
		return "", "", errors.New("apt-get indextargets lists no archive; add one to /etc/apt/sources.list")
	}
	return words[0], words[1], nil
}

// buildTests makes the virtual machine's file system, except for the modules.
func buildTests(ctx context.Context, root string) error {
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if _, err := output(ctx, "", "cp", "-L", busybox, filepath.Join(root, "bin", "busybox")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "init"), []byte(script), 0o755); err != nil {
		return err
	}
	for _, p := range packages {
		dir := filepath.Join(root, "src", p)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "kernels", "-o", filepath.Join(dir, filepath.Base(p)+".test"), "./"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build the tests of %s: %w", p, err)
		}
	}
	_, err = output(ctx, "", "cp", "-r", "--parents", "pkg/packet/testdata", filepath.Join(root, "src"))
	return err
}

// test boots the kernel of a suite and runs the tests on it.
func test(ctx context.Context, work, root, uri, suite, name string) error {
	start := time.Now()
	fmt.Printf("== %s of %s\n", name, suite)
	dir := filepath.Join(work, suite)
	kernel, err := fetch(ctx, dir, uri, suite, name)
	if err != nil {
		return err
	}
	if err := copyModules(ctx, filepath.Join(dir, "kernel"), filepath.Join(root, "modules")); err != nil {
		return err
	}
	initrd := filepath.Join(dir, "initrd")
	if _, err := output(ctx, root, "sh", "-c", "find . | cpio --quiet -o -H newc >"+initrd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ok, err := boot(ctx, kernel, initrd)
	if err != nil {
		return err
	}
	fmt.Printf("== %s of %s took %.0f s\n", name, suite, time.Since(start).Seconds())
	if !ok {
		return errors.New("tests failed")
	}
	return nil
}

// fetch downloads and unpacks the package of the kernel, and returns the kernel's path.
func fetch(ctx context.Context, dir, uri, suite, name string) (string, error) {
	for _, d := range []string{"lists/partial", "debs", "kernel"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	sources := filepath.Join(dir, "sources.list")
	if err := os.WriteFile(sources, fmt.Appendf(nil, "deb %s %s main\n", uri, suite), 0o644); err != nil {
		return "", err
	}
	options := []string{
		"-q", "-o", "Dir::Etc::sourcelist=" + sources, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + filepath.Join(dir, "lists"), "-o", "APT::Sandbox::User=root",
		"-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
	}
	apt := func(dir string, args ...string) (string, error) {
		return output(ctx, dir, args[0], append(options, args[1:]...)...)
	}
	if _, err := apt("", "apt-get", "update"); err != nil {
		return "", err
	}
	depends, err := apt("", "apt-cache", "depends", "--important", name)
	if err != nil {
		return "", err
	}
	image := name
	for line := range strings.SplitSeq(depends, "\n") {
		if _, p, ok := strings.Cut(line, "Depends: linux-image-"); ok {
			image = "linux-image-" + strings.TrimSpace(p)
		}
	}
	fmt.Println("   " + image)
	if _, err := apt(filepath.Join(dir, "debs"), "apt-get", "download", image); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "debs", "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("%d packages downloaded: %w", len(debs), err)
	}
	if _, err := output(ctx, "", "dpkg-deb", "-x", debs[0], filepath.Join(dir, "kernel")); err != nil {
		return "", err
	}
	kernels, err := filepath.Glob(filepath.Join(dir, "kernel", "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return "", fmt.Errorf("%d kernels in %s: %w", len(kernels), debs[0], err)
	}
	return kernels[0], nil
}

// copyModules copies the modules, uncompressed and in the order of insertion.
func copyModules(ctx context.Context, from, to string) error {
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(to, 0o755)); err != nil {
		return err
	}
	for n, name := range modules {
		var found string
		err := filepath.WalkDir(from, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasPrefix(filepath.Base(path), name+".ko") {
				found = path
			}
			return err
		})
		if err != nil {
			return err
		}
		if found == "" {
			return fmt.Errorf("the kernel has no module %s", name)
		}
		target := filepath.Join(to, fmt.Sprintf("%d-%s.ko", n, name))
		switch filepath.Ext(found) {
		case ".xz":
			_, err = output(ctx, "", "sh", "-c", "xz -dc "+found+" >"+target)
		case ".zst":
			_, err = output(ctx, "", "sh", "-c", "zstd -dcq "+found+" >"+target)
		default:
			_, err = output(ctx, "", "cp", found, target)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// boot runs the virtual machine, prints what failed, at the end once more, and reports whether all
// passed.
func boot(ctx context.Context, kernel, initrd string) (ok bool, err error) {
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64", "-m", "1536", "-smp", "2",
		"-nographic", "-no-reboot", "-nic", "none", "-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 oops=panic")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	var failures []string // without the messages of the tests
	finished, passed := false, 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if _, after, found := strings.Cut(line, "\x1b[2J"); found { // the BIOS clears the screen
			line = after
		}
		switch {
		case strings.Contains(line, done):
			finished = true
			continue
		case strings.Contains(line, "SeaBIOS"), strings.Contains(line, "Booting from"):
			continue
		case strings.HasPrefix(line, "PASS"):
			passed++
		case strings.HasPrefix(line, "FAIL"), strings.HasPrefix(line, "--- FAIL"), strings.HasPrefix(line, "panic"),
			strings.Contains(line, failed), strings.Contains(line, "Kernel panic"), strings.HasPrefix(line, "--- SKIP"):
			failures = append(failures, line)
		}
		if !strings.HasPrefix(line, "--- PASS") {
			fmt.Println("   " + line)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return false, err
	}
	if ok = finished && passed == len(packages) && len(failures) == 0; ok {
		return true, nil
	}
	fmt.Printf("   %d of %d packages passed, finished: %v\n", passed, len(packages), finished)
	for _, line := range failures {
		fmt.Println("   failed: " + line)
	}
	return false, nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
