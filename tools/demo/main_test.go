// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The demo waits until the programs of its routers are unloaded, and for no other program.
func TestWaitUnloaded(t *testing.T) {
	load := func() (*ebpf.Program, ebpf.ProgramID) {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name:         "failover_vrrp",
			Type:         ebpf.XDP,
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
			License:      "BSD",
		})
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, ok := info.ID()
		if !ok {
			t.Fatal("the kernel reports no ID of the program")
		}
		return p, id
	}
	ours, id := load()
	held, err := heldPrograms(os.Getpid())
	if err != nil || !slices.Contains(held, id) {
		t.Fatalf("this process holds %v (%v), not program %d", held, err, id)
	}
	d := &demo{programs: map[ebpf.ProgramID]bool{id: true}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.waitUnloaded(ended); err == nil {
		t.Error("no error, although the program is loaded")
	}
	stranger, _ := load()
	defer stranger.Close()
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.waitUnloaded(t.Context()); err != nil {
		t.Error(err)
	}
}
