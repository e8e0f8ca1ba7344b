// SPDX-License-Identifier: Apache-2.0

// Command demo shows failoverd's main job on a LAN of network namespaces: two routers share an
// address, the Active dies, and a client measures how long the address was unreachable.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	virtual  = "198.18.0.10"
	vrid     = "51"
	pingGap  = 2 * time.Millisecond
	patience = 20 * time.Second
	ifname   = "eth0"
)

const help = `demo shows failoverd's main job in a minute: two routers share an address on a LAN of
network namespaces, the Active dies, and a client measures how long the address was
unreachable. It needs root.

  sudo go run ./tools/demo --failoverd bin/failoverd

Flags:
`

func main() {
	binary := flag.String("failoverd", "bin/failoverd", "`path` of the failoverd to show")
	lab.Main("demo", help, func(ctx context.Context) error { return run(ctx, *binary) })
}

// router is one of the two hosts that share the address.
type router struct {
	node     *lab.Node
	port     *lab.Port
	address  string
	priority int
	daemon   *lab.Failoverd
	seen     int // the number of log lines that were shown
}

type demo struct {
	binary  string
	a, b    *router
	client  *lab.Node
	capture *lab.Capture
	pinger  *lab.Pinger
	// programs are the BPF programs of the routers. None may be left at the end.
	programs map[ebpf.ProgramID]bool
}

func run(ctx context.Context, binary string) (err error) {
	start := time.Now()
	if binary, err = lab.Needs(binary); err != nil {
		return err
	}
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	d := &demo{binary: binary, programs: make(map[ebpf.ProgramID]bool)}
	if err := d.layOut(l); err != nil {
		return err
	}

	var results []result
	for _, interval := range []time.Duration{time.Second, 100 * time.Millisecond} {
		r, err := d.round(ctx, interval)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	heading("How long the client had no reply")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "  INTERVAL\tCRASH\tPREDICTED\tGRACEFUL STOP\tPREDICTED\tPREEMPTION")
	for _, r := range results {
		fmt.Fprintf(w, "  %v\t%s\t%s\t%s\t%s\t%s\n",
			r.interval, ms(r.crash), ms(3*r.interval+r.skew), ms(r.stop), ms(r.skew), ms(r.preempt))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("\nRFC 9568 predicts 3 x interval + Skew_Time after the last advertisement of a\n")
	fmt.Printf("router that crashes, and Skew_Time after an advertisement of priority 0.\n")
	if err := errors.Join(d.pinger.Close(), d.capture.Close(), l.Close()); err != nil {
		return err
	}
	if err := d.waitUnloaded(ctx); err != nil {
		return err
	}
	fmt.Printf("Nothing is left behind: no namespace, no BPF program, no address. (%.0f s)\n", time.Since(start).Seconds())
	return nil
}

// layOut makes two routers and a client on a switch.
func (d *demo) layOut(l *lab.Lab) error {
	lan, err := l.LAN("switch")
	if err != nil {
		return err
	}
	d.a = &router{address: "198.18.0.1", priority: 200}
	d.b = &router{address: "198.18.0.2", priority: 100}
	for name, r := range map[string]*router{"router-a": d.a, "router-b": d.b} {
		if r.port, err = lan.Host(name, ifname, r.address+"/24"); err != nil {
			return err
		}
		r.node = r.port.Node
	}
	client, err := lan.Host("client", ifname, "198.18.0.100/24")
	if err != nil {
		return err
	}
	d.client = client.Node
	if d.capture, err = lan.Capture(); err != nil {
		return err
	}
	fmt.Printf("A LAN in network namespaces:\n")
	fmt.Printf("  router-a 198.18.0.1  priority 200 --+\n")
	fmt.Printf("  router-b 198.18.0.2  priority 100 --+-- client 198.18.0.100, pings %s every %v\n", virtual, pingGap)
	d.pinger, err = d.client.Ping(netip.MustParseAddr(virtual), pingGap)
	return err
}

// status shows the status of a router.
func (d *demo) status(ctx context.Context, r *router) error {
	out, err := r.node.Run(ctx, filepath.Join(filepath.Dir(d.binary), "failoverctl"), "status")
	if err != nil {
		return err
	}
	say("%s$ failoverctl status", r.node.Name)
	for line := range strings.Lines(out) {
		say("  %s", strings.TrimRight(line, "\n"))
	}
	return nil
}

// result is the outages that the client measured in a round.
type result struct {
	interval, skew, crash, stop, preempt time.Duration
}

// round shows crash, return, graceful stop and return at one interval.
func (d *demo) round(ctx context.Context, interval time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	res := result{interval: interval, skew: time.Duration(256-d.b.priority) * interval / 256}

	heading("Advertisements every %v", interval)
	say("router-a$ failoverd %s", strings.Join(d.args(d.a, interval), " "))
	say("router-b$ failoverd %s", strings.Join(d.args(d.b, interval), " "))
	for _, r := range []*router{d.a, d.b} {
		if err := d.start(r, interval); err != nil {
			return res, err
		}
	}
	if err := d.change(ctx, d.b, d.a); err != nil {
		return res, err
	}
	if err := d.notePrograms(); err != nil {
		return res, err
	}

	heading("router-a crashes: its link goes down right after an advertisement")
	n, err := d.capture.Wait(ctx, len(d.capture.Frames()), func(f lab.Frame) bool {
		_, _, _, ok := f.Advertisement()
		return ok && f.From == d.a.node.Name
	})
	if err != nil {
		return res, err
	}
	if err := d.a.port.Pull(); err != nil {
		return res, err
	}
	last := d.capture.Frames()[n].At
	if err := d.becomes(ctx, d.b, "Active"); err != nil {
		return res, err
	}
	if err := d.answered(ctx, time.Now()); err != nil {
		return res, err
	}
	res.crash = d.pinger.Outage(last)
	if interval == time.Second {
		if err := d.status(ctx, d.b); err != nil {
			return res, err
		}
	}
	say("outage measured %s, predicted %s = 3 x %v + Skew_Time %s", ms(res.crash), ms(3*interval+res.skew), interval, ms(res.skew))

	heading("router-a comes back and preempts, because it has the higher priority")
	back := time.Now()
	if err := d.a.port.Plug(); err != nil {
		return res, err
	}
	if err := d.change(ctx, d.b, d.a); err != nil {
		return res, err
	}
	res.preempt = d.pinger.Outage(back)
	say("outage measured %s", ms(res.preempt))

	heading("router-a is stopped gracefully: it sends priority 0")
	stopped := time.Now()
	code, err := d.a.daemon.Stop(ctx)
	if err != nil {
		return res, err
	}
	if code != 0 {
		return res, fmt.Errorf("failoverd of router-a ended with exit code %d:\n%s", code, d.a.daemon.Output())
	}
	if err := d.becomes(ctx, d.b, "Active"); err != nil {
		return res, err
	}
	if err := d.answered(ctx, time.Now()); err != nil {
		return res, err
	}
	res.stop = d.pinger.Outage(stopped)
	say("outage measured %s, predicted %s = Skew_Time", ms(res.stop), ms(res.skew))
	if code, err = d.b.daemon.Stop(ctx); err == nil && code != 0 {
		err = fmt.Errorf("failoverd of router-b ended with exit code %d:\n%s", code, d.b.daemon.Output())
	}
	return res, err
}

func (d *demo) args(r *router, interval time.Duration) []string {
	return []string{"--iface", ifname, "--vip", virtual + "/24", "--vrid", vrid, "--priority", fmt.Sprint(r.priority), "--interval", interval.String()}
}

func (d *demo) start(r *router, interval time.Duration) (err error) {
	r.seen = 0
	r.daemon, err = r.node.Failoverd(nil, d.binary, d.args(r, interval)...)
	return err
}

// change waits until one router is Backup and the other one Active, and shows which one answers.
func (d *demo) change(ctx context.Context, backup, active *router) error {
	if err := d.becomes(ctx, backup, "Backup"); err != nil {
		return err
	}
	if err := d.becomes(ctx, active, "Active"); err != nil {
		return err
	}
	return d.answered(ctx, time.Now())
}

// becomes waits for a state and shows the cause of the transition.
func (d *demo) becomes(ctx context.Context, r *router, state string) error {
	t, line, err := r.daemon.WaitState(ctx, r.seen, "ipv4", state)
	if err != nil {
		return fmt.Errorf("%s did not become %s: %w", r.node.Name, state, err)
	}
	r.seen = line + 1
	say("%s: %s -> %s: %s", r.node.Name, t.From, t.To, t.Cause)
	return nil
}

// answered waits for the client's next reply and shows which router gave it.
func (d *demo) answered(ctx context.Context, after time.Time) error {
	reply, err := d.pinger.WaitReply(ctx, after)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	names, err := d.capture.WhoAnswers(d.client, ifname, netip.MustParseAddr(virtual), 200*time.Millisecond)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return fmt.Errorf("%v answer for %s, not one router", names, virtual)
	}
	say("client: reply from %s in %v, answered by %s", virtual, reply.At.Sub(reply.Sent).Round(time.Microsecond), names[0])
	return nil
}

func heading(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }

func say(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// notePrograms notes the BPF programs that the routers' daemons hold now. Another failoverd
// on this host has programs of the same names.
func (d *demo) notePrograms() error {
	for _, r := range []*router{d.a, d.b} {
		ids, err := heldPrograms(r.daemon.PID())
		if err != nil {
			return err
		}
		for _, id := range ids {
			d.programs[id] = true
		}
	}
	return nil
}

// heldPrograms returns the BPF programs that a process has open.
func heldPrograms(pid int) (ids []ebpf.ProgramID, err error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		info, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just been closed
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(info)) {
			var id ebpf.ProgramID
			if n, _ := fmt.Sscanf(line, "prog_id: %d", &id); n == 1 {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// waitUnloaded waits until the kernel has none of the noted programs.
func (d *demo) waitUnloaded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		for id := range d.programs {
			p, err := ebpf.NewProgramFromID(id)
			if errors.Is(err, os.ErrNotExist) {
				delete(d.programs, id)
				continue
			}
			if err != nil {
				return fmt.Errorf("open BPF program %d: %w", id, err)
			}
			if err := p.Close(); err != nil {
				return err
			}
		}
		if len(d.programs) == 0 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d BPF programs are left behind; bpftool prog show lists them", len(d.programs))
		}
	}
}
