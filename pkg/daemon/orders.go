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

// DefaultStateDir is where orders are kept that hold beyond a restart.
const DefaultStateDir = "/var/lib/failoverd"

// administrator is the source of conditions that are orders.
const administrator = "administrator"

// orders are what the administrator has said about configured routers, by name.
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

// book keeps the orders: all of them, and those that hold beyond a restart.
type book struct {
	path    string // of the file that those are in
	current orders
	lasting orders
}

// openBook reads the orders of earlier runs.
func openBook(dir string) (*book, error) {
	b := &book{path: filepath.Join(dir, "orders.json"), current: noOrders(), lasting: noOrders()}
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
			err = fmt.Errorf("%w; remove %s to forget it", wrong, b.path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read what failoverctl maintenance and priority have said with --persist: %w", err)
	}
	maps.Copy(b.current.Maintenance, b.lasting.Maintenance)
	maps.Copy(b.current.Priority, b.lasting.Priority)
	return b, nil
}

// take makes an order those that hold, and if it lasts those that hold beyond a restart.
// After an error it is neither: what can't be written down is not obeyed.
func (b *book) take(routers []config.Router, lasts bool, change func(config.Router, *orders)) error {
	current, lasting := b.current.clone(), b.lasting.clone()
	for _, r := range routers {
		change(r, &current)
		if lasts {
			change(r, &lasting)
		}
	}
	if !lasting.equal(b.lasting) {
		if err := b.save(lasting); err != nil {
			return fmt.Errorf("write it down: %w", err)
		}
	}
	b.current, b.lasting = current, lasting
	return nil
}

// save writes the lasting orders: a crash leaves the file as it was or as it is.
func (b *book) save(lasting orders) (err error) {
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

// obey has the conditions of the routers follow the orders.
func (b *book) obey(c *conditions, routers []config.Router) {
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

// reload forgets what holds until then. What was said of routers that are no more is
// forgotten too, unless it lasts: they may be out of the file for a while only.
func (b *book) reload(c *conditions, before, after []config.Router) {
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
	b.obey(c, after)
}

// named returns the configured routers of a name, all without one.
func (d *instance) named(name string) ([]config.Router, error) {
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
	return nil, fmt.Errorf("no router has the name %q: there are %s", name, strings.Join(names, ", "))
}

// Maintenance takes routers out of service, or back into it.
func (d *instance) Maintenance(ctx context.Context, name string, on, persist bool) ([]string, error) {
	return d.order(ctx, name, persist || !on, func(r config.Router, o *orders) {
		if delete(o.Maintenance, r.Name); on {
			o.Maintenance[r.Name] = true
		}
	}, fmt.Sprintf("maintenance %s", map[bool]string{true: "on", false: "off"}[on]))
}

// SetPriority gives a router another priority than the configured one; 0 gives it
// that one back.
func (d *instance) SetPriority(ctx context.Context, name string, priority int, persist bool) ([]string, error) {
	if priority < 0 || priority >= config.OwnerPriority {
		return nil, fmt.Errorf("priority %d is out of range: it is 1 to 254", priority)
	}
	what := fmt.Sprintf("priority %d", priority)
	if priority == 0 {
		what = "the configured priority"
	}
	return d.order(ctx, name, persist || priority == 0, func(r config.Router, o *orders) {
		if delete(o.Priority, r.Name); priority > 0 {
			o.Priority[r.Name] = priority
		}
	}, what)
}

// order carries out an order, and returns when the routers follow it. What is taken
// back lasts, however it was given.
func (d *instance) order(ctx context.Context, name string, lasts bool, change func(config.Router, *orders), what string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	routers, err := d.named(name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range routers {
		if r.Priority == config.OwnerPriority && strings.Contains(what, "priority") {
			return nil, fmt.Errorf("%s: the owner of its addresses (priority 255) has no other priority", r.Name)
		}
		names = append(names, r.Name)
	}
	if err := d.book.take(routers, lasts, change); err != nil {
		return nil, err
	}
	d.book.obey(d.keeper.conditions, routers)
	for _, n := range names {
		d.log.WithField("router", n).Warnf("the administrator has ordered %s", what)
		d.history.Add(control.Event{Kind: "order", Name: n, Text: what})
	}
	return names, d.settle(ctx)
}

// settle waits until the ports have acted on what was known of the routers'
// surroundings.
func (d *instance) settle(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case d.keeper.settling <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		d.forgetStates()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HandOver has the Active Virtual Routers of a configured router let another host
// have their addresses, until that one is gone.
func (d *instance) HandOver(ctx context.Context, name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if name == "" {
		return nil, errors.New("which router? give its name")
	}
	routers, err := d.named(name)
	if err != nil {
		return nil, err
	}
	r := routers[0]
	if r.Priority == config.OwnerPriority {
		return nil, fmt.Errorf("%s: the owner of its addresses (priority 255) is always Active; failoverctl maintenance on %s takes it out of service", name, name)
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
	d.forgetStates()
	if !handed {
		return nil, fmt.Errorf("%s isn't Active on this host, so there is nothing to hand over", name)
	}
	d.history.Add(control.Event{Kind: "order", Name: name, Text: "handed over"})
	return []string{name}, nil
}
