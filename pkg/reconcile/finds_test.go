// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
)

// wrong is a faulty executor: it reports success for steps that it hasn't carried out, and then
// shows them in the picture.
type wrong struct {
	*run
	look func(*plan.Picture)
	do   func(*reconcile.Step) (done bool, err error) // handles a step itself
}

func (w *wrong) Look(want *plan.Target, now *plan.Picture) error {
	err := w.run.Look(want, now)
	if w.look != nil {
		w.look(now)
	}
	return err
}

func (w *wrong) Do(steps []*reconcile.Step) (errs []error) {
	for _, s := range steps {
		done, err := w.do(s)
		if !done {
			err = w.run.Do([]*reconcile.Step{s})[0]
		}
		errs = append(errs, err)
	}
	return errs
}

// forgetful doesn't write new addresses of running routers to the journal.
func forgetful(r *run) reconcile.Executor {
	believed := make(map[plan.Note]bool)
	return &wrong{r, func(now *plan.Picture) {
		for n := range believed {
			now.Journal[n] = true
		}
	}, func(s *reconcile.Step) (bool, error) {
		if s.Verb != reconcile.Write || r.entries[s.ID] == nil {
			return false, nil
		}
		forgotten := func(n plan.Note) bool {
			_, is := n.(link.JournalAddress)
			return is
		}
		for _, n := range s.Notes {
			if forgotten(n) {
				believed[n] = true
			}
		}
		s.Notes = slices.DeleteFunc(slices.Clone(s.Notes), forgotten)
		return false, nil
	}}
}

// greedy gives routers addresses that still belong to another router, whose entry then deletes
// the slots of these addresses.
func greedy(r *run) reconcile.Executor {
	return &wrong{r, nil, func(s *reconcile.Step) (bool, error) {
		switch s.Verb {
		case reconcile.Fence:
			e := *s.Entry
			e.Addresses = slices.Clone(e.V.Fenced)
			if old := r.entries[s.ID]; old != nil {
				for _, a := range old.Addresses {
					if !slices.Contains(e.Addresses, a) {
						delete(r.slots, spot{old.Ifindex, a})
					}
				}
			}
			s.Entry = &e
		case reconcile.Unfence:
			for _, a := range s.Entry.Addresses {
				delete(r.slots, spot{s.Entry.Ifindex, a})
			}
		case reconcile.Add, reconcile.Update:
			s.Withheld = nil
		}
		return false, nil
	}}
}

// careless starts routers whose entry the kernel has rejected.
func careless(r *run) reconcile.Executor {
	believed := make(map[plan.ID]*plan.Entry)
	return &wrong{r, func(now *plan.Picture) {
		for id, e := range believed {
			if now.Installed[id] != nil {
				now.Installed[id].Entry = e
			}
		}
	}, func(s *reconcile.Step) (bool, error) {
		delete(believed, s.ID)
		if s.Verb == reconcile.Fence && r.try(s) != nil {
			believed[s.ID] = s.Entry
		}
		return s.Verb == reconcile.Fence, nil
	}}
}

// resigned ignores addresses that it can't remove.
func resigned(r *run) reconcile.Executor {
	gone := make(map[spot]bool)
	return &wrong{r, func(now *plan.Picture) {
		for n, i := range now.Interfaces {
			now.Interfaces[n].Addresses = slices.DeleteFunc(slices.Clone(i.Addresses), func(a link.Address) bool { return gone[spot{i.Index, a.Prefix.Addr()}] })
		}
	}, func(s *reconcile.Step) (bool, error) {
		if s.Verb == reconcile.Withdraw && r.try(s) != nil {
			gone[spot{s.Ifindex, s.Prefix.Addr()}] = true
		}
		return s.Verb == reconcile.Withdraw, nil
	}}
}

// lazy doesn't delete macvlans.
func lazy(r *run) reconcile.Executor {
	gone := make(map[int]bool)
	return &wrong{r, func(now *plan.Picture) {
		now.Interfaces = slices.DeleteFunc(slices.Clone(now.Interfaces), func(i link.Interface) bool { return gone[i.Index] })
	}, func(s *reconcile.Step) (bool, error) {
		if s.Verb != reconcile.Unmake {
			return false, nil
		}
		gone[s.Ifindex] = true
		return true, nil
	}}
}

// hasty starts routers before their entry exists.
func hasty(r *run) reconcile.Executor {
	var later []*reconcile.Step
	return &wrong{r, func(now *plan.Picture) {
		if len(later) > 0 {
			r.Do(later)
			later = nil
			_ = r.Look(nil, now)
		}
	}, func(s *reconcile.Step) (bool, error) {
		if s.Verb == reconcile.Fence {
			later = append(later, s)
			return true, nil
		}
		return false, nil
	}}
}

// TestModelFinds checks that the model finds each faulty executor.
func TestModelFinds(t *testing.T) {
	for name, c := range map[string]struct {
		wrong func(*run) reconcile.Executor
		finds string // part of the violation
	}{
		"a new address isn't written down":           {forgetful, "isn't written down"},
		"an entry deletes what is another one's":     {greedy, "but its slot is that of"},
		"a router starts that the kernel hasn't got": {careless, "but its slot is that of"},
		"a router starts before the kernel has it":   {hasty, "but its slot is that of"},
		"an address stays":                           {resigned, ""},
		"a macvlan stays":                            {lazy, ""},
	} {
		t.Run(name, func(t *testing.T) {
			played := 0
			found := rapid.Custom(func(t *rapid.T) string { return (&machine{t: t, wrong: c.wrong}).play() })
			for played < 2000 {
				played++
				if text, _, _ := strings.Cut(found.Example(played), "\n"); text != "" && strings.Contains(text, c.finds) {
					t.Logf("found after %d sequences: %s", played, text)
					return
				}
			}
			t.Errorf("not found in %d sequences", played)
		})
	}
}
