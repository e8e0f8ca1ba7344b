// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

func newBook(t *testing.T, dir string) *book {
	t.Helper()
	b, err := openBook(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func maintain(r config.Router, o *orders) { o.Maintenance[r.Name] = true }

func demote(r config.Router, o *orders) { o.Priority[r.Name] = 50 }

// An order that can't be written down is none: said again, it is written.
func TestOrderNotWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	routers := []config.Router{{Name: "a", Priority: 100}}
	b := newBook(t, dir)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.take(routers, true, maintain); err == nil {
			t.Fatal("written into what isn't a directory")
		}
		if b.current.Maintenance["a"] || b.lasting.Maintenance["a"] {
			t.Errorf("it holds all the same: %+v", b)
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := b.take(routers, true, maintain); err != nil {
		t.Fatal(err)
	}
	if again := newBook(t, dir); !again.current.Maintenance["a"] {
		t.Errorf("it is forgotten after a restart: %+v", again)
	}
}

// What lasts holds for a router that was out of the configuration for a while; what
// doesn't is forgotten.
func TestOrdersOfARouterThatComesBack(t *testing.T) {
	out := []config.Router{{Name: "other", Priority: 100}}
	in := append([]config.Router{{Name: "a", Priority: 100}}, out...)
	for _, lasts := range []bool{true, false} {
		b, c := newBook(t, t.TempDir()), newConditions()
		for _, change := range []func(config.Router, *orders){maintain, demote} {
			if err := b.take(in[:1], lasts, change); err != nil {
				t.Fatal(err)
			}
		}
		b.obey(c, in)
		if got := c.first("a").cause; got != vrrp.CauseMaintenance || c.Priority(in[0]) != 50 {
			t.Fatalf("not obeyed: %v, %d", got, c.Priority(in[0]))
		}
		b.reload(c, in, out)
		if got := c.first("a").cause; got != vrrp.CauseNone {
			t.Errorf("a router that is no more: %v", got)
		}
		b.reload(c, out, in)
		want, priority := vrrp.CauseNone, 100
		if lasts {
			want, priority = vrrp.CauseMaintenance, 50
		}
		if got := c.first("a").cause; got != want || c.Priority(in[0]) != priority {
			t.Errorf("lasts %v: %v, priority %d", lasts, got, c.Priority(in[0]))
		}
	}
}

// What is taken back leaves no file.
func TestOrdersTakenBack(t *testing.T) {
	dir := t.TempDir()
	routers := []config.Router{{Name: "a", Priority: 100}}
	b := newBook(t, dir)
	if err := b.take(routers, true, maintain); err != nil {
		t.Fatal(err)
	}
	if err := b.take(routers, true, func(r config.Router, o *orders) { delete(o.Maintenance, r.Name) }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.path); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
