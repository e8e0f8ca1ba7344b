// SPDX-License-Identifier: Apache-2.0

// Command interop runs failoverd beside keepalived and FRR in network namespaces. It plays
// failovers and checks on the wire which router was Active when.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const help = `interop runs failoverd beside keepalived and FRR in network namespaces, each at its
defaults, and watches the wire between them.

A case is named PEER/PROTOCOL/ORDER/SCENARIO:
  PEER      keepalived, frr
  PROTOCOL  v2, v3-ipv4, v3-ipv6. With HMAC, which keepalived has since 2.4.1, also
            hmac-ipv4, hmac-ipv6, hmac-ipv4-unicast, hmac-ipv6-unicast.
  ORDER     we-first: failoverd is started first; they-first: the peer is. The first
            router has the higher priority unless the scenario says otherwise.
  SCENARIO  crash       the first router loses its link, and gets it back
            stop        the first router is stopped
            preempt     the second router has the higher priority
            no-preempt  the same, but the second router must not preempt
            equal       equal priorities; both are Active until they are connected
            interval    the first router changes its interval from 1 s to 2 s
            addresses   the second router has an additional address
            introduce   both get authentication: receive-only, permit, enforce
            key         both change the key of their authentication

Each case checks the sequence of Actives, the longest times with two Actives and
with none, and each VRRP, ARP and neighbour discovery frame of failoverd. Some
expectations depend on the version of the peer. interop needs root, the packages
keepalived and frr or paths of other builds, and some minutes.

  sudo go run ./tools/interop --failoverd bin/failoverd
  sudo go run ./tools/interop --failoverd bin/failoverd --run 'frr/v3-ipv6/.*/crash'
  sudo go run ./tools/interop --keepalived /opt/keepalived/sbin/keepalived --run /hmac

Flags:
`

// patience bounds a case. The longest cases take half a minute.
const patience = 75 * time.Second

type options struct {
	programs
	run      string
	parallel int
	list     bool
}

func main() {
	var o options
	flag.StringVar(&o.failoverd, "failoverd", "bin/failoverd", "`path` of the failoverd to test")
	flag.StringVar(&o.keepalived, "keepalived", "", "`path` of keepalived (default Debian's)")
	flag.StringVar(&o.frr, "frr", "", "`directory` of FRR's zebra, vrrpd and vtysh (default Debian's)")
	flag.StringVar(&o.run, "run", "", "run only the cases whose name matches the regular `expression`")
	flag.IntVar(&o.parallel, "parallel", 6, "`number` of cases at the same time")
	flag.BoolVar(&o.list, "list", false, "list the names of the cases and exit")
	lab.Main("interop", help, func(ctx context.Context) error { return run(ctx, o) })
}

// result is the result of a case.
type result struct {
	testCase
	verdict
	took   time.Duration
	report string      // the claims, frames and logs of a failed case
	stalls []lab.Stall // the times in which the machine stalled
}

func (r result) ok() bool { return len(r.problems) == 0 }

func run(ctx context.Context, o options) error {
	if o.parallel < 1 {
		return fmt.Errorf("--parallel %d: at least 1", o.parallel)
	}
	versions, err := o.versions(ctx)
	if err != nil {
		return err
	}
	chosen, err := choose(o.run, cases(versions))
	if err != nil {
		return err
	}
	if o.list {
		for _, c := range chosen {
			fmt.Println(c)
		}
		return nil
	}
	if o.failoverd, err = lab.Needs(o.failoverd); err != nil {
		return err
	}
	start := time.Now()
	results := runAll(ctx, chosen, o)
	if ctx.Err() != nil {
		return fmt.Errorf("%w after %d of %d cases", ctx.Err(), len(results), len(chosen))
	}
	failed := 0
	for _, r := range results {
		if !r.ok() {
			failed++
			fmt.Print(r.report)
			for _, s := range r.stalls {
				fmt.Printf("%s processor %d was busy for %v\n", s.From.Format(clock), s.CPU, s.To.Sub(s.From).Round(time.Millisecond))
			}
		}
	}
	fmt.Println()
	printMatrix(os.Stdout, results)
	printReasons(os.Stdout, results)
	fmt.Printf("\n%d cases: %d ok, %d failed (%.0f s)\n", len(results), len(results)-failed, failed, time.Since(start).Seconds())
	if failed > 0 {
		return fmt.Errorf("%d cases failed", failed)
	}
	return nil
}

// choose returns the cases whose name matches the expression.
func choose(expression string, all []testCase) ([]testCase, error) {
	match, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("--run: %w", err)
	}
	chosen := slices.DeleteFunc(all, func(c testCase) bool { return !match.MatchString(c.String()) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no case matches --run %s; --list names them", expression)
	}
	return chosen, nil
}

// runAll runs the cases, several at the same time, and returns the results in the order of
// the cases.
func runAll(ctx context.Context, chosen []testCase, o options) []result {
	canary := lab.NewPatientCanary()
	defer func() { _ = canary.Close() }() // it only explains failures
	var (
		mu      sync.Mutex
		wait    sync.WaitGroup
		done    = make(map[string]result)
		pending = make(chan testCase)
	)
	for range o.parallel {
		wait.Go(func() {
			for c := range pending {
				started := time.Now()
				r := runCase(ctx, c, o.programs)
				r.stalls = canary.Stalls(started, time.Now())
				if ctx.Err() != nil {
					continue
				}
				mu.Lock()
				done[c.String()] = r
				printProgress(os.Stdout, len(done), len(chosen), r)
				mu.Unlock()
			}
		})
	}
	for _, c := range longestFirst(chosen) {
		select {
		case pending <- c:
		case <-ctx.Done():
		}
	}
	close(pending)
	wait.Wait()
	var results []result
	for _, c := range chosen {
		if r, ok := done[c.String()]; ok {
			results = append(results, r)
		}
	}
	return results
}

// longestFirst sorts the long cases to the front, so that none of them runs alone at the
// end.
func longestFirst(all []testCase) []testCase {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b testCase) int {
		switch {
		case a.scenario.long == b.scenario.long:
			return 0
		case a.scenario.long:
			return -1
		}
		return 1
	})
	return sorted
}

// runCase runs and judges a case.
func runCase(ctx context.Context, c testCase, p programs) (r result) {
	start := time.Now()
	r.testCase = c
	defer func() { r.took = time.Since(start) }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := newSite(c, p)
	if err != nil {
		r.blame("could not make the LAN: %v", err)
		r.report = report(r, nil, nil)
		return r
	}
	defer func() {
		if err := s.close(); err != nil {
			r.blame("left behind: %v", err)
		}
		if !r.ok() && r.report == "" {
			r.report = report(r, s, nil)
		}
	}()
	e := c.scenario.expect(c)
	played := c.scenario.play(ctx, c, s)
	frames, end := s.capture.Frames(), time.Now()
	if played != nil {
		r.blame("%s", brief(played))
	}
	all := claims(s.adverts(frames), s.aparts)
	if holds, err := s.holds(s.them()); e.mute != "" && holds && err == nil {
		all = unmute(all, e.mute, end)
	}
	r.judge(e, all, s.aparts, end)
	if holds, err := s.holds(s.us()); err != nil || holds != slices.Contains(e.final, ours) {
		r.blame("failoverd has the addresses at the end: %v, %v", holds, err)
	}
	if s.failoverd.running {
		r.end(ctx, s)
	}
	r.wellFormed(s.capture.Frames(), s.us().had)
	r.signed(s.capture.Frames(), s.us())
	r.signed(s.capture.Frames(), s.them())
	if e.log != "" && !strings.Contains(s.us().output(), e.log) {
		r.blame("failoverd's log does not name %s", e.log)
	}
	if !r.ok() {
		r.report = report(r, s, all)
	}
	return r
}

// end stops failoverd, even if the time of the case is over.
func (r *result) end(ctx context.Context, s *site) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noise*10)
	defer cancel()
	if err := s.failoverd.stop(ctx); err != nil {
		r.blame("%s", brief(err))
	}
}

// brief returns the text of an error without the logs in it, because the report has them.
func brief(err error) string {
	text, logs, _ := strings.Cut(err.Error(), "\n")
	if at := strings.LastIndex(text, ";"); logs != "" && at > 0 {
		text = text[:at]
	}
	return text
}

// report returns the report of a failed case.
func report(r result, s *site, all []claim) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n--- FAIL: %s\n", r.testCase)
	for _, p := range r.problems {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	if s == nil {
		return b.String()
	}
	fmt.Fprintf(&b, "Active:\n")
	for _, c := range all {
		fmt.Fprintf(&b, "  %s\n", c)
	}
	for _, p := range s.aparts {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	fmt.Fprintf(&b, "VRRP on the wire:\n%s", indent(s.capture.VRRP()))
	for _, p := range []*party{s.us(), s.them()} {
		fmt.Fprintf(&b, "%s wrote:\n%s", p.name, indent(p.output()))
	}
	return b.String()
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

func printProgress(w io.Writer, n, of int, r result) {
	word := "ok  "
	if !r.ok() {
		word = "FAIL"
	}
	late := ""
	if r.pause > 0 {
		late = fmt.Sprintf(", a pause of %.1f s between advertisements", r.pause.Seconds())
	}
	if d := lab.Longest(r.stalls); d > 0 {
		late += fmt.Sprintf(", the machine up to %.1f s late", d.Seconds())
	}
	fmt.Fprintf(w, "%*d/%d %s %-42s two %5d ms, none %5d ms, %3d frames checked (%.0f s%s)\n",
		len(fmt.Sprint(of)), n, of, word, r.testCase, r.two.Milliseconds(), r.none.Milliseconds(), r.frames, r.took.Seconds(), late)
	for _, p := range r.problems {
		fmt.Fprintf(w, "       %s\n", p)
	}
}

// printMatrix shows the results, a line for each peer with its version, protocol and order.
func printMatrix(w io.Writer, results []result) {
	fmt.Fprintln(w, "Longest time with two Actives / with none, in milliseconds:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "PEER\tPROTOCOL\tSTARTED")
	columns := slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool {
		return !slices.ContainsFunc(results, func(r result) bool { return r.scenario.name == s.name })
	})
	for _, s := range columns {
		fmt.Fprint(t, "\t", s.head)
	}
	cells := make(map[string]string)
	for _, r := range results {
		word := "ok"
		if !r.ok() {
			word = "FAIL"
		}
		if r.scenario.expect(r.testCase).why != "" {
			word += "*"
		}
		cells[r.String()] = fmt.Sprintf("%s %d/%d", word, r.two.Milliseconds(), r.none.Milliseconds())
	}
	row := ""
	for _, r := range results {
		if r.row() == row {
			continue
		}
		row = r.row()
		fmt.Fprint(t, "\n", row)
		for _, s := range columns {
			c := r.testCase
			c.scenario = s
			fmt.Fprint(t, "\t", cmp.Or(cells[c.String()], "-"))
		}
	}
	fmt.Fprintln(t)
	_ = t.Flush() // to the screen
}

// row is the head of the case's line in the matrix.
func (c testCase) row() string {
	return fmt.Sprintf("%s %s\t%s\t%s", c.peer, c.version, c.proto.name, c.order())
}

// printReasons lists the cases in which two Actives are expected, by reason.
func printReasons(w io.Writer, results []result) {
	named := make(map[string][]string)
	var order []string
	for _, r := range results {
		why := r.scenario.expect(r.testCase).why
		if why == "" {
			continue
		}
		if named[why] == nil {
			order = append(order, why)
		}
		named[why] = append(named[why], r.String())
	}
	for _, why := range order {
		fmt.Fprintf(w, "\n* Two Actives are expected, because %s:\n", why)
		for _, name := range named[why] {
			fmt.Fprintf(w, "  %s\n", name)
		}
	}
}
