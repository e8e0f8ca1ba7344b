// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/hostdir"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// DefaultStateDir is the directory of the orders that hold beyond a restart.
const DefaultStateDir = "/var/lib/failoverd"

// administrator is the name of the administrator's orders as a source of faults and weights.
const administrator = "administrator"

// orders are the administrator's orders, by the name of the router.
type orders struct {
	Maintenance map[string]bool `json:"maintenance"`
	Priority    map[string]int  `json:"priority"`
}

func noOrders() orders {
	return orders{Maintenance: make(map[string]bool), Priority: make(map[string]int)}
}

func (o orders) clone() orders {
	return orders{Maintenance: maps.Clone(o.Maintenance), Priority: maps.Clone(o.Priority)}
}

func (o orders) equal(p orders) bool {
	return maps.Equal(o.Maintenance, p.Maintenance) && maps.Equal(o.Priority, p.Priority)
}

// orderBook has the orders in force, and the subset of them that holds beyond a restart.
type orderBook struct {
	path    string // of the file with the lasting orders
	current orders
	lasting orders
}

// openOrderBook reads the lasting orders of earlier runs.
func openOrderBook(dir string) (*orderBook, error) {
	b := &orderBook{path: filepath.Join(dir, "orders.json"), current: noOrders(), lasting: noOrders()}
	err := hostdir.Check(dir)
	var content []byte
	if err == nil {
		content, err = os.ReadFile(b.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err == nil {
		if wrong := json.Unmarshal(content, &b.lasting); wrong != nil {
			err = fmt.Errorf("%w; remove %s to discard these orders", wrong, b.path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the orders of failoverctl maintenance --persist and failoverctl priority --persist: %w", err)
	}
	maps.Copy(b.current.Maintenance, b.lasting.Maintenance)
	maps.Copy(b.current.Priority, b.lasting.Priority)
	return b, nil
}

// restore takes over the orders in force of the process before, if there was one. They replace the
// lasting ones: an order that lasts may have been lifted until the next start.
func (b *orderBook) restore(before *orders) {
	if before != nil {
		b.current = before.clone()
	}
}

// accept puts an order into force; if it lasts, it also writes it to the file. If writing fails,
// the order isn't put into force.
func (b *orderBook) accept(routers []config.Router, lasts bool, change func(config.Router, *orders)) error {
	current, lasting := b.current.clone(), b.lasting.clone()
	for _, r := range routers {
		change(r, &current)
		if lasts {
			change(r, &lasting)
		}
	}
	if !lasting.equal(b.lasting) {
		if err := b.save(lasting); err != nil {
			return fmt.Errorf("save the order: %w", err)
		}
	}
	b.current, b.lasting = current, lasting
	return nil
}

// save replaces the file of the lasting orders atomically: after a crash it has either the old or
// the new orders.
func (b *orderBook) save(lasting orders) (err error) {
	if len(lasting.Maintenance) == 0 && len(lasting.Priority) == 0 {
		if err := os.Remove(b.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	content, err := json.MarshalIndent(lasting, "", "  ")
	if err != nil {
		return err
	}
	if err := hostdir.Make(filepath.Dir(b.path)); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(b.path), ".orders-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(content, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), b.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// apply updates the conditions of routers according to the orders.
func (b *orderBook) apply(c *conditions, routers []config.Router) {
	for _, r := range routers {
		cause := vrrp.CauseNone
		if b.current.Maintenance[r.Name] {
			cause = vrrp.CauseMaintenance
		}
		c.SetFault(r.Name, administrator, cause, "")
		weight := 0
		if p, ok := b.current.Priority[r.Name]; ok {
			weight = p - r.Priority
		}
		c.SetWeight(r.Name, administrator, weight)
	}
}

// reload discards the orders that hold only until a reload. Orders for a removed router are
// discarded too unless they last, because the router may return to the file.
func (b *orderBook) reload(c *conditions, before, after []config.Router) {
	b.current.Priority = maps.Clone(b.lasting.Priority)
	for _, r := range before {
		if !slices.ContainsFunc(after, func(o config.Router) bool { return o.Name == r.Name }) {
			if !b.lasting.Maintenance[r.Name] {
				delete(b.current.Maintenance, r.Name)
			}
			c.SetFault(r.Name, administrator, vrrp.CauseNone, "")
			c.SetWeight(r.Name, administrator, 0)
		}
	}
	b.apply(c, after)
}

// routersNamed returns the configured router of a name, or all routers for an empty name.
func (d *instance) routersNamed(name string) ([]config.Router, error) {
	if name == "" {
		return d.file.Routers, nil
	}
	var names []string
	for _, r := range d.file.Routers {
		if r.Name == name {
			return []config.Router{r}, nil
		}
		names = append(names, r.Name)
	}
	return nil, fmt.Errorf("there is no router %q: the routers are %s", name, strings.Join(names, ", "))
}

// Maintenance takes routers out of service, or puts them back.
func (d *instance) Maintenance(ctx context.Context, name string, on, persist bool) ([]string, error) {
	return d.giveOrder(ctx, name, persist || !on, func(r config.Router, o *orders) {
		if delete(o.Maintenance, r.Name); on {
			o.Maintenance[r.Name] = true
		}
	}, fmt.Sprintf("maintenance %s", map[bool]string{true: "on", false: "off"}[on]))
}

// SetPriority sets the priority of a router until a reload; 0 restores the configured one.
func (d *instance) SetPriority(ctx context.Context, name string, priority int, persist bool) ([]string, error) {
	if priority < 0 || priority >= config.OwnerPriority {
		return nil, fmt.Errorf("priority %d is out of range: use 1 to 254", priority)
	}
	what := fmt.Sprintf("priority %d", priority)
	if priority == 0 {
		what = "the configured priority"
	}
	return d.giveOrder(ctx, name, persist || priority == 0, func(r config.Router, o *orders) {
		if delete(o.Priority, r.Name); priority > 0 {
			o.Priority[r.Name] = priority
		}
	}, what)
}

// giveOrder carries out an order, and returns when the routers follow it. An order that cancels
// another one always lasts, so that it also cancels a lasting one.
func (d *instance) giveOrder(ctx context.Context, name string, lasts bool, change func(config.Router, *orders), what string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	routers, err := d.routersNamed(name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range routers {
		if r.Priority == config.OwnerPriority && strings.Contains(what, "priority") {
			return nil, fmt.Errorf("%s: the priority of an address owner (255) can't be changed", r.Name)
		}
		names = append(names, r.Name)
	}
	if err := d.book.accept(routers, lasts, change); err != nil {
		return nil, err
	}
	d.book.apply(d.keeper.conditions, routers)
	for _, n := range names {
		d.log.WithField("router", n).Warnf("order of the administrator: %s", what)
		d.history.Add(control.Event{Kind: "order", Name: n, Text: what})
	}
	return names, d.settle(ctx)
}

// settle waits until the keeper has acted on all faults and weights set so far.
func (d *instance) settle(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case d.keeper.settling <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		d.dropCache()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HandOver makes the Active Virtual Routers of a configured router release their addresses to
// another host, until that host is gone.
func (d *instance) HandOver(ctx context.Context, name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if name == "" {
		return nil, errors.New("the name of the router is missing")
	}
	routers, err := d.routersNamed(name)
	if err != nil {
		return nil, err
	}
	r := routers[0]
	if r.Priority == config.OwnerPriority {
		return nil, fmt.Errorf("%s: an address owner (priority 255) is always Active; failoverctl maintenance on %s takes it out of service", name, name)
	}
	handed := false
	for _, f := range plan.Families(&r) {
		id := router.ID{Interface: r.Interface, Family: f, VRID: uint8(r.VRID)}
		s, ok, err := d.loop.StatusOf(id)
		if err != nil {
			return nil, err
		}
		if ok && s.Protocol.State == vrrp.Active {
			handed = true
			if err := d.loop.Relinquish(id, vrrp.CauseHandedOver, ""); err != nil {
				return nil, err
			}
		}
	}
	d.dropCache()
	if !handed {
		return nil, fmt.Errorf("%s isn't Active on this host, so there is nothing to hand over", name)
	}
	d.history.Add(control.Event{Kind: "order", Name: name, Text: "handed over"})
	return []string{name}, nil
}
