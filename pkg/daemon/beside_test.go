// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf/link"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/observe"
)

// Programs that somebody detaches are attached again, and other interfaces in the network
// of a router don't answer for its addresses.
func TestAttachmentsOfAHost(t *testing.T) {
	r := newRig(t)
	_, err := r.lan.Connect(r.node, "eth1", "198.18.0.2/24")
	r.must(err)
	_, err = r.lan.Connect(r.node, "eth2", "198.19.0.2/24")
	r.must(err)
	r.before = r.host()
	r.start(web + "\n" + spare)
	r.active(v4(51))
	ctx, end := context.WithCancel(context.Background())
	attachments := observe.NewAttachments(r.dp, r.members, func() {}, r.problems, r.log)
	others := &beside{news: r.reported, set: r.dp.SetSibling, views: r.all, host: r.monitor.Snapshot, log: r.log}
	done := make(chan error, 2)
	for _, run := range []func(context.Context) error{attachments.Run, others.run} {
		go func() { done <- r.node.Beside(func() error { return run(ctx) }) }()
	}
	defer func() { end(); r.check(errors.Join(<-done, <-done)) }()

	r.until("eth1 is looked after", func() bool { return slices.Equal(r.dp.Siblings(), []int{r.index("eth1")}) })
	r.must(r.node.Do(func() error {
		all, err := filepath.Glob(DefaultBPFDir + "/links/eth0/*")
		if err != nil || len(all) == 0 {
			return errors.Join(err, errors.New("no program is attached by a link"))
		}
		for _, path := range all {
			l, err := link.LoadPinnedLink(path, nil)
			if err != nil {
				return err
			}
			if err := errors.Join(l.Detach(), l.Close()); err != nil {
				return err
			}
		}
		return nil
	}))
	r.told("attached again: ")
	r.until("the problem is told", func() bool {
		return slices.ContainsFunc(r.problems.ByRouter()[v4(51)], func(p control.Problem) bool { return p.Kind == control.Detached })
	})
	r.must(r.node.RemoveAddress("eth1", "198.18.0.2/24"))
	r.until("eth1 isn't looked after any more", func() bool { return len(r.dp.Siblings()) == 0 })
	r.must(r.node.AddAddress("eth1", "198.18.0.2/24"))
	r.until("eth1 is looked after", func() bool { return len(r.dp.Siblings()) == 1 })
	r.reload("")
	r.until("there is nothing to look after", func() bool { return len(r.dp.Siblings()) == 0 })
}
