// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"
)

const (
	octets  = "log"
	answers = "answers"
	rate    = "rate"
)

func floodExperiments() []experiment {
	return []experiment{
		{
			name: "Flood of bad packets", quick: true, cost: 7 * time.Second,
			rows: []row{
				{key: falsely, name: "Flood of invalid, foreign and forged packets: false transitions", target: atMost(0)},
				{key: cpu, name: "The same: CPU of the daemon", unit: "% of a core", target: atMost(1)},
				{key: octets, name: "The same: log in 10 s", unit: "kB", target: atMost(100)},
				{key: rate, name: "The same: rate of the sender", unit: "thousand packets/s"},
			},
			run: flood(badFrames),
		},
		{
			name: "Flood of lower priority", cost: 7 * time.Second,
			rows: []row{
				{key: falsely, name: "Flood of good advertisements of lower priority: false transitions", target: atMost(0)},
				{key: cpu, name: "The same: CPU of the daemon", unit: "% of a core", target: atMost(10)},
				{key: answers, name: "The same: answers", unit: "packets/s", target: atMost(110)},
				{key: octets, name: "The same: log in 10 s", unit: "kB"},
				{key: rate, name: "The same: rate of the sender", unit: "thousand packets/s"},
			},
			run: flood(lowerFrames),
		},
	}
}

// flood measures a daemon that is Active of one router and Backup of another, while the wire
// sends frames as fast as it can.
func flood(frames func(active router) ([][]byte, error)) func(context.Context, *bench, *contender) (values, error) {
	return func(ctx context.Context, b *bench, c *contender) (v values, err error) {
		s, err := newSite(1, true)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		const interval = 100 * time.Millisecond
		routers := grid(1, 2, 100, interval)
		d, err := c.settled(ctx, s, routers, alike)
		if err != nil {
			return nil, err
		}
		if _, err := s.play(routers[1:]); err != nil {
			return nil, err
		}
		if err := d.allBackup(ctx, s.wire, routers[1:]); err != nil {
			return nil, err
		}
		t, err := s.tap(s.wire, false, 0)
		if err != nil {
			return nil, err
		}
		bad, err := frames(routers[0])
		if err != nil {
			return nil, err
		}
		before, err := d.Usage()
		if err != nil {
			return nil, err
		}
		logged := len(d.Output())
		const asFastAsItCan = 1 << 30
		blast, err := s.wire.Blast(portName(0), bad, asFastAsItCan, b.window(7*time.Second))
		if err != nil {
			return nil, err
		}
		after, err := d.Usage()
		if err != nil {
			return nil, err
		}
		span := blast.Duration().Seconds()
		v = values{
			cpu:    100 * (after.CPU - before.CPU).Seconds() / span,
			octets: float64(len(d.Output())-logged) / 1e3 * 10 / span,
			rate:   float64(blast.Frames) / span / 1e3,
		}
		seen := t.since(0)
		mine := slices.DeleteFunc(slices.Clone(seen), func(s sighting) bool { return s.kind != advertisement || s.vrid != 1 })
		others := slices.DeleteFunc(seen, func(s sighting) bool { return s.vrid == 1 })
		v[answers] = float64(len(mine)) / span
		// The first episode of the Active is no transition.
		v[falsely] = float64(len(episodes(others, 3*interval)) + max(len(episodes(mine, 3*interval)), 1) - 1)
		if len(mine) == 0 {
			v[falsely]++
		}
		return v, nil
	}
}

// badFrames returns advertisements with one fault each: the checksum, the TTL, the version, the
// length, a foreign VRID, and the host's own source address.
func badFrames(r router) ([][]byte, error) {
	peer, own := netip.MustParseAddr(address(r.port, 0, 3)), netip.MustParseAddr(address(r.port, 0, 1))
	const priority, ttl, message = 100, 14 + 8, 14 + 20
	var all [][]byte
	add := func(r router, source netip.Addr, spoil func(f []byte)) error {
		f, err := r.frame(priority, source)
		if err != nil {
			return err
		}
		spoil(f)
		binary.BigEndian.PutUint16(f[24:], 0)
		binary.BigEndian.PutUint16(f[24:], headerSum(f[14:34]))
		all = append(all, f)
		return nil
	}
	foreign := r
	foreign.vrid = 77
	return all, errors.Join(
		add(r, peer, func(f []byte) { f[message+7] ^= 0xff }),
		add(r, peer, func(f []byte) { f[ttl] = 254 }),
		add(r, peer, func(f []byte) { f[message] = 0x51 }),
		add(r, peer, func(f []byte) { binary.BigEndian.PutUint16(f[16:], 24) }),
		add(foreign, peer, func([]byte) {}),
		add(r, own, func([]byte) {}),
	)
}

// headerSum returns the checksum (RFC 1071) of an IPv4 header whose checksum field is zero.
func headerSum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// lowerFrames returns a valid advertisement of a lower priority.
func lowerFrames(r router) ([][]byte, error) {
	f, err := r.frame(50, netip.MustParseAddr(address(r.port, 0, 3)))
	return [][]byte{f}, err
}
