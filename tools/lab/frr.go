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
	// VRRPD is the path of vrrpd in Debian's FRR.
	VRRPD = frrPrograms + "vrrpd"

	frrPrograms = "/usr/lib/frr/"
	frrShell    = "vtysh"
	frrDir      = "/run/frr" // each node has a /run of its own
)

// FRRConfig is the configuration of one virtual router of FRR. Settings that it doesn't have
// stay at FRR's defaults.
type FRRConfig struct {
	Interface string
	Version   int // 2 or 3
	VRID      int
	Priority  int
	Interval  time.Duration
	NoPreempt bool
	Addresses []string // with prefix lengths, of one family
	// LinkLocal is the source address over IPv6, with its prefix length. FRR takes it from
	// the macvlan device.
	LinkLocal string
}

// String renders the configuration in FRR's language.
func (c FRRConfig) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "interface %s\n", c.Interface)
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

// mac returns the Virtual Router MAC address (RFC 9568 §7.3).
func (c FRRConfig) mac() net.HardwareAddr {
	family := byte(1)
	if c.ipv6() {
		family = 2
	}
	return net.HardwareAddr{0, 0, 0x5e, 0, family, byte(c.VRID)}
}

// FRR is FRR's vrrpd on a node, with the zebra that vrrpd needs.
type FRR struct {
	node    *Node
	dir     string // with the programs
	shell   string // the path of vtysh
	configs []FRRConfig
	toFile  bool // the logs go to files in memory
	zebra   *Process
	vrrpd   *Process
}

// FRR starts Debian's zebra and vrrpd on the node, with the macvlan devices that carry the
// virtual MACs and the addresses, as FRR's manual demands. It returns when all virtual
// routers are Backup. With an error it returns the FRR too, for its Output.
func (n *Node) FRR(ctx context.Context, configs ...FRRConfig) (*FRR, error) {
	return (&FRR{node: n, configs: configs, dir: frrPrograms, shell: frrShell}).run(ctx)
}

// FRRFrom is like FRR, with the zebra, vrrpd and vtysh of a directory.
func (n *Node) FRRFrom(ctx context.Context, dir string, configs ...FRRConfig) (*FRR, error) {
	return (&FRR{node: n, configs: configs, dir: dir, shell: filepath.Join(dir, frrShell)}).run(ctx)
}

func (f *FRR) run(ctx context.Context) (*FRR, error) {
	if err := f.startAll(ctx); err != nil {
		return f, err
	}
	left := len(f.configs)
	_, err := f.vrrpd.WaitLine(ctx, 0, func(l string) bool {
		if strings.Contains(l, "Initialize -> Backup") {
			left--
		}
		return left == 0
	})
	return f, err
}

// FRRToFile starts zebra and vrrpd like FRR, but as StartToFile does: the logs go to files
// in memory. It returns when vrrpd runs, because no log tells when it is Backup.
func (n *Node) FRRToFile(ctx context.Context, configs ...FRRConfig) (*FRR, error) {
	f := &FRR{node: n, configs: configs, dir: frrPrograms, shell: frrShell, toFile: true}
	return f, f.startAll(ctx)
}

func (f *FRR) startAll(ctx context.Context) error {
	if err := f.node.Do(f.prepare); err != nil {
		return fmt.Errorf("FRR on %s: %w", f.node.Name, err)
	}
	for _, c := range f.configs {
		if err := f.addDevice(c); err != nil {
			return fmt.Errorf("FRR on %s: %w", f.node.Name, err)
		}
	}
	var err error
	if f.zebra, err = f.start("zebra"); err != nil {
		return err
	}
	if err := f.waitFile(ctx, f.zebra, frrDir+"/zserv.api"); err != nil {
		return err
	}
	f.vrrpd, err = f.start("vrrpd")
	return err
}

// prepare makes the directories and configurations. The node gets a /var/tmp of its own,
// because FRR's programs keep crash files there, named by process IDs that nodes share.
func (f *FRR) prepare() error {
	if err := unix.Mount("tmpfs", "/var/tmp", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /var/tmp: %w", err)
	}
	frr, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("%w; install the package frr", err)
	}
	var text strings.Builder
	if !f.toFile {
		text.WriteString("debug vrrp protocol\n") // FRR waits for these lines
	}
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

// addDevice adds the macvlan device. The kernel gives it no link-local address, because that
// would be made of the virtual MAC and so be the same on all hosts.
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
	start := f.node.Start
	if f.toFile {
		start = f.node.StartToFile
	}
	return start(filepath.Join(f.dir, program), "--log", "stdout", "-P", "0",
		"-f", frrDir+"/"+program+".conf", "-i", frrDir+"/"+program+".pid", "-z", frrDir+"/zserv.api", "--vty_socket", frrDir)
}

// waitFile waits until the program has made a socket.
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
			return fmt.Errorf("%s didn't make %s: %w; it wrote:\n%s", p.cmd.Path, path, ctx.Err(), p.Output())
		}
	}
}

// Command gives commands in FRR's language to vrrpd and returns the output.
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

// Output returns the output of zebra and vrrpd.
func (f *FRR) Output() string {
	text := ""
	for _, p := range []*Process{f.zebra, f.vrrpd} {
		if p != nil {
			text += p.Output()
		}
	}
	return text
}

// VRRPD returns the process of vrrpd.
func (f *FRR) VRRPD() *Process { return f.vrrpd }

// StartAgain starts vrrpd again after it has ended, beside the same zebra.
func (f *FRR) StartAgain() (err error) {
	f.vrrpd, err = f.start("vrrpd")
	return err
}

// Stop sends SIGTERM to vrrpd and waits for the exit code.
func (f *FRR) Stop(ctx context.Context) (int, error) { return f.vrrpd.Stop(ctx) }
