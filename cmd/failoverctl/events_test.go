// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"
)

// The forms of --since.
func TestMoment(t *testing.T) {
	zone := time.FixedZone("", 2*60*60)
	now := time.Date(2026, 5, 6, 14, 45, 30, 0, zone)
	for word, want := range map[string]string{
		"10m":                  "2026-05-06T14:35:30+02:00",
		"36h":                  "2026-05-05T02:45:30+02:00",
		"14:30":                "2026-05-06T14:30:00+02:00",
		"14:30:05":             "2026-05-06T14:30:05+02:00",
		"2026-05-01":           "2026-05-01T00:00:00+02:00",
		"2026-05-01 09:10":     "2026-05-01T09:10:00+02:00",
		"2026-05-01 09:10:11":  "2026-05-01T09:10:11+02:00",
		"2026-05-01T09:10:11":  "2026-05-01T09:10:11+02:00",
		"2026-05-01T09:10:11Z": "2026-05-01T09:10:11Z",
	} {
		if got, err := parseSince(word, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v, want %s", word, got, err, want)
		}
	}
	for _, word := range []string{"-10m", "yesterday", "25:00", "10"} {
		if got, err := parseSince(word, now); err == nil {
			t.Errorf("%q is %v", word, got)
		}
	}
}

// events filters by name, time and kind.
func TestChosenEvents(t *testing.T) {
	socket := serve(t, fake{})
	for args, want := range map[string]string{
		"":                                "1 2 3 4",
		"web":                             "1 2",
		"web site":                        "1 2 3",
		"nobody":                          "",
		"--kind track,failure":            "3 4",
		"--kind track --kind reload":      "2 3",
		"--since 2026-01-02T03:30:00Z":    "3 4",
		"--since 2026-01-02T03:04:05.01Z": "2 3 4",
		"web --kind transition":           "1",
		"web --after 1":                   "2",
	} {
		code, out, errs := call(t, append(strings.Fields("events --socket "+socket), strings.Fields(args)...)...)
		var got []string
		for line := range strings.Lines(out) {
			got = append(got, strings.Fields(line)[0])
		}
		if code != 0 || strings.Join(got, " ") != want {
			t.Errorf("events %s: %v, want %s; exit code %d: %s", args, got, want, code, errs)
		}
	}
}
