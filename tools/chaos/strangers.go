// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	pinned    = "/sys/fs/bpf/failoverd/"
	renamed   = "away0"
	reloading = "reload"
)

// kind is a kind of step.
type kind struct {
	name   string
	weight int
	// blinds is true if both hosts may answer until the daemon has noticed the step.
	blinds bool
	// do carries the step out, and describes what it has changed.
	do func(context.Context, *arena, step) (string, error)
	// undo undoes the step. It is nil if there is nothing to undo.
	undo func(context.Context, *arena, step) error
}

// kinds lists all kinds of steps.
var kinds = []kind{
	{reloading, 24, true, reloadBoth, nil},
	{"kill -9 and start", 6, false, killAndStart, nil},
	{"kill -9, --cleanup and start", 6, false, killAndClean, nil},
	{"SIGSTOP", 5, false, signal(syscall.SIGSTOP), undoSignal(syscall.SIGCONT)},
	{"ip addr del of a virtual address", 5, false, removeAddress, nil},
	{"ip addr add of a virtual address", 3, true, addAddress, undoAddress},
	{"bpftool link detach", 5, true, detach, nil},
	{"tc qdisc del clsact", 2, true, shell("tc qdisc del dev $eth0 clsact 2>/dev/null; true"), nil},
	{"ip link set xdp off", 3, true, shell("ip link set $eth0 xdp off; ip link set $eth0 xdpgeneric off; true"), nil},
	{"ip link del of a macvlan", 5, false, deleteMacvlan, nil},
	{"interface down", 5, false, shell("ip link set $eth0 down"), upAgain},
	{"rename", 3, false, rename, renameBack},
	{"MTU down", 5, false, shell(fmt.Sprintf("ip link set $eth0 mtu %d", tooLow)), raiseMTU},
	{"sysctl", 3, true, resetSettings, nil},
	{"bpftool map delete", 5, true, deleteEntry, nil},
	{"rm of the journal", 3, false, removeJournal, nil},
	{"full map", 4, false, fillMap, emptyMap},
}

// reloadBoth gives both hosts the setup of the step, one after the other.
func reloadBoth(ctx context.Context, a *arena, s step) (string, error) {
	a.setup = s.setup
	for _, n := range []int{s.host, 1 - s.host} {
		h := a.hosts[n]
		if err := os.WriteFile(h.config, []byte(a.setup.file(n)), 0o644); err != nil {
			return "", err
		}
		if a.hung[n] {
			if err := h.daemon.Signal(syscall.SIGHUP); err != nil {
				return "", err
			}
		} else if err := a.reload(ctx, h); err != nil {
			return "", fmt.Errorf("reload of %s: %w", h.name, err)
		}
	}
	return "", nil
}

// reload reloads a daemon. If it is still starting, reload waits for its control socket.
func (a *arena) reload(ctx context.Context, h *host) error {
	for {
		_, err := a.client(h).Reload(ctx, false)
		if !errors.Is(err, control.ErrNotRunning) {
			return err
		}
		select {
		case <-h.daemon.Done():
			return fmt.Errorf("the daemon has ended: %s", h.daemon.Output())
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func killAndStart(ctx context.Context, a *arena, s step) (string, error) {
	h := a.hosts[s.host]
	if err := h.end(ctx, syscall.SIGKILL); err != nil {
		return "", err
	}
	a.hung[s.host] = false
	if err := lab.Pause(ctx, s.hold); err != nil {
		return "", err
	}
	return "", a.start(h)
}

func killAndClean(ctx context.Context, a *arena, s step) (string, error) {
	h := a.hosts[s.host]
	if err := a.killClean(ctx, h); err != nil {
		return "", err
	}
	if a.depth == 1 {
		if err := a.unchanged(ctx, h); err != nil {
			return "", err
		}
	}
	return "", a.start(h)
}

// killClean kills the daemon and cleans up after it.
func (a *arena) killClean(ctx context.Context, h *host) error {
	if err := h.end(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	a.hung[h.number] = false
	if out, err := h.node.Run(ctx, a.options.binary, "--cleanup"); err != nil {
		return fmt.Errorf("--cleanup on %s: %w: %s", h.name, err, out)
	}
	return nil
}

func signal(sig syscall.Signal) func(context.Context, *arena, step) (string, error) {
	return func(_ context.Context, a *arena, s step) (string, error) {
		a.hung[s.host] = true
		return "", a.hosts[s.host].daemon.Signal(sig)
	}
}

func undoSignal(sig syscall.Signal) func(context.Context, *arena, step) error {
	return func(_ context.Context, a *arena, s step) error {
		a.hung[s.host] = false
		return a.hosts[s.host].daemon.Signal(sig)
	}
}

// shell returns a step that runs a shell command on the host.
func shell(line string) func(context.Context, *arena, step) (string, error) {
	return func(ctx context.Context, a *arena, s step) (string, error) {
		return "", a.run(ctx, s.host, line)
	}
}

// run runs a line of the shell on the host, in which $eth0 is the interface under the name
// that it has at the moment.
func (a *arena) run(ctx context.Context, host int, line string) error {
	const name = "eth0=eth0; ip link show eth0 >/dev/null 2>&1 || eth0=" + renamed + "; "
	_, err := a.hosts[host].node.Run(ctx, "sh", "-c", name+line)
	return err
}

// present lists the virtual addresses that the host has, and those that it doesn't have.
func (a *arena) present(h *host) (here, missing []string, err error) {
	list, err := h.node.Addresses("")
	if err != nil {
		return nil, nil, err
	}
	has := make(map[netip.Addr]bool)
	for _, p := range list {
		has[p.Addr()] = true
	}
	for _, r := range a.setup.routers {
		for _, address := range r.addresses {
			if has[netip.MustParsePrefix(address).Addr()] {
				here = append(here, address)
			} else {
				missing = append(missing, address)
			}
		}
	}
	return here, missing, nil
}

func removeAddress(ctx context.Context, a *arena, s step) (string, error) {
	here, _, err := a.present(a.hosts[s.host])
	if err != nil || len(here) == 0 {
		return "none there", err
	}
	address := here[s.number%len(here)]
	// The address may be on a macvlan, and it may be gone already.
	return address, a.run(ctx, s.host, fmt.Sprintf(`for i in $(ip -o addr show to %s | awk '{print $2}'); do ip addr del %s dev "$i"; done 2>/dev/null; true`, strings.Split(address, "/")[0], address))
}

func addAddress(ctx context.Context, a *arena, s step) (string, error) {
	_, missing, err := a.present(a.hosts[s.host])
	if err != nil || len(missing) == 0 {
		return "all there", err
	}
	a.added = missing[s.number%len(missing)]
	return a.added, a.run(ctx, s.host, fmt.Sprintf("ip addr add %s dev $eth0 2>/dev/null; true", a.added))
}

func undoAddress(ctx context.Context, a *arena, s step) error {
	if a.added == "" {
		return nil
	}
	address := a.added
	a.added = ""
	return a.run(ctx, s.host, fmt.Sprintf("ip addr del %s dev $eth0 2>/dev/null; true", address))
}

func detach(_ context.Context, a *arena, s step) (what string, err error) {
	err = a.hosts[s.host].node.Do(func() error {
		all, err := filepath.Glob(pinned + "links/*/*")
		if err != nil || len(all) == 0 {
			what = "none there"
			return err
		}
		path := all[s.number%len(all)]
		what = strings.TrimPrefix(path, pinned)
		l, err := link.LoadPinnedLink(path, nil)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = l.Detach() // it may be detached already
		return l.Close()
	})
	return what, err
}

func deleteMacvlan(ctx context.Context, a *arena, s step) (string, error) {
	out, err := a.hosts[s.host].node.Run(ctx, "sh", "-c", "ip -br link show type macvlan | cut -d@ -f1")
	all := strings.Fields(out)
	if err != nil || len(all) == 0 {
		return "none there", err
	}
	name := all[s.number%len(all)]
	return name, a.run(ctx, s.host, "ip link del "+name+" 2>/dev/null; true")
}

// upAgain sets the interface up, and adds the IPv6 addresses that the host lost when it was down.
func upAgain(ctx context.Context, a *arena, s step) error {
	return a.run(ctx, s.host, "ip link set $eth0 up; "+a.hosts[s.host].readdress())
}

func rename(ctx context.Context, a *arena, s step) (string, error) {
	return "", a.run(ctx, s.host, "ip link set eth0 name "+renamed)
}

func renameBack(ctx context.Context, a *arena, s step) error {
	return a.run(ctx, s.host, "ip link set "+renamed+" name eth0; true")
}

func raiseMTU(ctx context.Context, a *arena, s step) error {
	return a.run(ctx, s.host, "ip link set $eth0 mtu 1500; "+a.hosts[s.host].readdress())
}

// readdress returns a shell command that adds the host's own IPv6 addresses. It does nothing
// while the MTU is too low for IPv6; the step that raises the MTU adds them then.
func (h *host) readdress() string {
	var b strings.Builder
	for _, address := range lab.Addresses(h.number + 1)[1:] {
		fmt.Fprintf(&b, "[ $(cat /sys/class/net/$eth0/mtu) -lt 1280 ] || ip addr replace %s dev $eth0; ", address)
	}
	return b.String()
}

// resetSettings sets the sysctls of the host's interfaces to the kernel's defaults.
func resetSettings(ctx context.Context, a *arena, s step) (string, error) {
	return "", a.run(ctx, s.host, `for i in /proc/sys/net/ipv4/conf/*; do case $i in */all|*/default|*/lo) continue;; esac
for k in arp_announce arp_ignore arp_filter rp_filter accept_local promote_secondaries; do echo 0 >$i/$k; done; done 2>/dev/null; true`)
}

func deleteEntry(_ context.Context, a *arena, s step) (what string, err error) {
	err = a.hosts[s.host].node.Do(func() error {
		all, err := filepath.Glob(pinned + "maps/*")
		if err != nil {
			return err
		}
		what = "none there"
		for n := range all {
			path := all[(s.number+n)%len(all)]
			m, err := ebpf.LoadPinnedMap(path, nil)
			if err != nil {
				continue // it has gone
			}
			key, err := m.NextKeyBytes(nil)
			if t := m.Type(); (t == ebpf.Hash || t == ebpf.LRUHash) && err == nil && key != nil {
				for range s.number / 7 % 4 {
					if next, err := m.NextKeyBytes(key); err == nil && next != nil {
						key = next
					}
				}
				what = fmt.Sprintf("%s of %s", bytesOf(key), filepath.Base(path))
				_ = m.Delete(key) // it may be gone already
				return m.Close()
			}
			_ = m.Close()
		}
		return nil
	})
	return what, err
}

func bytesOf(b []byte) string { return fmt.Sprintf("% x", bytes.TrimRight(b, "\x00")) }

// removeJournal removes the journal and waits until the daemon has written it again. If the
// daemon were killed before that, nothing would know what to undo.
func removeJournal(ctx context.Context, a *arena, s step) (string, error) {
	h := a.hosts[s.host]
	if a.hung[s.host] {
		return "not while the daemon hangs", nil
	}
	journals := func() (all []string, err error) {
		err = h.node.Do(func() (err error) {
			all, err = filepath.Glob("/run/failoverd/[0-9]*.json")
			return err
		})
		return all, err
	}
	before, err := journals()
	if err != nil || len(before) == 0 {
		return "none there", err
	}
	if err := h.node.Do(func() error { return os.Remove(before[0]) }); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for end := time.Now().Add(patience); ; {
		now, err := journals()
		if err != nil || len(now) > 0 {
			return before[0], err
		}
		if time.Now().After(end) {
			return before[0], fmt.Errorf("%s has not written its journal again", h.name)
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// addressMap opens the map of the virtual addresses. It returns nil if there is none.
func addressMap() (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(pinned+"maps/failover_address", nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

// stranger is the first interface index of the keys that fillMap adds. No interface has it.
const stranger = uint32(1 << 31)

// fillMap fills the map of the virtual addresses.
func fillMap(_ context.Context, a *arena, s step) (what string, err error) {
	err = a.hosts[s.host].node.Do(func() error {
		m, err := addressMap()
		if m == nil {
			what = "none there"
			return err
		}
		key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
		n := uint32(0)
		for ; ; n++ {
			binary.NativeEndian.PutUint32(key, stranger+n)
			if m.Put(key, value) != nil {
				break
			}
		}
		what = fmt.Sprintf("%d entries", n)
		return m.Close()
	})
	return what, err
}

func emptyMap(_ context.Context, a *arena, s step) error {
	return a.hosts[s.host].node.Do(func() error {
		m, err := addressMap()
		if m == nil {
			return err // the daemon that had the map was killed
		}
		key := make([]byte, m.KeySize())
		for n := range m.MaxEntries() {
			binary.NativeEndian.PutUint32(key, stranger+n)
			if err := m.Delete(key); err != nil {
				break // all are deleted
			}
		}
		return m.Close()
	})
}

// client returns a client of the control socket of a host.
func (a *arena) client(h *host) *control.Client {
	return control.NewClient(fmt.Sprintf("/proc/%d/root%s", h.daemon.PID(), control.DefaultPath))
}
