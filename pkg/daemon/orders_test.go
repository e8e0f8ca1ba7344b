// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

func newBook(t *testing.T, dir string) *orderBook {
	t.Helper()
	b, err := openOrderBook(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func maintain(r config.Router, o *orders) { o.Maintenance[r.Name] = true }

func demote(r config.Router, o *orders) { o.Priority[r.Name] = 50 }

// An order that can't be saved isn't in force; given again, it is saved.
func TestOrderNotWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	routers := []config.Router{{Name: "a", Priority: 100}}
	b := newBook(t, dir)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.accept(routers, true, maintain); err == nil {
			t.Fatal("saved although the directory is a file")
		}
		if b.current.Maintenance["a"] || b.lasting.Maintenance["a"] {
			t.Errorf("the order is in force all the same: %+v", b)
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := b.accept(routers, true, maintain); err != nil {
		t.Fatal(err)
	}
	if again := newBook(t, dir); !again.current.Maintenance["a"] {
		t.Errorf("the order is lost after a restart: %+v", again)
	}
}

// A lasting order still holds for a router that was out of the configuration for a while; another
// one is discarded.
func TestOrdersOfARouterThatComesBack(t *testing.T) {
	out := []config.Router{{Name: "other", Priority: 100}}
	in := append([]config.Router{{Name: "a", Priority: 100}}, out...)
	for _, lasts := range []bool{true, false} {
		b, c := newBook(t, t.TempDir()), newConditions()
		for _, change := range []func(config.Router, *orders){maintain, demote} {
			if err := b.accept(in[:1], lasts, change); err != nil {
				t.Fatal(err)
			}
		}
		b.apply(c, in)
		if got := c.first("a").cause; got != vrrp.CauseMaintenance || c.Priority(in[0]) != 50 {
			t.Fatalf("the order has no effect: %v, %d", got, c.Priority(in[0]))
		}
		b.reload(c, in, out)
		if got := c.first("a").cause; got != vrrp.CauseNone {
			t.Errorf("a removed router still has the fault %v", got)
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

// When all orders are cancelled, the file is removed.
func TestOrdersTakenBack(t *testing.T) {
	dir := t.TempDir()
	routers := []config.Router{{Name: "a", Priority: 100}}
	b := newBook(t, dir)
	if err := b.accept(routers, true, maintain); err != nil {
		t.Fatal(err)
	}
	if err := b.accept(routers, true, func(r config.Router, o *orders) { delete(o.Maintenance, r.Name) }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.path); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// A successor has the orders in force, also where they differ from those that last.
func TestOrdersOfThePredecessor(t *testing.T) {
	dir := t.TempDir()
	web, mail := []config.Router{{Name: "web"}}, []config.Router{{Name: "mail"}}
	before := newBook(t, dir)
	err := errors.Join(before.accept(web, true, maintain), before.accept(mail, false, maintain),
		before.accept(web, false, func(r config.Router, o *orders) { delete(o.Maintenance, r.Name) }))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(estate{Orders: &before.current})
	if err != nil {
		t.Fatal(err)
	}
	var e estate
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	after := newBook(t, dir)
	after.restore(new(estate).Orders)
	if !after.current.Maintenance["web"] {
		t.Error("without a predecessor a lasting order isn't in force")
	}
	after.restore(e.Orders)
	if !after.current.equal(before.current) {
		t.Errorf("in force are %v, before %v", after.current, before.current)
	}
}
