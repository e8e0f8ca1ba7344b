// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
)

// garbage is how many hundredths of what is in use there may be of what isn't any more,
// and garbageFloor how many octets in any case, unless the environment says so (GOGC). In
// the steady state hardly any comes; but while routers change their state, collecting it
// takes the processors from what they need.
const (
	garbage      = 50
	garbageFloor = 8 << 20
)

// If only the loop is real-time, the collector must not begin by itself: it stops the loop
// until threads have run that aren't. So it is called in time, by tend, and what makes it
// begin is rareTimes as much. The runtime calls it after two minutes, collectEvery is before.
const (
	rareTimes    = 8
	collectEvery = 100 * time.Second
)

// collect collects the garbage, gives the memory back, and lets as much come anew as goes
// with what is in use.
func (t *threads) collect() { t.collectBy(debug.FreeOSMemory) }

func (t *threads) collectBy(collect func()) {
	t.during(func(alone bool) {
		collect()
		t.collected, t.live = time.Now(), heap("/gc/heap/live:bytes")
		allowGarbage(t.live, alone)
	})
}

// tend collects the garbage if it is time while only the loop is real-time.
func (t *threads) tend() {
	t.mu.Lock()
	due := t.is == config.RealtimeAuto && os.Getenv("GOGC") == "" &&
		(time.Since(t.collected) >= collectEvery || heap("/memory/classes/heap/objects:bytes") >= t.live+max(t.live*garbage/100, garbageFloor))
	t.mu.Unlock()
	if due {
		t.collectBy(runtime.GC)
	}
}

// heap reads a measure in octets, 0 if there is none of this name.
func heap(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	if metrics.Read(s); s[0].Value.Kind() == metrics.KindUint64 {
		return s[0].Value.Uint64()
	}
	return 0
}

// allowGarbage says how much there may be beside so many octets in use, before the
// collector begins by itself, which has to be rare or not; 0 in use isn't known.
func allowGarbage(live uint64, rare bool) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent, floor := garbage, garbageFloor
	if rare {
		percent, floor = rareTimes*percent, rareTimes*floor
	}
	if live > 0 {
		percent = max(percent, int(uint64(floor)*100/live))
	}
	debug.SetGCPercent(percent)
}
