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

// The amount of garbage at which a collection starts: garbagePercent of the memory in use,
// and at least minGarbage octets. The environment variable GOGC overrides both. In the
// steady state there is hardly any garbage. But while routers change their state, a
// collection takes processor time that they need.
const (
	garbagePercent = 50
	minGarbage     = 6 << 20
)

// If only the loop is real-time, the runtime should not start a collection by itself,
// because a collection stops the loop until other threads, which aren't real-time, have
// run. So the daemon calls CollectIfDue every CollectCheckInterval, and the limits of the
// runtime are rareFactor times as high. The runtime also starts a collection two minutes
// after the last one, so collectEvery is shorter.
//
// CollectIfDue collects at dueGarbage percent of the memory in use, and at least minGarbage
// octets. It is the lower limit because the runtime keeps as much free memory as its own limit
// allows.
const (
	rareFactor           = 8
	dueGarbage           = 25
	CollectCheckInterval = 5 * time.Second
	collectEvery         = 100 * time.Second
)

// Collect collects the garbage, returns free memory to the kernel, and adjusts the limit of
// garbage to the memory in use.
func (t *Threads) Collect() { t.collectWith(debug.FreeOSMemory) }

func (t *Threads) collectWith(collect func()) {
	t.withoutWaiting(func(alone bool) {
		collect()
		t.collected, t.live = time.Now(), inUse("/gc/heap/live:bytes")
		allowGarbage(inUse(scanned...), alone)
	})
}

// CollectIfDue collects the garbage if only the loop is real-time and a collection is due. If
// none is due, but the last ones have left much free memory, CollectIfDue returns it to the
// kernel.
func (t *Threads) CollectIfDue() {
	t.mu.Lock()
	mine := t.is == config.RealtimeAuto && os.Getenv("GOGC") == ""
	garbage := max(t.live*dueGarbage/100, minGarbage)
	due := time.Since(t.collected) >= collectEvery || inUse("/memory/classes/heap/objects:bytes") >= t.live+garbage
	t.mu.Unlock()
	switch {
	case !mine:
	case due:
		t.collectWith(runtime.GC)
	case inUse("/memory/classes/heap/free:bytes") >= 2*garbage:
		t.Collect()
	}
}

// A mark is garbage at once, so its finalizer runs after each collection.
type mark struct {
	before uint64
	_      *byte // with a pointer the runtime allocates it separately
}

// AdjustGarbageLimit adjusts the limit of garbage after each collection from now on, because
// a percentage for little memory in use is too high for more.
func (t *Threads) AdjustGarbageLimit() {
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

// scanned are the metrics of the memory that the last collection scanned. The percentage of
// garbage relates to their sum.
var scanned = []string{"/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes"}

// inUse returns the sum of runtime metrics in octets. An unknown metric counts as 0.
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

// startGarbage is the garbage in octets at which a collection starts before Collect has run
// for the first time. A start makes garbage, and a collection takes the processors from it.
const startGarbage = 64 << 20

// LimitGarbage sets the limit of garbage for the start. It ends with the first Collect.
func LimitGarbage() {
	if os.Getenv("GOGC") != "" {
		return
	}
	const leastHeap = 4 << 20 // the runtime's least heap is leastHeap*percent/100
	percent := startGarbage * 100 / leastHeap
	debug.SetGCPercent(percent)
	var collected func(*mark)
	collected = func(m *mark) {
		if inUse("/gc/gogc:percent") != uint64(percent) {
			return // Collect has set another one
		}
		percent = min(percent, max(garbagePercent, startGarbage*100/max(1, int(inUse(scanned...)))))
		debug.SetGCPercent(percent)
		runtime.SetFinalizer(m, collected)
	}
	runtime.SetFinalizer(new(mark), collected)
}

// allowGarbage sets the garbage at which the runtime starts a collection, for the given
// octets in use; 0 means that they aren't known. With rare the limit is rareFactor times as
// high.
func allowGarbage(used uint64, rare bool) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent, floor := garbagePercent, minGarbage
	if rare {
		percent, floor = rareFactor*percent, rareFactor*floor
	}
	if used > 0 {
		percent = max(percent, int(uint64(floor)*100/used))
	}
	debug.SetGCPercent(percent)
}
