// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// The asker distinguishes two hosts with the same MAC and the same address, and finds the
// handover between them for each kind of question.
func TestAsker(t *testing.T) {
	for _, c := range []struct{ name, client, virtual string }{
		{"IPv4", "198.18.0.100/24", "198.18.0.10/24"},
		{"IPv6", "2001:db8::64/64", "2001:db8::10/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lan, a, b, _ := newLab(t)
			ctx := withPatience(t)
			asker := ask(t, lan, []*lab.Node{a, b}, c.client, c.virtual)
			mac, err := a.MAC("eth0")
			ok(t, err)
			_, err = b.Run(ctx, "ip", "link", "set", "eth0", "address", mac)
			ok(t, err)

			start := time.Now()
			ok(t, a.AddAddress("eth0", c.virtual))
			ok(t, asker.WaitAnswers(ctx, a, 10))
			ok(t, a.RemoveAddress("eth0", c.virtual))
			ok(t, b.AddAddress("eth0", c.virtual))
			between := time.Now()
			ok(t, asker.WaitAnswers(ctx, b, 10))
			answers := asker.Answers()
			for _, q := range lab.Questions {
				if h := answers.To(q).Handover(a, b, start); h.Stale > 0 || h.Overlap > 0 || h.LastOld.IsZero() || h.FirstNew.IsZero() {
					t.Errorf("%v, one after the other: %+v", q, h)
				}
			}
			if p := asker.Pause(start, between); p <= 0 {
				t.Errorf("the longest pause between questions is %v", p)
			}

			both := time.Now()
			ok(t, a.AddAddress("eth0", c.virtual))
			// The switch has the MAC on one port at a time, but broadcasts reach both hosts.
			if h := await(t, ctx, asker, both, b, a); h.Overlap <= 0 || h.Gap != 0 {
				t.Errorf("both at once: %+v", h)
			}
		})
	}
}

// ask connects a client and starts an asker on it.
func ask(t *testing.T, lan *lab.LAN, hosts []*lab.Node, client, virtual string) *lab.Asker {
	t.Helper()
	l := lab.ForTest(t)
	n, err := l.Node("c")
	ok(t, err)
	_, err = lan.Connect(n, "eth0", client)
	ok(t, err)
	asking := lab.Asking{Address: netip.MustParsePrefix(virtual).Addr(), Every: time.Millisecond, Hosts: hosts}
	for _, h := range hosts {
		mac, err := h.MAC("eth0")
		ok(t, err)
		asking.MACs = append(asking.MACs, mac)
	}
	asker, err := lan.Ask(n, "eth0", asking)
	ok(t, err)
	t.Cleanup(func() { ok(t, asker.Close()) })
	return asker
}

// await waits until the old host has answered ten solicitations after the first answer of the
// new host.
func await(t *testing.T, ctx context.Context, asker *lab.Asker, since time.Time, from, to *lab.Node) lab.Handover {
	t.Helper()
	for {
		h := asker.Answers().To(lab.QuestionNeighbor).Handover(from, to, since)
		if h.Stale >= 10 {
			return h
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s and %s don't both answer: %+v", from.Name, to.Name, h)
		}
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHandover(t *testing.T) {
	a, b := &lab.Node{Name: "a"}, &lab.Node{Name: "b"}
	start := time.Unix(1000, 0)
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }
	record := func(from string) (all lab.Answers) {
		for n, c := range from {
			if c != ' ' {
				all = append(all, lab.Answer{At: at(n), From: string(c)})
			}
		}
		return all
	}
	for text, want := range map[string]lab.Handover{
		"":            {},
		"aaa":         {LastOld: at(2)},
		"bbb":         {FirstNew: at(0)},
		"aaa  bbb":    {LastOld: at(2), FirstNew: at(5), Gap: 3 * time.Millisecond},
		"aaabababbb":  {LastOld: at(6), FirstNew: at(3), Overlap: 3 * time.Millisecond, Stale: 2},
		"ba":          {LastOld: at(1), FirstNew: at(0), Overlap: time.Millisecond, Stale: 1},
		"aa cc b c b": {LastOld: at(1), FirstNew: at(6), Gap: 5 * time.Millisecond},
	} {
		if got := record(text).Handover(a, b, start); got != want {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
	want := lab.Handover{LastOld: at(2), FirstNew: at(5), Gap: 3 * time.Millisecond}
	if got := record("abab bb").Handover(a, b, at(4)); got != want {
		t.Errorf("the new one had answered before: got %+v, want %+v", got, want)
	}
	if got := record("aabb").To(lab.QuestionTCP); len(got) != 0 {
		t.Errorf("answers to a question that wasn't asked: %v", got)
	}
}
