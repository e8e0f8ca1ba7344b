// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// VRRPD is where Debian's FRR has its vrrpd.
	VRRPD = frrPrograms + "vrrpd"

	frrPrograms = "/usr/lib/frr/"
	frrShell    = "vtysh"
	frrDir      = "/run/frr" // of the node, as is all of /run
)

// FRRConfig is one virtual router of FRR, otherwise on its default settings.
type FRRConfig struct {
	Interface string
	Version   int // 2 or 3
	VRID      int
	Priority  int
	Interval  time.Duration
	NoPreempt bool
	Addresses []string // with prefix lengths, of one family
	// LinkLocal is the source address over IPv6, with its prefix length: FRR
	// takes it from the macvlan device.
	LinkLocal string
}

// String renders the configuration in FRR's language.
func (c FRRConfig) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "debug vrrp protocol\ninterface %s\n", c.Interface)
	fmt.Fprintf(&b, " vrrp %d version %d\n vrrp %d priority %d\n", c.VRID, c.Version, c.VRID, c.Priority)
	fmt.Fprintf(&b, " vrrp %d advertisement-interval %d\n", c.VRID, c.Interval.Milliseconds())
	if c.NoPreempt {
		fmt.Fprintf(&b, " no vrrp %d preempt\n", c.VRID)
	}
	for _, a := range c.Addresses {
		address, _, _ := strings.Cut(a, "/")
		fmt.Fprintf(&b, " vrrp %d %s %s\n", c.VRID, c.keyword(), address)
	}
	return b.String()
}

func (c FRRConfig) ipv6() bool {
	return len(c.Addresses) > 0 && strings.Contains(c.Addresses[0], ":")
}

func (c FRRConfig) keyword() string {
	if c.ipv6() {
		return "ipv6"
	}
	return "ip"
}

// mac is the virtual router's (RFC 9568 §7.3).
func (c FRRConfig) mac() net.HardwareAddr {
	family := byte(1)
	if c.ipv6() {
		family = 2
	}
	return net.HardwareAddr{0, 0, 0x5e, 0, family, byte(c.VRID)}
}

// FRR is FRR's vrrpd with the zebra that it needs, on a node.
type FRR struct {
	node    *Node
	dir     string // with the programs
	shell   string // the path of vtysh
	configs []FRRConfig
	zebra   *Process
	vrrpd   *Process
}

// FRR starts Debian's zebra and vrrpd on the node, with the macvlan devices that
// carry the virtual MACs and the addresses, as FRR's manual says. It returns
// when vrrpd is Backup of all, even with an error as far as it got.
func (n *Node) FRR(ctx context.Context, configs ...FRRConfig) (*FRR, error) {
	return (&FRR{node: n, configs: configs, dir: frrPrograms, shell: frrShell}).run(ctx)
}

// FRRFrom is FRR with the zebra, vrrpd and vtysh of a directory.
func (n *Node) FRRFrom(ctx context.Context, dir string, configs ...FRRConfig) (*FRR, error) {
	return (&FRR{node: n, configs: configs, dir: dir, shell: filepath.Join(dir, frrShell)}).run(ctx)
}

func (f *FRR) run(ctx context.Context) (*FRR, error) {
	n, configs := f.node, f.configs
	if err := n.Do(f.prepare); err != nil {
		return f, fmt.Errorf("FRR on %s: %w", n.Name, err)
	}
	for _, c := range configs {
		if err := f.addDevice(c); err != nil {
			return f, fmt.Errorf("FRR on %s: %w", n.Name, err)
		}
	}
	var err error
	if f.zebra, err = f.start("zebra"); err != nil {
		return f, err
	}
	if err := f.waitFile(ctx, f.zebra, frrDir+"/zserv.api"); err != nil {
		return f, err
	}
	if f.vrrpd, err = f.start("vrrpd"); err != nil {
		return f, err
	}
	left := len(configs)
	_, err = f.vrrpd.WaitLine(ctx, 0, func(l string) bool {
		if strings.Contains(l, "Initialize -> Backup") {
			left--
		}
		return left == 0
	})
	return f, err
}

// prepare makes the directories and configurations. FRR's programs keep files
// for the case of a crash in /var/tmp, named by their number in the process
// namespace, so it must be the node's own.
func (f *FRR) prepare() error {
	if err := unix.Mount("tmpfs", "/var/tmp", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /var/tmp: %w", err)
	}
	frr, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("its package isn't installed: %w", err)
	}
	var text strings.Builder
	for _, c := range f.configs {
		text.WriteString(c.String())
	}
	uid, err := strconv.Atoi(frr.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(frr.Gid)
	if err != nil {
		return err
	}
	return errors.Join(
		os.Mkdir(frrDir, 0o755),
		os.WriteFile(frrDir+"/zebra.conf", nil, 0o644),
		os.WriteFile(frrDir+"/vrrpd.conf", []byte(text.String()), 0o644),
		os.Chown(frrDir, uid, gid),
		os.Chmod("/var/tmp", 0o1777),
	)
}

// addDevice adds the macvlan device. It has no address of its own making: one
// made of the virtual MAC would be the same on all routers.
func (f *FRR) addDevice(c FRRConfig) error {
	base, err := f.node.link(c.Interface)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("vrrp%d-%d", base.Attrs().Index, c.VRID)
	if err := f.node.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1"); err != nil {
		return err
	}
	device := &netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: base.Attrs().Index, HardwareAddr: c.mac()},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	}
	if err := f.node.netlink.LinkAdd(device); err != nil {
		return fmt.Errorf("add macvlan device: %w", err)
	}
	addresses := c.Addresses
	if c.ipv6() {
		// FRR sends from the link-local address that was added last.
		addresses = append(slices.Clone(addresses), c.LinkLocal)
	}
	for _, a := range addresses {
		if err := f.node.AddAddress(name, a); err != nil {
			return fmt.Errorf("add %s to the macvlan device: %w", a, err)
		}
	}
	return f.node.SetUp(name)
}

func (f *FRR) start(program string) (*Process, error) {
	return f.node.Start(filepath.Join(f.dir, program), "--log", "stdout", "-P", "0",
		"-f", frrDir+"/"+program+".conf", "-i", frrDir+"/"+program+".pid", "-z", frrDir+"/zserv.api", "--vty_socket", frrDir)
}

// waitFile waits for a socket that the program makes.
func (f *FRR) waitFile(ctx context.Context, p *Process, path string) error {
	for {
		err := f.node.Do(func() error {
			_, err := os.Stat(path)
			return err
		})
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.Done():
			return fmt.Errorf("%s ended; it wrote:\n%s", p.cmd.Path, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("%s has not made %s: %w; it wrote:\n%s", p.cmd.Path, path, ctx.Err(), p.Output())
		}
	}
}

// Command gives vrrpd commands in FRR's language and returns what it prints.
func (f *FRR) Command(ctx context.Context, commands ...string) (string, error) {
	args := []string{"--vty_socket", frrDir, "-d", "vrrpd"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return f.node.Run(ctx, f.shell, args...)
}

// SetInterval changes the advertisement interval of the first virtual router.
func (f *FRR) SetInterval(ctx context.Context, interval time.Duration) error {
	_, err := f.Command(ctx, "configure terminal", "interface "+f.configs[0].Interface,
		fmt.Sprintf("vrrp %d advertisement-interval %d", f.configs[0].VRID, interval.Milliseconds()))
	return err
}

// Output returns what zebra and vrrpd have written.
func (f *FRR) Output() string {
	text := ""
	for _, p := range []*Process{f.zebra, f.vrrpd} {
		if p != nil {
			text += p.Output()
		}
	}
	return text
}

// VRRPD is the process of vrrpd.
func (f *FRR) VRRPD() *Process { return f.vrrpd }

// Stop asks vrrpd to end and waits for its exit code.
func (f *FRR) Stop(ctx context.Context) (int, error) { return f.vrrpd.Stop(ctx) }
