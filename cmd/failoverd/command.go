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
	"runtime/debug"
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
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/vrrp"
	"github.com/failoverd/failoverd/pkg/watch"
)

const help = `failoverd keeps a virtual IP address alive when a host dies. The hosts that share the
address elect one Active, which has the address (VRRP, RFC 9568). The others are Backups.
A Backup takes over when it hears nothing from the Active for three to four advertisement
intervals.

Run failoverd on two or more hosts of a network, and give each host its own priority. The
host with the highest priority has the address while it lives. The routers to run are in
/etc/failoverd/failoverd.yaml, or with --vip on the command line.

With --iface and without --vip, failoverd runs only the routers that the file has on that
interface. If there are none, it only watches: it sends nothing, shows each virtual router
that it hears on the interface, and prints the command that would back it up. A file that
has only comments counts as no file.`

const examples = `  # run the routers that the file has on eth0; if there are none, watch
  sudo failoverd --iface eth0

  # run the routers of /etc/failoverd/failoverd.yaml; SIGHUP reads it again
  sudo failoverd

  # run keepalived's file as it is
  sudo failoverd --config /etc/keepalived/keepalived.conf

  # be Active or Backup for 192.0.2.10
  sudo failoverd --iface eth0 --vip 192.0.2.10/24 --vrid 51 --priority 100

  # IPv4 and IPv6, a tenth of a second between advertisements
  sudo failoverd --iface eth0 --vip 192.0.2.10/24 --vip 2001:db8::10/64 \
      --interval 100ms

  # remove the leftovers of a killed failoverd
  sudo failoverd --cleanup`

// usageError is a mistake in the command line. Nothing was tried.
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
	configID   string
	cleanup    bool
	found      []migrate.Finding // in the last reading of the file
	// predecessor is the process that this one takes over from, nil for none.
	predecessor *process.Predecessor
	findings    findingLog
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
			var err error
			if o.predecessor, err = process.FindPredecessor(); err == nil {
				err = o.run(cmd.Context(), cmd.Flags(), stdout, stderr)
			}
			if err != nil {
				o.predecessor.Fail(err)
			}
			return err
		},
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)

	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.config, "config", config.DefaultPath, "configuration `file`: YAML, JSON, or a file of keepalived or the Rust failover; not used with --vip")
	f.StringVar(&o.configID, "config-id", "", "use the lines of a keepalived.conf with @`name`, like keepalived's option of the same name (default: the name of this host)")
	f.StringArrayVar(&o.interfaces, "iface", nil, "network `interface` for the addresses of --vip; without --vip, run only the routers that the file has on it; may be repeated")
	f.BoolVar(&o.watch, "watch", false, "only watch the interfaces, even if routers are configured on them")
	f.StringArrayVar(&o.addresses, "vip", nil, "virtual `address` with its prefix length, like 192.0.2.10/24; may be repeated; with several interfaces, each address goes to the interface that is in its network")
	f.IntVar(&o.vrid, "vrid", config.DefaultVRID, "virtual router `ID`, 1 to 255, the same on all hosts that share the addresses")
	f.IntVar(&o.priority, "priority", config.DefaultPriority, "`priority`, 1 to 254: the host with the highest one has the addresses; 255 is for the owner of the addresses")
	f.StringVar(&o.interval, "interval", config.DefaultInterval.String(), "`time` between advertisements: 10ms to 40.95s in version 3, whole seconds in version 2; a Backup takes over after three to four intervals, sooner with a higher priority")
	f.DurationVar(&o.most, "max-interval", 0, "the longest `time` between advertisements that a Backup learns from an Active, at least --interval; a slow or forged Active then delays a takeover by at most four times this; 0 for no limit below 40.95s")
	f.IntVar(&o.version, "vrrp-version", config.DefaultVersion, "VRRP `version`: 3 (RFC 9568, IPv4 and IPv6) or 2 (RFC 3768, IPv4 only)")
	f.BoolVar(&o.noPreempt, "no-preempt", false, "don't take the addresses from an Active with a lower priority")
	f.DurationVar(&o.delay, "preempt-delay", 0, "`time` to wait before the addresses are taken from an Active with a lower priority, up to 1000s")
	f.StringVar(&o.checksum, "checksum", vrrp.ChecksumAuto.String(), "checksum `form` of version 3 over IPv4: auto (accept both, send the form of the peers), rfc9568, or rfc5798")
	f.BoolVar(&o.dual, "dual", false, "speak versions 2 and 3 over IPv4, while the hosts that share the addresses are migrated from one to the other")
	f.StringSliceVar(&o.tolerate, "tolerate", nil, "accept a `deviation` that the RFCs refuse: trailing-octets (octets after the message), first-address (the first IPv6 address isn't link-local), address-list (another address list, in version 2)")
	f.StringArrayVar(&o.peers, "peer", nil, "`address` of another host to advertise to by unicast, in a network without multicast; other hosts are ignored then; may be repeated")
	f.StringArrayVar(&o.sources, "source", nil, "source `address` of the advertisements to peers, instead of the primary address of the interface; may be repeated for the other family")
	f.StringVar(&o.virtualMAC, "virtual-mac", string(config.VirtualMACAuto), "`mode` of the virtual MAC 00:00:5e:00:01:VRID (IPv6: 00:00:5e:00:02:VRID), which moves with the addresses: bpf (TC programs translate it), macvlan (failoverd creates a macvlan for the addresses), off (the addresses use the interface's own MAC), or auto (bpf, or macvlan if TC programs can't be attached; off with --peer)")
	f.BoolVar(&o.accept, "accept", true, "accept packets to the virtual addresses (Accept_Mode); with =false, an Active forwards packets but answers only ARP and neighbour discovery for the addresses")
	f.DurationVar(&o.repeat, "announce-again", config.DefaultRepeat, "`time` after a takeover at which gratuitous ARP and neighbour advertisements are sent once more; 0 for never")
	f.StringVar(&o.xdpMode, "xdp-mode", string(datapath.ModeAuto), "`mode` of receiving: native (XDP in the driver), generic (XDP behind the driver), tc (a TC program), off (an AF_PACKET socket), or auto (the best one that the interface supports)")
	f.StringVar(&o.logFormat, "log-format", formAuto, "`format` of the log on standard error: terminal (readable lines), text (key=value), json, journal (records of systemd's journal with fields), or auto (the one that suits standard error)")
	f.StringVar(&o.logLevel, "log-level", "info", "lowest `level` that is logged: error, warning, info or debug")
	f.StringVar(&o.metrics, "metrics", config.Off, "serve metrics for Prometheus at this `address`, like 127.0.0.1:9650, under /metrics")
	f.StringVar(&o.compat, "metrics-compat", config.Off, "also serve metrics with the names of another `program`: keepalived (those of its Prometheus exporter)")
	f.BoolVar(&o.cleanup, "cleanup", false, "remove the leftovers of a killed failoverd, and exit")
	about.flags = f
	f.VarPF(&about, "version", "V", "print the version of failoverd, and exit").NoOptDefVal = "true"

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
		// A signal must not interrupt the cleanup, which takes only a moment.
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		removed, living, err := daemon.Cleanup(daemon.Config{BPFDir: daemon.DefaultBPFDir, RunDir: daemon.DefaultRunDir})
		for _, r := range removed {
			fmt.Fprintln(stdout, "removed", r)
		}
		for _, pid := range living {
			fmt.Fprintf(stdout, "kept everything of process %d: it is a running failoverd\n", pid)
		}
		if err == nil && len(removed) == 0 {
			fmt.Fprintln(stdout, "there is nothing to remove")
		}
		return err
	}
	process.LimitGarbage()
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
			return &usageError{errors.New("--config and --vip exclude each other: routers are either in a file or on the command line")}
		}
		if len(o.interfaces) == 0 {
			return &usageError{errors.New("--vip needs an interface: name one with --iface; see failoverd --help")}
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
			return &usageError{fmt.Errorf("--%s needs a virtual address: add --vip, or omit --%[1]s", name)}
		}
	}
	terminal := stopSignals(true)
	watching := func(running string) error {
		ctx, _ := until(ctx, terminal...)
		return watch.Run(ctx, watch.Config{Interfaces: o.interfaces, XDPMode: mode, Running: running}, stdout, log)
	}
	if o.watch {
		if len(o.interfaces) == 0 {
			return &usageError{errors.New("--watch needs an interface: name one with --iface")}
		}
		return watching("")
	}
	ctx, hurry := until(ctx, stopSignals(false)...)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // a SIGHUP during the start takes effect after it
	f, err := o.find(flags.Changed("config"))
	switch {
	case err != nil:
		return err
	case f != nil:
		return o.runFile(ctx, flags, lines, f, hurry, hangup)
	case len(o.interfaces) == 0:
		return &usageError{fmt.Errorf("no router is configured in %s: add one there, or use --iface and --vip; see failoverd --help", o.config)}
	}
	return watching("no router is configured for " + strings.Join(o.interfaces, ", ") + ": watching")
}

// find returns the part of the configuration file for the interfaces, or the whole file if
// none are given, and nil if there is no router. If failoverd has no file, find looks for
// one of the Rust failover. With required, a missing file is an error, and so is an
// interface without a router.
func (o *options) find(required bool) (*config.File, error) {
	if required {
		return o.load()
	}
	paths := []string{o.config}
	if path, ok := predecessors(); ok {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if !exists(path) {
			continue
		}
		f, findings, err := migrate.Load(path, o.configID)
		switch {
		case errors.Is(err, config.ErrNothing):
			continue
		case err != nil:
			return nil, err
		case len(o.interfaces) > 0 && !slices.ContainsFunc(f.Routers, func(r config.Router) bool { return slices.Contains(o.interfaces, r.Interface) }):
			return nil, nil
		}
		o.config, o.found = path, findings
		return o.only(f)
	}
	return nil, nil
}

// load reads the part of the configuration file for the interfaces, or the whole file if
// none are given.
func (o *options) load() (f *config.File, err error) {
	if f, o.found, err = migrate.Load(o.config, o.configID); err != nil {
		return nil, err
	}
	return o.only(f)
}

// only returns the part of a file for the interfaces, or the whole file if none are given.
func (o *options) only(f *config.File) (*config.File, error) {
	if len(o.interfaces) == 0 {
		return f, nil
	}
	return f.Only(o.interfaces)
}

// runFile runs the routers of the configuration file. f is its content, read before. Of the
// file of another program each reading logs the settings that behave differently.
func (o *options) runFile(ctx context.Context, flags *pflag.FlagSet, lines *logWriter, f *config.File, hurry <-chan struct{}, hangup <-chan os.Signal) error {
	o.override(flags, &f.Global)
	o.logFormat, o.logLevel = f.Global.LogFormat, f.Global.LogLevel
	log, err := o.logger(lines)
	if err != nil {
		return &usageError{err}
	}
	routers, first := f.Routers, true
	read := func() (*config.File, error) {
		if !first {
			if f, err = o.load(); err != nil {
				return nil, err
			}
		}
		first = false
		o.findings.add(log, o.config, o.found)
		if flags.Changed("xdp-mode") {
			for i := range f.Routers {
				f.Routers[i].XDPMode = o.xdpMode
			}
		}
		o.override(flags, &f.Global)
		return f, nil
	}
	return o.runDaemon(ctx, log, hurry, hangup, ", from "+o.config, routers, read)
}

// names returns the names of the first routers, and the number of the others.
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

// override gives flags precedence over the keys of the file.
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
	running := "running " + names(routers) + from
	if t, ok := log.Formatter.(*terminalFormatter); ok {
		running += "; Ctrl-C stops it"
		t.fit(routers)
	}
	restart := make(chan os.Signal, 1)
	signal.Notify(restart, syscall.SIGUSR2)
	err := daemon.Run(ctx, daemon.Config{
		Read:        read,
		Reload:      reload,
		Restart:     restart,
		Hurry:       hurry,
		Predecessor: o.predecessor,
		Running:     running,
		Version:     config.Version(),
		BPFDir:      daemon.DefaultBPFDir,
		RunDir:      daemon.DefaultRunDir,
		// systemd sets STATE_DIRECTORY.
		StateDir: cmp.Or(os.Getenv("STATE_DIRECTORY"), daemon.DefaultStateDir),
	}, log)
	var to *daemon.Replaced
	if !errors.As(err, &to) {
		return err
	}
	if to.Attend {
		return attend(ctx, to.PID)
	}
	return nil
}

// attend stays until the processes that have taken over from this one end, because whoever has
// started this one knows only this one.
func attend(ctx context.Context, pid int) error {
	debug.FreeOSMemory()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	if code := process.Attend(ctx, pid, signals); code != exitDone {
		return &exitError{code}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// routers makes one router per interface, with the addresses that belong to the networks of
// that interface.
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

// unicast returns the unicast settings of the flags.
func (o *options) unicast() (u config.Unicast, err error) {
	switch {
	case len(o.peers) == 0 && len(o.sources) > 0:
		return u, errors.New("--source needs a peer: it is the source address of advertisements to peers, so add --peer")
	case len(o.peers) > 0 && len(o.interfaces) > 1:
		return u, errors.New("--peer with several interfaces is ambiguous: write a configuration file, or run one failoverd per interface")
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
