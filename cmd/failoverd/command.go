// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/failoverd/failoverd/cmd/internal/cli"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/daemon"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/manual"
	"github.com/failoverd/failoverd/pkg/migrate"
	"github.com/failoverd/failoverd/pkg/vrrp"
	"github.com/failoverd/failoverd/pkg/watch"
)

const help = `failoverd keeps a virtual IP address alive when a host dies: the hosts that share
the address elect one that has it (VRRP, RFC 9568), and another takes over when
that one has been silent for three to four advertisement intervals.

Run it on two or more hosts of a network, each with a priority of its own. The one
with the highest priority has the address while it lives. What it runs is in a file,
/etc/failoverd/failoverd.yaml, or with --vip on the command line.

With --iface alone it takes part as what the file has for that interface. Where there is
nothing for it, failoverd only watches: it takes no part, shows every virtual router heard
on the interface, and prints the command that would back it up. A file that has only
comments counts as none.`

const examples = `  # take part as what the file has for eth0; without that see what is there
  sudo failoverd --iface eth0

  # run what is in /etc/failoverd/failoverd.yaml; SIGHUP reads it again
  sudo failoverd

  # run keepalived's file as it is
  sudo failoverd --config /etc/keepalived/keepalived.conf

  # have 192.0.2.10 on this host, or stand by for it
  sudo failoverd --iface eth0 --vip 192.0.2.10/24 --vrid 51 --priority 100

  # IPv4 and IPv6, a tenth of a second between advertisements
  sudo failoverd --iface eth0 --vip 192.0.2.10/24 --vip 2001:db8::10/64 \
      --interval 100ms

  # remove what a killed run left behind
  sudo failoverd --cleanup`

// usageError is an error in what was asked for: nothing was tried.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

type options struct {
	config     string
	watch      bool
	interfaces []string
	addresses  []string
	vrid       int
	priority   int
	interval   string
	most       time.Duration
	version    int
	noPreempt  bool
	checksum   string
	dual       bool
	tolerate   []string
	peers      []string
	sources    []string
	virtualMAC string
	accept     bool
	repeat     time.Duration
	delay      time.Duration
	xdpMode    string
	logFormat  string
	logLevel   string
	metrics    string
	compat     string
	cleanup    bool
	teller     teller
}

func command(stdout, stderr io.Writer) *cobra.Command {
	var o options
	var about versionFlag
	cmd := &cobra.Command{
		Use:           "failoverd [--config FILE] [--iface NAME [--vip ADDRESS]...] [flags]",
		Short:         "Keep a virtual IP address alive when a host dies (VRRP)",
		Long:          help + "\n\n" + manual.ExitHelp(exits),
		Example:       examples,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(c *cobra.Command, args []string) error {
			if about.takes(args) || len(args) == 0 {
				return nil
			}
			return &usageError{errors.New(stray(args[0], c.Flags()))}
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if about.asked {
				return printVersion(stdout)
			}
			return o.run(cmd.Context(), cmd.Flags(), stdout, stderr)
		},
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)

	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.config, "config", config.DefaultPath, "configuration `file`, YAML or JSON, or keepalived's or the Rust failover's; not used with --vip")
	f.StringArrayVar(&o.interfaces, "iface", nil, "network `interface` to run on, of those in the file or with --vip; may be repeated")
	f.BoolVar(&o.watch, "watch", false, "watch the interfaces, also if something is configured for them")
	f.StringArrayVar(&o.addresses, "vip", nil, "virtual `address` with its prefix length, like 192.0.2.10/24; may be repeated; with several interfaces each goes where its network is")
	f.IntVar(&o.vrid, "vrid", config.DefaultVRID, "virtual router `ID`, 1 to 255, the same on all hosts that share the addresses")
	f.IntVar(&o.priority, "priority", config.DefaultPriority, "`priority`, 1 to 254: the highest has the addresses; 255 is for the host that owns them as its own")
	f.StringVar(&o.interval, "interval", config.DefaultInterval.String(), "`time` between advertisements: 10ms to 40.95s in version 3, whole seconds in version 2; a take-over takes three of them and up to one more, the less the higher the priority")
	f.DurationVar(&o.most, "max-interval", 0, "the longest `time` between advertisements that is learnt of another host that has the addresses, not below --interval: three of it and up to one more is how long a forged or a slow one can hold this host off; 0 for any, up to 40.95s")
	f.IntVar(&o.version, "vrrp-version", config.DefaultVersion, "VRRP `version`: 3 (RFC 9568, IPv4 and IPv6) or 2 (RFC 3768, IPv4 only)")
	f.BoolVar(&o.noPreempt, "no-preempt", false, "don't take the addresses from a host of lower priority that has them")
	f.DurationVar(&o.delay, "preempt-delay", 0, "`time` to let a host of lower priority have the addresses before they are taken from it, up to 1000s")
	f.StringVar(&o.checksum, "checksum", vrrp.ChecksumAuto.String(), "checksum `form` of version 3 over IPv4: auto (accept both, answer in the peers'), rfc9568, or rfc5798")
	f.BoolVar(&o.dual, "dual", false, "speak version 2 beside version 3 over IPv4, while the hosts that share the addresses are moved from one to the other")
	f.StringSliceVar(&o.tolerate, "tolerate", nil, "accept what the RFCs have refused: `what` is trailing-octets (behind the message), first-address (of an IPv6 list, not link-local), address-list (another one, in version 2)")
	f.StringArrayVar(&o.peers, "peer", nil, "`address` of another host to advertise to, instead of to the group, where there is no multicast; nobody else is heard then; may be repeated")
	f.StringArrayVar(&o.sources, "source", nil, "`address` of this host to advertise from to the peers, instead of the interface's primary one; may be repeated for the other family")
	f.StringVar(&o.virtualMAC, "virtual-mac", string(config.VirtualMACAuto), "have the addresses at the virtual MAC 00:00:5e:00:01:VRID (IPv6 02), which moves with them, in this `mode`: auto, bpf (by TC programs), macvlan (by a device for the addresses, made and removed by failoverd; auto takes it where TC programs can't be attached, and neither with --peer), or off (the interface's own MAC)")
	f.BoolVar(&o.accept, "accept", true, "accept packets to the virtual addresses (Accept_Mode); =false forwards for hosts that use them as their gateway, and answers ARP and neighbour discovery only")
	f.DurationVar(&o.repeat, "announce-again", config.DefaultRepeat, "`time` after a take-over at which the addresses are announced once more by gratuitous ARP and neighbour advertisements, 0 for not at all")
	f.StringVar(&o.xdpMode, "xdp-mode", string(datapath.ModeAuto), "where to receive, a `mode`: auto, native, generic (XDP in the driver or behind it), tc (a TC program), or off (AF_PACKET socket)")
	f.StringVar(&o.logFormat, "log-format", formAuto, "log in this `form` on standard error: terminal (lines for people), text (key=value), json, journal (records of systemd's journal with fields), or auto: what standard error is")
	f.StringVar(&o.logLevel, "log-level", "info", "log from this `level` on: error, warning, info, debug")
	f.StringVar(&o.metrics, "metrics", config.Off, "serve metrics for Prometheus at an `address` like 127.0.0.1:9650, under /metrics")
	f.StringVar(&o.compat, "metrics-compat", config.Off, "give metrics beside failoverd's by the names of another `program` too: keepalived (those of its Prometheus exporter)")
	f.BoolVar(&o.cleanup, "cleanup", false, "remove what a killed run left behind, and end")
	about.flags = f
	f.VarPF(&about, "version", "V", "print the version of failoverd, and end").NoOptDefVal = "true"

	cmd.AddCommand(&cobra.Command{
		Use:   "version",
		Short: "Print the version of failoverd",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return printVersion(stdout) },
	})
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	if err := complete(cmd); err != nil {
		panic(err) // no such flag
	}
	cli.Explain(cmd, instead, func(err error) error { return &usageError{err} })
	return cmd
}

func (o *options) run(ctx context.Context, flags *pflag.FlagSet, stdout, stderr io.Writer) error {
	lines := newLogWriter(stderr)
	defer lines.flush()
	log, err := o.logger(lines)
	if err != nil {
		return &usageError{err}
	}
	if o.cleanup {
		// What it has begun it ends: that takes no time.
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		removed, living, err := daemon.Cleanup(daemon.Config{BPFDir: daemon.DefaultBPFDir, RunDir: daemon.DefaultRunDir})
		for _, r := range removed {
			fmt.Fprintln(stdout, "removed", r)
		}
		for _, pid := range living {
			fmt.Fprintf(stdout, "kept what process %d uses: failoverd runs there\n", pid)
		}
		if err == nil && len(removed) == 0 {
			fmt.Fprintln(stdout, "nothing was left behind")
		}
		return err
	}
	mode, err := datapath.ParseMode(o.xdpMode)
	if err != nil {
		return &usageError{fmt.Errorf("--xdp-mode: %w", err)}
	}
	if err := config.CheckMetrics(o.metrics); err != nil {
		return &usageError{err}
	}
	if err := config.CheckMetricsCompat(o.compat); err != nil {
		return &usageError{fmt.Errorf("--metrics-compat: %w", err)}
	}
	if len(o.addresses) > 0 {
		if flags.Changed("config") {
			return &usageError{errors.New("--config and --vip: what runs is either in a file or on the command line")}
		}
		if len(o.interfaces) == 0 {
			return &usageError{errors.New("no interface: give one with --iface; see failoverd --help")}
		}
		routers, err := o.routers()
		if err != nil {
			return &usageError{err}
		}
		file := &config.File{Routers: routers, Global: config.Global{LogLevel: o.logLevel, Metrics: o.metrics, MetricsCompat: o.compat, Realtime: config.RealtimeAuto}}
		ctx, hurry := until(ctx, stopSignals(true)...)
		return o.runDaemon(ctx, log, hurry, nil, "", routers, func() (*config.File, error) { return file, nil })
	}
	for _, name := range []string{"vrid", "priority", "interval", "max-interval", "vrrp-version", "no-preempt", "preempt-delay", "checksum", "dual", "tolerate", "peer", "source", "virtual-mac", "accept", "announce-again"} {
		if flags.Changed(name) {
			return &usageError{fmt.Errorf("--%s without a virtual address: add --vip to take part, or leave it away", name)}
		}
	}
	terminal := stopSignals(true)
	watching := func(running string) error {
		ctx, _ := until(ctx, terminal...)
		return watch.Run(ctx, watch.Config{Interfaces: o.interfaces, XDPMode: mode, Running: running}, stdout, log)
	}
	if o.watch {
		if len(o.interfaces) == 0 {
			return &usageError{errors.New("no interface to watch: give one with --iface")}
		}
		return watching("")
	}
	ctx, hurry := until(ctx, stopSignals(false)...)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // one that comes during the start is obeyed after it
	f, err := o.find(flags.Changed("config"))
	switch {
	case err != nil:
		return err
	case f != nil:
		return o.runFile(ctx, flags, lines, f, hurry, hangup)
	case len(o.interfaces) == 0:
		return &usageError{fmt.Errorf("nothing to run: nothing is configured in %s; describe a router there, or give --iface and --vip; see failoverd --help", o.config)}
	}
	return watching("nothing is configured for " + strings.Join(o.interfaces, ", ") + ": watching")
}

// find returns what the configuration file has for the interfaces, if any are given: nil if
// that is nothing. Without a file of ours it is the Rust failover's. A file that was asked
// for has to be there and to have something for each interface.
func (o *options) find(required bool) (*config.File, error) {
	if required {
		return o.load(nil)
	}
	paths := []string{o.config}
	if path, ok := predecessors(); ok {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if !exists(path) {
			continue
		}
		f, _, err := migrate.Load(path)
		switch {
		case errors.Is(err, config.ErrNothing):
			continue
		case err != nil:
			return nil, err
		case len(o.interfaces) > 0 && !slices.ContainsFunc(f.Routers, func(r config.Router) bool { return slices.Contains(o.interfaces, r.Interface) }):
			return nil, nil
		}
		o.config = path
		return o.only(f)
	}
	return nil, nil
}

// load reads the configuration file for the interfaces, if any are given. With a log it
// says there what of another program's file failoverd does otherwise.
func (o *options) load(log *logrus.Logger) (*config.File, error) {
	f, findings, err := migrate.Load(o.config)
	if err != nil {
		return nil, err
	}
	if log != nil {
		o.teller.tell(log, o.config, findings)
	}
	return o.only(f)
}

// only returns what a file has for the interfaces, if any are given.
func (o *options) only(f *config.File) (*config.File, error) {
	if len(o.interfaces) == 0 {
		return f, nil
	}
	return f.Only(o.interfaces)
}

// runFile runs what is in the configuration file, which was read once as f.
func (o *options) runFile(ctx context.Context, flags *pflag.FlagSet, lines *logWriter, f *config.File, hurry <-chan struct{}, hangup <-chan os.Signal) error {
	o.override(flags, &f.Global)
	o.logFormat, o.logLevel = f.Global.LogFormat, f.Global.LogLevel
	log, err := o.logger(lines)
	if err != nil {
		return &usageError{err}
	}
	read := func() (*config.File, error) {
		f, err := o.load(log)
		if err != nil {
			return nil, err
		}
		if flags.Changed("xdp-mode") {
			for i := range f.Routers {
				f.Routers[i].XDPMode = o.xdpMode
			}
		}
		o.override(flags, &f.Global)
		return f, nil
	}
	return o.runDaemon(ctx, log, hurry, hangup, ", from "+o.config, f.Routers, read)
}

// names names the first routers.
func names(routers []config.Router) string {
	const most = 5
	var all []string
	for _, r := range routers[:min(len(routers), most)] {
		all = append(all, r.Name)
	}
	text := strings.Join(all, ", ")
	if more := len(routers) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// override has the flags win over the file.
func (o *options) override(flags *pflag.FlagSet, g *config.Global) {
	for name, v := range map[string]struct{ flag, key *string }{
		"log-format": {&o.logFormat, &g.LogFormat}, "log-level": {&o.logLevel, &g.LogLevel},
		"metrics": {&o.metrics, &g.Metrics}, "metrics-compat": {&o.compat, &g.MetricsCompat},
	} {
		if flags.Changed(name) {
			*v.key = *v.flag
		}
	}
}

func (o *options) runDaemon(ctx context.Context, log *logrus.Logger, hurry <-chan struct{}, reload <-chan os.Signal, from string, routers []config.Router, read func() (*config.File, error)) error {
	running := "taking part as " + names(routers) + from
	if t, ok := log.Formatter.(*terminalFormatter); ok {
		running += "; Ctrl-C leaves"
		t.fit(routers)
	}
	return daemon.Run(ctx, daemon.Config{
		Read:    read,
		Reload:  reload,
		Hurry:   hurry,
		Running: running,
		Version: config.Version(),
		BPFDir:  daemon.DefaultBPFDir,
		RunDir:  daemon.DefaultRunDir,
		// A service manager says where.
		StateDir: cmp.Or(os.Getenv("STATE_DIRECTORY"), daemon.DefaultStateDir),
	}, log)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// routers makes one router for each interface of the addresses that belong to
// its networks.
func (o *options) routers() ([]config.Router, error) {
	interval, err := parseInterval(o.interval)
	if err != nil {
		return nil, err
	}
	var addresses []netip.Prefix
	for _, s := range o.addresses {
		p, err := config.ParseAddress(s)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, p)
	}
	checksum, err := config.ParseChecksum(o.checksum)
	if err != nil {
		return nil, err
	}
	tolerate, err := config.ParseTolerance(o.tolerate)
	if err != nil {
		return nil, err
	}
	virtualMAC, err := config.ParseVirtualMAC(o.virtualMAC)
	if err != nil {
		return nil, fmt.Errorf("--virtual-mac: %w", err)
	}
	unicast, err := o.unicast()
	if err != nil {
		return nil, err
	}
	r := config.Router{
		VRID:      o.vrid,
		Version:   o.version,
		Priority:  o.priority,
		Interval:  interval,
		Preempt:   !o.noPreempt,
		Addresses: addresses,
		Checksum:  checksum,
		Dual:      o.dual,
		Tolerate:  tolerate,
		Unicast:   unicast,

		VirtualMAC:    virtualMAC,
		Accept:        o.accept,
		Repeat:        o.repeat,
		MaxInterval:   o.most,
		PreemptDelay:  o.delay,
		Announcements: config.DefaultAnnouncements,
		DownAfter:     config.DefaultDownAfter,

		FamiliesTogether: true,
		XDPMode:          o.xdpMode,
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	byInterface, err := daemon.SpreadAddresses(o.interfaces, addresses)
	if err != nil {
		return nil, err
	}
	var all []config.Router
	for i, name := range o.interfaces {
		r := r
		r.Name, r.Interface, r.Addresses = fmt.Sprintf("%s-%d", name, o.vrid), name, byInterface[i]
		all = append(all, r)
	}
	return all, nil
}

// unicast is what the peers make of the routers.
func (o *options) unicast() (u config.Unicast, err error) {
	switch {
	case len(o.peers) == 0 && len(o.sources) > 0:
		return u, errors.New("--source without a peer: it is the address to write to peers from, so add --peer")
	case len(o.peers) > 0 && len(o.interfaces) > 1:
		return u, errors.New("--peer with several interfaces: each has peers of its own; write a configuration file, or run a failoverd for each")
	}
	u.TTL = config.DefaultTTL
	for _, s := range o.peers {
		a, err := config.ParseHost(s)
		if err != nil {
			return u, fmt.Errorf("--peer: %w", err)
		}
		u.Peers = append(u.Peers, config.NewPeer(a))
	}
	for _, s := range o.sources {
		a, err := config.ParseHost(s)
		if err != nil {
			return u, fmt.Errorf("--source: %w", err)
		}
		u.Sources = append(u.Sources, a)
	}
	if len(u.Peers) == 0 {
		u = config.Unicast{}
	}
	return u, nil
}

func parseInterval(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil {
		return d, nil
	}
	if _, numErr := strconv.ParseFloat(s, 64); numErr == nil {
		return 0, fmt.Errorf("interval %q has no unit: write %ss for seconds or %sms for milliseconds", s, s, s)
	}
	return 0, fmt.Errorf("interval %q is not a duration: write it like 1s or 100ms", s)
}
