// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// host is a fake for the checks of a test.
type host struct {
	mu       sync.Mutex
	bad      map[string]bool
	takes    map[string]time.Duration
	looks    map[string][]time.Duration // the times of the runs, since the start
	now, max int                        // number of checks that run at once
	overlaps int
	current  map[string]bool
	begun    time.Time
	reports  []string
}

func newHost() *host {
	return &host{bad: map[string]bool{}, takes: map[string]time.Duration{}, looks: map[string][]time.Duration{}, current: map[string]bool{}, begun: time.Now()}
}

func (h *host) look(ctx context.Context, c Check) outcome {
	h.mu.Lock()
	h.looks[c.Name] = append(h.looks[c.Name], time.Since(h.begun))
	h.now++
	h.max = max(h.max, h.now)
	if h.current[c.Name] {
		h.overlaps++
	}
	h.current[c.Name] = true
	o, takes := outcome{good: !h.bad[c.Name], text: "looked"}, h.takes[c.Name]
	h.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			o = bad("no answer in time")
		}
	}
	h.mu.Lock()
	h.now--
	h.current[c.Name] = false
	h.mu.Unlock()
	return o
}

func (h *host) report(r Report) {
	h.mu.Lock()
	h.reports = append(h.reports, fmt.Sprintf("%v %s %s", time.Since(h.begun).Round(time.Millisecond), r.Name, r.State))
	h.mu.Unlock()
}

// reported and looked return the reports and the runs up to now.
func (h *host) reported() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.reports)
}

func (h *host) looked() map[string][]time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.looks)
}

func (h *host) most() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.max
}

func (h *host) set(name string, good bool) {
	h.mu.Lock()
	h.bad[name] = !good
	h.mu.Unlock()
}

// play runs a tracker while f runs.
func play(t *testing.T, f func(*host, *Tracker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		tr := newTracker(h.look, h.report)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() {
			if err := tr.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		f(h, tr)
		cancel()
		done.Wait()
		if h.now != 0 {
			t.Errorf("%d looks have outlived the tracker", h.now)
		}
		if h.overlaps != 0 {
			t.Errorf("%d looks began before the last one of their check had ended", h.overlaps)
		}
	})
}

func check(name string) Check {
	return Check{Name: name, Kind: Script, Rise: 1, Fall: 1, Interval: time.Second, Timeout: time.Second}
}

func TestRiseAndFall(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		c := check("a")
		c.Rise, c.Fall = 2, 3
		h.set("a", false)
		tr.Set([]Check{c})
		at := func(d time.Duration) { time.Sleep(d - time.Since(h.begun)); synctest.Wait() }
		at(500 * time.Millisecond) // the first result decides alone
		h.set("a", true)
		at(2500 * time.Millisecond) // good at 1 s and 2 s
		h.set("a", false)
		at(4500 * time.Millisecond) // bad at 3 s and 4 s only
		h.set("a", true)
		at(5500 * time.Millisecond)
		h.set("a", false) // bad at 6, 7 and 8 s
		at(8500 * time.Millisecond)
		want := []string{"0s a down", "2s a up", "8s a down"}
		if !slices.Equal(h.reported(), want) {
			t.Errorf("%q, want %q", h.reported(), want)
		}
		r := tr.Reports()[0]
		if r.State != Down || r.Changes != 2 || r.Since.Sub(h.begun) != 8*time.Second || r.Text != "looked" {
			t.Errorf("%+v", r)
		}
	})
}

func TestInitFail(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		c := check("a")
		c.Rise, c.InitFail = 2, true
		tr.Set([]Check{c})
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if want := []string{"0s a down", "1s a up"}; !slices.Equal(h.reported(), want) {
			t.Errorf("%q, want %q", h.reported(), want)
		}
	})
}

// Checks keep their pace, however long a run takes, and runs of one check don't overlap.
func TestPace(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		fast, slow, hangs := check("fast"), check("slow"), check("hangs")
		slow.Timeout, hangs.Kind = 3*time.Second, TCP
		h.takes["fast"], h.takes["slow"], h.takes["hangs"] = 300*time.Millisecond, 1700*time.Millisecond, time.Hour
		tr.Set([]Check{fast, slow, hangs})
		time.Sleep(4950 * time.Millisecond)
		synctest.Wait()
		seconds := func(all ...float64) (d []time.Duration) {
			for _, s := range all {
				d = append(d, time.Duration(math.Round(s*1000))*time.Millisecond)
			}
			return d
		}
		for name, want := range map[string][]time.Duration{
			"fast":  seconds(0, 1, 2, 3, 4),
			"slow":  seconds(0.005, 2.005, 4.005),
			"hangs": seconds(0.010, 1.010, 2.010, 3.010, 4.010), // each ends when the next one is due
		} {
			if !slices.Equal(h.looked()[name], want) {
				t.Errorf("%s was looked at at %v, want %v", name, h.looked()[name], want)
			}
		}
		for _, r := range tr.Reports() {
			if (r.State == Down) != (r.Name == "hangs") {
				t.Errorf("%+v", r)
			}
		}
	})
}

// A run that never ends is reported.
func TestOverdue(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		c := check("a") // a script's time limit is the runner's
		h.takes["a"] = 10 * time.Second
		tr.Set([]Check{c})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if want := []string{"3s a down"}; !slices.Equal(h.reported(), want) {
			t.Errorf("%q, want %q", h.reported(), want)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if r := tr.Reports()[0]; r.State != Up {
			t.Errorf("%+v", r)
		}
	})
}

// Many checks are spread over the interval, and each runs once in it.
func TestSpread(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		var all []Check
		for i := range 1000 {
			all = append(all, check(fmt.Sprint(i)))
		}
		tr.Set(all)
		time.Sleep(9999 * time.Millisecond)
		synctest.Wait()
		slots := make(map[int64]int)
		for name, looks := range h.looked() {
			if len(looks) != 10 {
				t.Fatalf("%s was looked at %d times", name, len(looks))
			}
			for _, at := range looks {
				slots[at.Milliseconds()]++
			}
		}
		for slot, n := range slots {
			if n != 1 {
				t.Errorf("%d looks in millisecond %d", n, slot)
			}
		}
	})
}

// The number of checks that run at once has a limit, and checks that hang don't starve others.
func TestManyHang(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		var all []Check
		for i := range 1000 {
			c := check(fmt.Sprint(i))
			h.takes[c.Name] = time.Second
			all = append(all, c)
		}
		tr.Set(all)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if most := h.most(); most != maxScripts {
			t.Errorf("%d at once", most)
		}
		for name, looks := range h.looked() {
			if len(looks) < 4 {
				t.Errorf("%s was looked at %d times", name, len(looks))
			}
		}
	})
}

func TestPoke(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		told, polled := check("told"), check("polled")
		told.Kind, told.Fall, polled.Interval = Interface, 3, time.Minute
		tr.Set([]Check{told, polled})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(h.looked()["told"]) != 1 || len(h.looked()["polled"]) != 1 {
			t.Fatalf("looked at %v", h.looked())
		}
		h.set("told", false)
		h.set("polled", false)
		tr.Poke(func(Check) bool { return true })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want := []string{"0s told up", "5ms polled up", "10s polled down", "12s told down"}
		if !slices.Equal(h.reported(), want) || len(h.looked()["told"]) != 4 {
			t.Errorf("%q, want %q; looked %v", h.reports, want, h.looked())
		}
		// A Poke during a run makes the check run once more.
		h.mu.Lock()
		h.takes["polled"] = 500 * time.Millisecond
		h.mu.Unlock()
		tr.Poke(func(c Check) bool { return c.Name == "polled" })
		time.Sleep(100 * time.Millisecond)
		tr.Poke(func(c Check) bool { return c.Name == "polled" })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(h.looked()["polled"]); n != 4 {
			t.Errorf("looked %d times", n)
		}
	})
}

// Several Pokes for one change count as one result, so that the state has to last as long.
func TestPokesDontHurry(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		told, polled := check("told"), check("polled")
		told.Kind, told.Fall, polled.Kind, polled.Fall = Interface, 3, Process, 3
		tr.Set([]Check{told, polled})
		time.Sleep(9900 * time.Millisecond)
		h.set("told", false)
		h.set("polled", false)
		for range 5 {
			tr.Poke(func(Check) bool { return true })
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		var down []string
		for _, line := range h.reported() {
			if strings.HasSuffix(line, "down") {
				down = append(down, line)
			}
		}
		for _, line := range down {
			at, err := time.ParseDuration(strings.Fields(line)[0])
			if err != nil || at < 11900*time.Millisecond || at > 13100*time.Millisecond {
				t.Errorf("%q, want 2 s to 3.2 s after the change at 9.9s", line)
			}
		}
		if len(down) != 2 {
			t.Errorf("%q", down)
		}
	})
}

func TestSet(t *testing.T) {
	play(t, func(h *host, tr *Tracker) {
		a, b, c := check("a"), check("b"), check("c")
		h.takes["c"] = 900 * time.Millisecond
		tr.Set([]Check{a, b, c})
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		b.Interval = 2 * time.Second
		tr.Set([]Check{a, b}) // c is running
		time.Sleep(1000 * time.Millisecond)
		synctest.Wait()
		reports := tr.Reports()
		if len(reports) != 2 || reports[0].Since.Sub(h.begun) != 0 || reports[1].Since.Sub(h.begun) < 1500*time.Millisecond {
			t.Errorf("%+v", reports)
		}
		if len(h.looked()["a"]) != 3 || len(h.looked()["b"]) != 3 || len(h.looked()["c"]) != 2 {
			t.Errorf("%v", h.looked())
		}
		if want := []string{"0s a up", "5ms b up", "910ms c up", "1.505s b up"}; !slices.Equal(h.reported(), want) {
			t.Errorf("%q, want %q", h.reported(), want)
		}
	})
}

func TestEffect(t *testing.T) {
	for _, c := range []struct {
		kind    Kind
		state   State
		value   int
		weight  int
		reverse bool
		delta   int
		fault   bool
	}{
		{Script, Unknown, 0, 0, false, 0, false},
		{Script, Unknown, 0, 0, true, 0, false},
		{Script, Unknown, 0, 20, false, 0, false},
		{Script, Up, 0, 0, false, 0, false},
		{Script, Down, 0, 0, false, 0, true},
		{Script, Up, 0, 0, true, 0, true},
		{Script, Down, 0, 0, true, 0, false},
		{TCP, Up, 0, 20, false, 20, false},
		{TCP, Down, 0, 20, false, 0, false},
		{TCP, Up, 0, -20, false, 0, false},
		{TCP, Down, 0, -20, false, -20, false},
		{TCP, Up, 0, 20, true, 0, false},
		{TCP, Down, 0, 20, true, 20, false},
		{TCP, Up, 0, -20, true, -20, false},
		{TCP, Down, 0, -20, true, 0, false},
		{File, Up, 0, 0, false, 0, false},
		{File, Up, 1, 0, false, 0, true},
		{File, Up, 1, 0, true, 0, false},
		{File, Up, 0, 0, true, 0, true},
		{File, Down, 0, 0, false, 0, true},
		{File, Down, 7, 1, false, 0, false},
		{File, Up, 7, 1, false, 7, false},
		{File, Up, -7, 3, false, -21, false},
		{File, Up, -7, 3, true, 21, false},
		{File, Up, -127, 2, false, -254, true},
		{File, Up, 1000, 2, false, 2000, false},
	} {
		delta, fault := Effect(Report{Kind: c.kind, State: c.state, Value: c.value}, c.weight, c.reverse)
		if delta != c.delta || fault != c.fault {
			t.Errorf("%+v: %d, %t", c, delta, fault)
		}
	}
}
