// SPDX-License-Identifier: Apache-2.0

// Package e2e has the end-to-end tests: failoverd and failoverctl as they are shipped, on hosts in
// network namespaces, beside keepalived and FRR.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noBPF is the argument that makes the test binary run the rest of its arguments as a program on a
// kernel without bpf(2).
const noBPF = "no-bpf"

// programs is the directory of the programs under test. TestMain builds them.
var programs string

func failoverd() string   { return filepath.Join(programs, "failoverd") }
func failoverctl() string { return filepath.Join(programs, "failoverctl") }

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == noBPF {
		fmt.Fprintln(os.Stderr, runWithoutBPF(os.Args[2:]))
		os.Exit(99)
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	if signal.Ignored(syscall.SIGHUP) { // it is below nohup: the daemons would inherit that
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	if programs, err = os.MkdirTemp("", "failoverd-e2e-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	build := exec.Command("go", "build", "-trimpath", "-o", programs+"/", "../../cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build has it
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the programs under test: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// withoutBPF returns the beginning of a command line that runs a program as on a kernel without
// bpf(2).
func withoutBPF(t *testing.T) []string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{path, noBPF}
}

// runWithoutBPF replaces this process with the program, for which bpf(2) fails.
func runWithoutBPF(command []string) error {
	if err := forbidBPF(); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", command[0], syscall.Exec(command[0], command, os.Environ()))
}

// forbidBPF makes bpf(2) fail in this process, as on a kernel that was built without it.
func forbidBPF() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the system call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.ENOSYS)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                       // SECCOMP_RET_ALLOW
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const setModeFilter, threadSync = 1, 1
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, threadSync, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}
