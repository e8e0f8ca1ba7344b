// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// work makes the worker do one job and returns its error.
func work(w *Worker, j Job) (err error) {
	j.Done = func(e error) { err = e }
	w.Submit(j)
	w.work()
	return err
}

// Batched jobs have separate results. An address that exists already is no error, and a job
// that fails doesn't affect the others.
func TestManyJobs(t *testing.T) {
	_, _, h := newHost(t, "192.0.2.2/24")
	eth := find(t, h, "eth0")
	w := NewWorker(h, nil, nil)
	const jobs, each = 130, 3
	results := make([]error, jobs)
	done := 0
	all := func(assign bool) {
		done = 0
		for n := range jobs {
			j := Job{Ifindex: eth.Index, Assign: assign, Prefixes: prefixes(
				fmt.Sprintf("10.0.%d.1/24", n), fmt.Sprintf("10.0.%d.2/24", n), fmt.Sprintf("2001:db8::%x/64", n+1))}
			if n == 70 {
				j.Ifindex = 12345
			}
			j.Done = func(err error) {
				if n != done {
					t.Errorf("job %d is done after %d others", n, done)
				}
				results[n], done = err, done+1
			}
			w.Submit(j)
		}
		w.work()
	}
	has := func() (n int) {
		for _, a := range find(t, h, "eth0").Addresses {
			if !a.Tentative && !a.Prefix.Addr().IsLinkLocalUnicast() && a.Prefix != netip.MustParsePrefix("192.0.2.2/24") {
				n++
			}
		}
		return n
	}
	for range 2 { // the second time they are there already
		all(true)
		for n, err := range results {
			if missing := errors.Is(err, unix.ENODEV); missing != (n == 70) || err != nil && !missing {
				t.Errorf("job %d: %v", n, err)
			}
		}
		if err := results[70]; err != nil && strings.Count(err.Error(), "add ") != each {
			t.Errorf("%v", err)
		}
		if got, want := has(), (jobs-1)*each; got != want {
			t.Fatalf("%d addresses, want %d", got, want)
		}
	}
	all(false)
	for n, err := range results {
		if err != nil {
			t.Errorf("release %d: %v", n, err)
		}
	}
	if got := has(); got != 0 {
		t.Errorf("%d addresses are left", got)
	}

	// A job with more addresses than a batch, between two small ones.
	var many []string
	for n := range 3*batchMax + 1 {
		many = append(many, fmt.Sprintf("10.1.%d.%d/16", n/250, n%250+1))
	}
	for _, p := range [][]string{{"10.2.0.1/24"}, many, {"10.2.0.2/24"}} {
		w.Submit(Job{Ifindex: eth.Index, Assign: true, Prefixes: prefixes(p...), Done: func(err error) {
			if err != nil {
				t.Error(err)
			}
		}})
	}
	w.work()
	if got, want := has(), len(many)+2; got != want {
		t.Errorf("%d addresses, want %d", got, want)
	}
}
