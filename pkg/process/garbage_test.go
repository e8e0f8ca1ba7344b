// SPDX-License-Identifier: Apache-2.0

package process

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// There may be as much garbage as goes with what is in use, and not so little that a few
// transitions make it too much; whoever sets GOGC decides.
func TestGarbage(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	percent := func() int {
		is := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(is)
		return int(is[0].Value.Uint64())
	}
	t.Setenv("GOGC", "")
	for _, c := range []struct {
		live uint64
		rare bool
		want int
	}{
		{0, false, garbage},
		{garbageFloor / 4, false, 400},
		{garbageFloor, false, 100},
		{100 * garbageFloor, false, garbage},
		{garbageFloor, true, rareTimes * 100},
		{100 * garbageFloor, true, rareTimes * garbage},
	} {
		if allowGarbage(c.live, c.rare); percent() != c.want {
			t.Errorf("beside %d octets in use: %d %%, want %d %%", c.live, percent(), c.want)
		}
	}
	all := newThreads(t)
	debug.SetGCPercent(garbage - 1)
	if all.Collect(); percent() < garbage {
		t.Errorf("%d %% after a collection", percent())
	}
	t.Setenv("GOGC", "17")
	if debug.SetGCPercent(17); percent() != 17 {
		t.Fatal(percent())
	}
	if all.Collect(); percent() != 17 {
		t.Errorf("%d %%, but GOGC is 17", percent())
	}
}

// What was allowed beside little isn't allowed beside more.
func TestGarbageFollowsUse(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	t.Setenv("GOGC", "")
	newThreads(t).AdjustGarbageLimit()
	allowGarbage(garbageFloor/100, false)
	live := make([]byte, 4*garbageFloor)
	defer runtime.KeepAlive(live)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		is := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		if metrics.Read(is); is[0].Value.Uint64() == garbage {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d %% beside %d octets", is[0].Value.Uint64(), len(live))
		}
	}
}
