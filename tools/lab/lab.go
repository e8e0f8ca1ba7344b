// SPDX-License-Identifier: Apache-2.0

// Package lab lays out LANs in network namespaces: hosts, switches between them, and captures
// and clients that observe the wire. The demo, the end-to-end tests and the benchmarks share it.
//
// A host is a network, a mount and a PID namespace, which have no name in the file system. One
// process keeps them. The kernel kills that process when the program that made the lab ends, so
// nothing is left behind, not even after kill -9.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Lab is a set of nodes.
type Lab struct {
	mu     sync.Mutex
	nodes  []*Node
	closed bool
	forker *thread
}

// New returns an empty lab. It needs root.
func New() (*Lab, error) {
	if err := needsRoot(); err != nil {
		return nil, err
	}
	// The kernel sends the parent-death signal when the thread that made the child ends. So
	// the thread lives as long as the lab.
	return &Lab{forker: newThread()}, nil
}

// TB has the methods of testing.TB that ForTest needs.
type TB interface {
	Helper()
	Cleanup(func())
	TempDir() string
	Error(...any)
	Fatal(...any)
}

// ForTest returns an empty lab that is closed at the end of the test.
func ForTest(t TB) *Lab {
	t.Helper()
	// The first call of TempDir registers the removal of the test's directories. Cleanups run
	// in reverse order, so the lab's processes end before their directories are removed.
	_ = t.TempDir()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Close kills all processes of the lab and waits until its namespaces are empty.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	for _, n := range l.nodes {
		errs = append(errs, n.close())
	}
	l.forker.stop()
	errs = append(errs, l.waitGone())
	for _, n := range l.nodes {
		if n.keep != nil {
			errs = append(errs, n.keep.Close())
		}
	}
	return errors.Join(errs...)
}

// waitGone waits until no thread of any process is in the lab's network namespaces.
func (l *Lab) waitGone() error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
		if err != nil {
			return err
		}
		var left []string
		for _, task := range tasks {
			ns, err := os.Readlink(task)
			if err != nil {
				continue // the thread has just ended
			}
			for _, n := range l.nodes {
				if n.namespace == ns {
					left = append(left, fmt.Sprintf("%s is in %s of node %s", task, ns, n.Name))
				}
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
		}
	}
}

// Node is a host.
type Node struct {
	Name      string
	namespace string   // network namespace, as in /proc
	keep      *os.File // holds the namespace, so that the kernel reuses its number for no other
	holder    *exec.Cmd
	thread    *thread
	netlink   *netlink.Handle

	mu        sync.Mutex
	processes []*Process
}

// Node adds a host without interfaces.
func (l *Lab) Node(name string) (*Node, error) {
	n := &Node{Name: name}
	if err := l.forker.do(n.hold); err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	n.thread = newThread()
	l.mu.Lock()
	l.nodes = append(l.nodes, n)
	l.mu.Unlock()
	if err := n.Do(n.enter); err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return n, nil
}

// Host adds a node whose interfaces get no link-local address from the kernel.
func (l *Lab) Host(name string) (*Node, error) {
	n, err := l.Node(name)
	if err != nil {
		return nil, err
	}
	return n, n.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1")
}

// hold starts the process that keeps the namespaces. It is the first process of its PID
// namespace: the kernel kills all others when it ends.
func (n *Node) hold() error {
	n.holder = exec.Command("sleep", "infinity")
	n.holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	return n.holder.Start()
}

// enter moves the node's thread into its namespaces and prepares them.
func (n *Node) enter() error {
	// A thread that shares its file system context (CLONE_FS) can't change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	for _, ns := range []struct {
		name string
		flag int
	}{{"mnt", unix.CLONE_NEWNS}, {"net", unix.CLONE_NEWNET}, {"pid", unix.CLONE_NEWPID}} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", n.holder.Process.Pid, ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s namespace: %w", ns.name, err)
		}
		err = unix.Setns(fd, ns.flag)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("enter %s namespace: %w", ns.name, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ kind, at string }{{"sysfs", "/sys"}, {"bpf", "/sys/fs/bpf"}, {"tmpfs", "/run"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	// Duplicate address detection delays each IPv6 address by a second or two.
	for _, s := range []string{"default", "all"} {
		if err := n.sysctl("net/ipv6/conf/"+s+"/accept_dad", "0"); err != nil {
			return err
		}
	}
	var err error
	if n.namespace, err = os.Readlink("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if n.keep, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if n.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	lo, err := n.netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return n.netlink.LinkSetUp(lo)
}

func (n *Node) sysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
		return fmt.Errorf("sysctl %s: %w", key, err)
	}
	return nil
}

// Sysctl sets a variable of the node's network, like net.ipv4.ip_forward.
func (n *Node) Sysctl(key, value string) error {
	return n.Do(func() error { return n.sysctl(strings.ReplaceAll(key, ".", "/"), value) })
}

// Do runs f on a thread that is in the node's namespaces. Sockets that f opens and processes
// that it starts belong to the node.
func (n *Node) Do(f func() error) error { return n.thread.do(f) }

// Netlink returns a handle of the node's network.
func (n *Node) Netlink() *netlink.Handle { return n.netlink }

// PowerCut kills all processes of the node, so the files in its /run are gone. Its interfaces
// stay until their ports are disconnected. To start the host again, add a new node.
func (n *Node) PowerCut() error {
	if err := n.holder.Process.Kill(); err != nil {
		return fmt.Errorf("cut the power of %s: %w", n.Name, err)
	}
	_ = n.holder.Wait() // it was killed
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.processes {
		<-p.done // killed with the first process of their namespace
	}
	return nil
}

func (n *Node) close() error {
	var errs []error
	if n.netlink != nil {
		n.netlink.Close()
	}
	if err := n.holder.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, fmt.Errorf("node %s: %w", n.Name, err))
	}
	_ = n.holder.Wait() // it was killed
	n.mu.Lock()
	processes := n.processes
	n.mu.Unlock()
	for _, p := range processes {
		<-p.done // killed with the first process of their namespace
		if p.file != nil {
			errs = append(errs, p.file.Close())
		}
	}
	n.thread.stop()
	return errors.Join(errs...)
}

// thread runs functions, one at a time, on one OS thread.
type thread struct {
	work chan func()
	done chan struct{}
}

func newThread() *thread {
	t := &thread{work: make(chan func()), done: make(chan struct{})}
	go t.run()
	return t
}

func (t *thread) run() {
	// The thread is never unlocked, so it ends with this function. Only the main thread of the
	// process can't end, so it isn't used.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go t.run() // on another thread, because this one is locked
		<-t.done
		runtime.UnlockOSThread()
		return
	}
	defer close(t.done)
	for f := range t.work {
		f()
	}
}

func (t *thread) do(f func() error) error {
	result := make(chan error, 1)
	t.work <- func() { result <- f() }
	return <-result
}

func (t *thread) stop() {
	close(t.work)
	<-t.done
}
