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

// attachmentsEvery is the interval between checks that the BPF programs still see the packets of
// the interfaces. It is below one second, so that detached programs are attached again within a
// second.
const attachmentsEvery = 900 * time.Millisecond

// Attachments keeps the BPF programs attached and in front: other programs may detach them, or
// attach programs before them that end the chain.
type Attachments struct {
	programs Programs
	routers  func(ifindex int) []router.ID
	problems *Problems
	log      *logrus.Logger
	lost     func()         // called when programs can't be attached again
	failed   map[int]string // by interface: the error that was last logged
}

// Programs are the BPF programs of all interfaces. datapath.Datapath implements it.
type Programs interface {
	// Look returns what is wrong with the programs of all interfaces.
	Look() []datapath.Lack
	// LookRequests delivers a value when LookRequested has interfaces to check at once.
	LookRequests() <-chan struct{}
	LookRequested() []datapath.Lack
	// Repair attaches what is missing on an interface, and returns the names of what it attached.
	Repair(ifindex int) ([]string, error)
}

// NewAttachments returns an Attachments. routers returns the routers that take part on an
// interface; lost is called while an interface can't be repaired.
func NewAttachments(programs Programs, routers func(ifindex int) []router.ID, lost func(), problems *Problems, log *logrus.Logger) *Attachments {
	return &Attachments{programs: programs, routers: routers, lost: lost, problems: problems, log: log, failed: make(map[int]string)}
}

// Run checks and repairs the attachments until ctx ends.
func (a *Attachments) Run(ctx context.Context) error {
	tick := time.NewTicker(attachmentsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.programs.LookRequests():
			a.repair(time.Now(), a.programs.LookRequested())
		case now := <-tick.C:
			a.repair(now, a.programs.Look())
		}
	}
}

// repair repairs the interfaces that lack something, and reports the problem to their routers.
func (a *Attachments) repair(now time.Time, lacks []datapath.Lack) {
	for _, lack := range lacks {
		err := error(nil)
		if len(lack.Detached) > 0 || !lack.Left {
			var done []string
			if done, err = a.programs.Repair(lack.Interface.Index); len(done) > 0 {
				a.log.WithField("interface", lack.Interface.Name).Warnf("attached again: %s", strings.Join(done, ", "))
			}
		}
		a.logFailure(lack.Interface, err)
		if err != nil {
			a.lost()
		}
		for _, id := range a.routers(lack.Interface.Index) {
			a.note(now, id, &lack)
		}
	}
}

func (a *Attachments) logFailure(on datapath.Link, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.failed[on.Index] {
		a.log.WithField("interface", on.Name).WithError(err).Error("could not attach the BPF programs again, trying again")
	}
	a.failed[on.Index] = text
}

// note reports to a router what is wrong on its interface.
func (a *Attachments) note(now time.Time, id router.ID, lack *datapath.Lack) {
	if len(lack.Detached) > 0 {
		a.problems.Note(now, id, Observation{
			Kind: control.Detached, Watched: true,
			Text:   "another program detached the BPF programs (" + strings.Join(lack.Detached, ", ") + ") from " + lack.Interface.Name + ", so this router hears no advertisements and isn't fenced",
			Remedy: "failoverd attaches them again at once; find out what detaches them: bpftool link detach, tc qdisc del, ip link set xdp off, or the clean-up of another program",
		})
	}
	if len(lack.InFront) > 0 {
		s := Observation{
			Kind: control.ProgramInFront, Watched: true,
			Text:   strings.Join(lack.InFront, ", ") + " receives the packets of " + lack.Interface.Name + " before failoverd, and may drop them",
			Remedy: "failoverd moves its programs to the front again; attach that program behind them",
		}
		if lack.Left {
			s.Remedy = "attach that program behind failoverd's, or make it pass packets on (TCX_NEXT, TC_ACT_UNSPEC), and restart failoverd"
		}
		a.problems.Note(now, id, s)
	}
}
