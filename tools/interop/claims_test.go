// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var zero = time.Unix(1000, 0)

// at returns the moment after some milliseconds.
func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

// wire parses advertisements like "a0 a1000 b1200 a1200-": the router and the moment in
// milliseconds, with a minus sign for priority 0.
func wire(t *testing.T, text string) []advert {
	t.Helper()
	var all []advert
	for _, f := range strings.Fields(text) {
		a := advert{who: f[:1], priority: 100, interval: time.Second}
		number, left := strings.CutSuffix(f[1:], "-")
		if left {
			a.priority = 0
		}
		ms, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		a.at = at(ms)
		all = append(all, a)
	}
	return all
}

// summary returns claims as a text like "a0-2000 left, b2600-4600".
func summary(all []claim) string {
	var parts []string
	for _, c := range all {
		text := fmt.Sprintf("%s%d-%d", c.who, c.from.Sub(zero).Milliseconds(), c.to.Sub(zero).Milliseconds())
		if c.left {
			text += " left"
		}
		if c.pulled {
			text += " pulled"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func TestClaims(t *testing.T) {
	pull := []apart{{"a", at(2001), at(7000)}}
	split := []apart{{"", at(-100), at(4500)}}
	for _, c := range []struct {
		name, wire string
		aparts     []apart
		claims     string
		two, none  int // ms
		end        int
		final      string
	}{
		{"nobody", "", nil, "", 0, 0, 0, "[]"},
		{"one", "a0 a1000 a2000", nil, "a0-2000", 0, 0, 2100, "[a]"},
		{"late", "a0 a1000 a3500", nil, "a0-3500", 0, 0, 4000, "[a]"},
		{"late alone", "b0 b500- a1000 a6000", nil, "b0-500 left, a1000-6000", 0, 500, 6100, "[a]"},
		{"late beside another", "a0 b100 b1100 a2500 b3100", nil, "a0-2500, b100-3100", 2400, 0, 3200, "[a b]"},
		{"silent for too long", "a0 a5001", nil, "a0-0, a5001-5001", 0, 5001, 5100, "[a]"},
		{"silent beside another", "a0 b1000 a2501", nil, "a0-0, b1000-1000, a2501-2501", 0, 0, 2600, "[a b]"},
		{"leaves", "a0 a1000 a1500- b2100 b3100", nil, "a0-1500 left, b2100-3100", 0, 600, 3200, "[b]"},
		{"leaves twice", "a0 a500- a501- b1100", nil, "a0-500 left, b1100-1100", 0, 600, 1200, "[b]"},
		{"leaves unclaimed", "a0- b1100", nil, "b1100-1100", 0, 0, 1200, "[b]"},
		{"yields", "a0 a1000 b1400 b2400", nil, "a0-1000, b1400-2400", 0, 0, 3501, "[b]"},
		{"falls silent", "a0 a1000 b4600", nil, "a0-1000, b4600-4600", 0, 3600, 4700, "[b]"},
		{"one exchange", "a0 a1000 b1400 a2000 b2400", nil, "a0-2000, b1400-2400", 600, 0, 4501, "[b]"},
		{"both to the end", "a0 b500 a1000 b1500 a2000 b2500", nil, "a0-2000, b500-2500", 1500, 0, 2600, "[a b]"},
		{"a rival for a moment", "a0 b500 a1000 a2000 a3001", nil, "a0-3001, b500-500", 0, 0, 3100, "[a]"},
		{"a rival comes again", "a0 b500 a1000 a2000 a3000 b3100", nil, "a0-3000, b500-500, b3100-3100", 0, 0, 3100, "[a b]"},
		{"pulled", "a0 a1000 a2000 b5600 b6600 a7100 a8100 a9100", pull, "a0-2000 pulled, b5600-6600, a7100-9100", 0, 3600, 9101, "[a]"},
		{"pulled to the end", "a0 a1000 a2000 b3000", pull, "a0-2000 pulled, b3000-3000", 0, 1000, 3100, "[b]"},
		{"isolated, then connected", "a0 b200 a1000 b1200 a2000 b2200 a3000 b3200 a4000 b4200 a5000 b5200", split, "a0-5000, b200-5200", 500, 0, 7501, "[b]"},
	} {
		all := claims(wire(t, c.wire), c.aparts)
		if got := summary(all); got != c.claims {
			t.Errorf("%s: claims %s, want %s", c.name, got, c.claims)
		}
		if got := two(all, c.aparts).Milliseconds(); got != int64(c.two) {
			t.Errorf("%s: two for %d ms, want %d", c.name, got, c.two)
		}
		var longest time.Duration
		for n := range all {
			longest = max(longest, none(all, n))
		}
		if got := longest.Milliseconds(); got != int64(c.none) {
			t.Errorf("%s: none for %d ms, want %d", c.name, got, c.none)
		}
		if got := fmt.Sprint(finally(all, at(c.end))); got != c.final {
			t.Errorf("%s: at the end %s, want %s", c.name, got, c.final)
		}
	}
}

func TestUnmute(t *testing.T) {
	all := unmute(claims(wire(t, "a0 b500 a1000 a2000 a3000 b3500 a4000"), nil), "b", at(4200))
	if got, want := summary(all), "a0-4000, b500-4200"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := unmute(nil, "b", at(1)); len(got) != 0 {
		t.Errorf("got %v, want no claim", got)
	}
}

func TestTogether(t *testing.T) {
	aparts := []apart{{"", at(1000), at(1500)}, {"a", at(3000), at(9000)}}
	for _, c := range []struct{ from, to, want int }{
		{0, 900, 900}, {0, 1200, 1000}, {0, 4000, 1500}, {1100, 1400, 0}, {1600, 2000, 400}, {4000, 5000, 0}, {2000, 1000, 0}, {8000, 9900, 900},
	} {
		if got := together(at(c.from), at(c.to), aparts).Milliseconds(); got != int64(c.want) {
			t.Errorf("from %d to %d: %d ms, want %d", c.from, c.to, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	good := expectation{
		turns:  []turn{{who: "a"}, {who: "b", min: 500 * time.Millisecond, max: 600 * time.Millisecond}},
		final:  []string{"b"},
		leaves: true,
	}
	for _, c := range []struct {
		name, wire string
		change     func(*expectation)
		want       string
	}{
		{"right", "a0 a1000- b1600", nil, ""},
		{"noise", "a0 a1000- b2600", nil, ""},
		{"too late", "a0 a1000- b2601", nil, "no Active for 1.601s before b"},
		{"too early", "a0 a1000- b1400", nil, "earlier than 500ms"},
		{"not left", "a0 b2600", nil, "the first Active did not leave with priority 0"},
		{"wrong order", "b0 b1000- a1600", nil, `the sequence of Actives is "b, a", want "a, b"`},
		{"one too many", "a0 b10 b11- a1000- b1600", nil, `the sequence of Actives is "a, b, b"`},
		{"wrong end", "a0 a1000- b1600", func(e *expectation) { e.final = []string{"a"} }, "Active at the end: [b], want [a]"},
		{"two", "a0 b100 a1000- b1100", func(e *expectation) { e.turns[1].min = 0 }, "two Actives for 900ms"},
		{"two too short", "a0 b900 a1000- b1900", func(e *expectation) {
			e.turns[1].min, e.maxTwo, e.minTwo = 0, time.Hour, time.Second
		}, "two Actives for only 100ms"},
	} {
		e := good
		e.turns, e.final = slices.Clone(good.turns), slices.Clone(good.final)
		if c.change != nil {
			c.change(&e)
		}
		adverts := wire(t, c.wire)
		var v verdict
		v.judge(e, claims(adverts, nil), nil, adverts[len(adverts)-1].at)
		got := strings.Join(v.problems, "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
