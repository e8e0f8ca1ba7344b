// SPDX-License-Identifier: Apache-2.0

package process

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// The limit of garbage follows the memory in use and has a floor, so that a few transitions
// don't start a collection. GOGC overrides it.
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
		{0, false, garbagePercent},
		{minGarbage / 4, false, 400},
		{minGarbage, false, 100},
		{100 * minGarbage, false, garbagePercent},
		{minGarbage, true, rareFactor * 100},
		{100 * minGarbage, true, rareFactor * garbagePercent},
	} {
		if allowGarbage(c.live, c.rare); percent() != c.want {
			t.Errorf("beside %d octets in use: %d %%, want %d %%", c.live, percent(), c.want)
		}
	}
	all := newThreads(t)
	debug.SetGCPercent(garbagePercent - 1)
	if all.Collect(); percent() < garbagePercent {
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

// The limit of the start follows the memory in use.
func TestGarbageOfStart(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	percent := func() uint64 {
		is := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(is)
		return is[0].Value.Uint64()
	}
	t.Setenv("GOGC", "")
	live := make([]byte, 8*minGarbage)
	defer runtime.KeepAlive(live)
	if LimitGarbage(); percent() != startGarbage*100/(4<<20) {
		t.Errorf("%d %% at the start", percent())
	}
	for end := time.Now().Add(20 * time.Second); percent() > startGarbage/(8*minGarbage)*100+100; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(end) {
			t.Fatalf("%d %% after a collection", percent())
		}
	}
}

// The limit for little memory in use is lowered when more is in use.
func TestGarbageFollowsUse(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	t.Setenv("GOGC", "")
	newThreads(t).AdjustGarbageLimit()
	allowGarbage(minGarbage/100, false)
	live := make([]byte, 4*minGarbage)
	defer runtime.KeepAlive(live)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		is := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		if metrics.Read(is); is[0].Value.Uint64() == garbagePercent {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d %% beside %d octets", is[0].Value.Uint64(), len(live))
		}
	}
}
