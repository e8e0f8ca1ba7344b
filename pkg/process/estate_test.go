// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"testing"
	"time"
)

// What LeaveEstate has left counts once, and only for a moment.
func TestEstate(t *testing.T) {
	dir := t.TempDir()
	read := func() (state string) {
		t.Helper()
		if err := Estate(dir, &state); err != nil {
			t.Fatal(err)
		}
		return state
	}
	leave := func(age time.Duration) {
		t.Helper()
		if err := LeaveEstate(dir, "orders"); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(estatePath(dir), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if state := read(); state != "" {
		t.Errorf("nothing was left, and %q is found", state)
	}
	leave(0)
	if info, err := os.Stat(estatePath(dir)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if state := read(); state != "orders" {
		t.Errorf("found %q", state)
	}
	if state := read(); state != "" {
		t.Errorf("found again: %q", state)
	}
	for _, age := range []time.Duration{2 * estateLasts, -2 * estateLasts} {
		leave(age)
		if state := read(); state != "" {
			t.Errorf("found after %v: %q", age, state)
		}
	}
	if err := os.WriteFile(estatePath(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Estate(dir, new(string)); err == nil {
		t.Error("a damaged one counts")
	}
	leave(0)
	if removed, err := RemoveEstates(dir); err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}
