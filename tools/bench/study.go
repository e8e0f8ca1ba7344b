// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/failoverd/failoverd/tools/bench/bystander"
	"github.com/failoverd/failoverd/tools/bench/checks"
	"github.com/failoverd/failoverd/tools/bench/fence"
	"github.com/failoverd/failoverd/tools/lab"
)

// study is an experiment with a table of its own. It runs only where --only names it.
type study struct {
	name string
	peer bool // it needs keepalived
	run  func(ctx context.Context, b *bench, binary string) error
}

func studies() []study {
	fenced := func(ipv6 bool) func(context.Context, *bench, string) error {
		return func(ctx context.Context, b *bench, binary string) error {
			return fence.Measure(ctx, fence.Options{Failoverd: binary, Keepalived: b.keepalived, Rounds: cmp.Or(b.rounds, 5), Who: b.who, IPv6: ipv6})
		}
	}
	return []study{
		{"Fence", true, fenced(false)},
		{"Fence over IPv6", true, fenced(true)},
		{"Bystander", false, func(ctx context.Context, b *bench, binary string) error {
			return bystander.Measure(ctx, bystander.Options{Failoverd: binary, Rounds: cmp.Or(b.rounds, 40), Who: b.who, Long: b.window(250 * time.Millisecond)})
		}},
		{"Checks", true, func(ctx context.Context, b *bench, binary string) error {
			return checks.Measure(ctx, checks.Options{Failoverd: binary, Keepalived: b.keepalived, Who: b.who, Long: b.window(20 * time.Second)})
		}},
	}
}

// studies returns the studies that --only names.
func (b *bench) studies() (all []study) {
	for _, s := range studies() {
		if b.only.String() != "" && b.only.MatchString(s.name) {
			all = append(all, s)
		}
	}
	return all
}

// study runs the chosen studies.
func (b *bench) study(ctx context.Context, chosen []study, failoverd string) error {
	for _, s := range chosen {
		var peers []string
		if s.peer {
			peers = append(peers, b.keepalived)
		}
		binary, err := lab.Needs(failoverd, peers...)
		if err != nil {
			return err
		}
		if err := s.run(ctx, b, binary); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
