// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/router"
)

// attachmentsEvery is how often it is looked whether the BPF programs see the packets of
// the interfaces. It is less than a second, within which they are attached again.
const attachmentsEvery = 900 * time.Millisecond

// Attachments have the BPF programs stay attached, and in front: somebody may detach them,
// or put others in front of them that end the chain.
type Attachments struct {
	programs Programs
	members  func(ifindex int) []router.ID
	problems *Problems
	log      *logrus.Logger
	lost     func()         // told when programs can't be attached again
	failed   map[int]string // why an interface couldn't be repaired when that was last told
}

// Programs are the BPF programs of all interfaces: those of a datapath.Datapath.
type Programs interface {
	// Look returns what interfaces lack.
	Look() []datapath.Lack
	// LookRequests delivers a value when a look is requested. LookRequested carries it out.
	LookRequests() <-chan struct{}
	LookRequested() []datapath.Lack
	// Repair attaches what is missing at one, and returns what it was.
	Repair(ifindex int) ([]string, error)
}

// NewAttachments returns those of programs. The members of an interface are the routers
// that take part there. lost is called while an interface can't be repaired.
func NewAttachments(programs Programs, members func(ifindex int) []router.ID, lost func(), problems *Problems, log *logrus.Logger) *Attachments {
	return &Attachments{programs: programs, members: members, lost: lost, problems: problems, log: log, failed: make(map[int]string)}
}

// Run looks after them until ctx ends.
func (a *Attachments) Run(ctx context.Context) error {
	tick := time.NewTicker(attachmentsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.programs.LookRequests():
			a.mend(time.Now(), a.programs.LookRequested())
		case now := <-tick.C:
			a.mend(now, a.programs.Look())
		}
	}
}

// mend repairs what interfaces lack.
func (a *Attachments) mend(now time.Time, lacks []datapath.Lack) {
	for _, lack := range lacks {
		err := error(nil)
		if len(lack.Detached) > 0 || !lack.Left {
			var done []string
			if done, err = a.programs.Repair(lack.Interface.Index); len(done) > 0 {
				a.log.WithField("interface", lack.Interface.Name).Warnf("attached again: %s", strings.Join(done, ", "))
			}
		}
		a.tellFailure(lack.Interface, err)
		if err != nil {
			a.lost()
		}
		for _, id := range a.members(lack.Interface.Index) {
			a.note(now, id, &lack)
		}
	}
}

func (a *Attachments) tellFailure(on datapath.Link, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.failed[on.Index] {
		a.log.WithField("interface", on.Name).WithError(err).Error("the BPF programs can't be attached again, trying on")
	}
	a.failed[on.Index] = text
}

// note tells a router what its interface lacks.
func (a *Attachments) note(now time.Time, id router.ID, lack *datapath.Lack) {
	if len(lack.Detached) > 0 {
		a.problems.Note(now, id, Observation{
			Kind: control.Detached, Watched: true,
			Text:   "somebody has detached the BPF programs (" + strings.Join(lack.Detached, ", ") + ") from " + lack.Interface.Name + ", without which this router hears nobody and isn't fenced",
			Remedy: "they are attached again at once; find out what detaches them: bpftool link detach, tc qdisc del, ip link set xdp off, or the clean-up of another program",
		})
	}
	if len(lack.InFront) > 0 {
		s := Observation{
			Kind: control.ProgramInFront, Watched: true,
			Text:   strings.Join(lack.InFront, ", ") + " sees the packets of " + lack.Interface.Name + " before failoverd, and may keep them from it",
			Remedy: "failoverd's programs go in front of it again; give that program a place behind them",
		}
		if lack.Left {
			s.Remedy = "give that program a place behind failoverd's, or have it pass packets on (TCX_NEXT, TC_ACT_UNSPEC), and restart failoverd"
		}
		a.problems.Note(now, id, s)
	}
}
