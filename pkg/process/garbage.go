// SPDX-License-Identifier: Apache-2.0

package process

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
	garbageFloor = 6 << 20
)

// If only the loop is real-time, the collector must not begin by itself: it stops the loop
// until threads have run that aren't. So it is called in time, by CollectIfDue each CollectCheckInterval,
// and what makes it begin is rareTimes as much. The runtime calls it after two minutes,
// collectEvery is before.
const (
	rareTimes            = 8
	CollectCheckInterval = 5 * time.Second
	collectEvery         = 100 * time.Second
)

// Collect collects the garbage, gives the memory back, and lets as much come anew as goes
// with what is in use.
func (t *Threads) Collect() { t.collectBy(debug.FreeOSMemory) }

func (t *Threads) collectBy(collect func()) {
	t.during(func(alone bool) {
		collect()
		t.collected, t.live = time.Now(), inUse("/gc/heap/live:bytes")
		allowGarbage(inUse(scanned...), alone)
	})
}

// CollectIfDue collects the garbage if it is time while only the loop is real-time.
func (t *Threads) CollectIfDue() {
	t.mu.Lock()
	due := t.is == config.RealtimeAuto && os.Getenv("GOGC") == "" &&
		(time.Since(t.collected) >= collectEvery || inUse("/memory/classes/heap/objects:bytes") >= t.live+max(t.live*garbage/100, garbageFloor))
	t.mu.Unlock()
	if due {
		t.collectBy(runtime.GC)
	}
}

// AdjustGarbageLimit has the allowed garbage follow what is in use after each collection: what was
// allowed beside little would be too much beside more.
func (t *Threads) AdjustGarbageLimit() {
	type mark struct { // it is garbage at once
		before uint64
		_      *byte // so that it isn't allocated together with others
	}
	var collected func(*mark)
	collected = func(m *mark) {
		if now := inUse(scanned...); now > m.before+m.before/8 || now < m.before-m.before/8 {
			m.before = now
			t.mu.Lock()
			allowGarbage(now, t.is == config.RealtimeAuto)
			t.mu.Unlock()
		}
		runtime.SetFinalizer(m, collected)
	}
	runtime.SetFinalizer(new(mark), collected)
}

// scanned are the measures of what the collector goes through, and measures the garbage by,
// as of the last collection.
var scanned = []string{"/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes"}

// inUse sums up measures in octets. One that there isn't is 0.
func inUse(names ...string) (sum uint64) {
	all := make([]metrics.Sample, len(names))
	for i, name := range names {
		all[i].Name = name
	}
	metrics.Read(all)
	for _, s := range all {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}

// LimitGarbage says how much garbage there may be while it isn't known how much is in use.
func LimitGarbage() { allowGarbage(0, false) }

// allowGarbage says how much there may be beside so many octets in use, before the
// collector begins by itself, which has to be rare or not; 0 in use isn't known.
func allowGarbage(used uint64, rare bool) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent, floor := garbage, garbageFloor
	if rare {
		percent, floor = rareTimes*percent, rareTimes*floor
	}
	if used > 0 {
		percent = max(percent, int(uint64(floor)*100/used))
	}
	debug.SetGCPercent(percent)
}
