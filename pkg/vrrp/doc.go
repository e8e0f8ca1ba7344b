// SPDX-License-Identifier: Apache-2.0

// Package vrrp is the state machine of a Virtual Router: RFC 9568 §6.4 with its
// verified errata for version 3, RFC 3768 §6.4 for version 2.
//
// It is pure: time is a parameter, actions are values, and the time of the next
// timer is published as a deadline. It uses no sockets and no clocks, starts no
// goroutine and writes no log. So the same code runs on a live network and in a
// simulation.
//
// The caller owns the clock:
//
//	for {
//		deadline, ok := r.Deadline()
//		select {
//		case p := <-received:
//			// The time of an advertisement is when the kernel received it.
//			actions = r.Step(p.At, vrrp.Event{Kind: vrrp.Receive, ...}, actions[:0])
//		case <-at(deadline, ok):
//			// First hand over everything that was received before now.
//			actions = r.Step(now(), vrrp.Event{Kind: vrrp.TimerExpired}, actions[:0])
//		}
//		for _, a := range actions {
//			perform(a) // in order
//		}
//	}
//
// A Router isn't safe for concurrent use.
package vrrp
