// SPDX-License-Identifier: Apache-2.0

//go:build !kernels

// This test needs iproute2, which the machines of make test-kernels don't have.

package link

import (
	"slices"
	"testing"
	"time"
)

// An interface that gets the index of a removed one isn't the same interface.
func TestMonitorTellsApart(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	m := newMonitor(t, n)
	ip := func(commands string) {
		t.Helper()
		if _, err := n.Run(t.Context(), "sh", "-c", "printf '"+commands+"' | ip -batch -"); err != nil {
			t.Fatal(err)
		}
	}
	picture := func(want func(i *Interface) bool) Interface {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
			for _, i := range m.Snapshot() {
				if i.Index == 4711 && want(&i) {
					return i
				}
			}
		}
		t.Fatal("the picture doesn't change")
		return Interface{}
	}
	const add = `link add other0 index 4711 type bridge\n`
	ip(add)
	first := picture(func(*Interface) bool { return true })
	ip(`link del other0\n` + add)
	picture(func(i *Interface) bool { return !i.Is(&first) })
	if all, err := h.Interfaces(); err != nil || slices.ContainsFunc(all, func(i Interface) bool { return i.Generation != 0 }) {
		t.Errorf("%v, %v", all, err)
	}
}
