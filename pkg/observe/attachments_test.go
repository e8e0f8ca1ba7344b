// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
)

// A detached program is attached again, and the routers of the interface get a problem. A
// failure is tried again, and logged once. A program that always returns to the front stays
// there.
func TestAttachments(t *testing.T) {
	log, logged := test.NewNullLogger()
	here, there := router.ID{Interface: "eth0", Family: packet.IPv4, VRID: 1}, router.ID{Interface: "eth1", Family: packet.IPv4, VRID: 1}
	problems := NewProblems(log, control.NewHistory(), NewLogBudget())
	lack := datapath.Lack{Interface: datapath.Link{Index: 2, Name: "eth0"}}
	var repaired int
	var fails error
	programs := &fakePrograms{
		look: func() []datapath.Lack { return []datapath.Lack{lack} },
		repair: func(ifindex int) ([]string, error) {
			repaired++
			if ifindex != 2 {
				t.Errorf("repairs %d", ifindex)
			}
			if fails != nil {
				return nil, fails
			}
			return lack.Detached, nil
		},
	}
	members := func(ifindex int) []router.ID { return map[int][]router.ID{2: {here}, 3: {there}}[ifindex] }
	lost := 0
	a := NewAttachments(programs, members, func() { lost++ }, problems, log)
	kinds := func() (all []string) {
		for _, p := range problems.ByRouter()[here] {
			all = append(all, p.Kind)
		}
		return all
	}
	now := time.Now()
	lack.Detached = []string{"ingress"}
	a.mend(now, programs.Look())
	if got := kinds(); repaired != 1 || len(got) != 1 || got[0] != control.Detached || len(problems.ByRouter()[there]) != 0 {
		t.Errorf("detached: %d repairs, problems %v and %v", repaired, got, problems.ByRouter()[there])
	}
	fails = errors.New("no luck")
	logged.Reset()
	for range 3 {
		a.mend(now, programs.Look())
	}
	said := 0
	for _, e := range logged.AllEntries() {
		if e.Level == logrus.ErrorLevel && strings.Contains(e.Message, "can't be attached again") {
			said++
		}
	}
	if repaired != 4 || said != 1 {
		t.Errorf("what fails is tried %d times and told %d times", repaired-1, said)
	}
	if lost != 3 {
		t.Errorf("told %d times that it can't be repaired", lost)
	}
	lack.Detached, lack.InFront, lack.Left, fails = nil, []string{"cil_from_netdev (number 7)"}, false, nil
	a.mend(now, programs.Look())
	lack.Left = true
	a.mend(now, programs.Look())
	if repaired != 5 {
		t.Errorf("what is in front is gone before %d times", repaired-4)
	}
	if got := problems.ByRouter()[here]; len(got) != 2 || got[1].Kind != control.ProgramInFront || !strings.Contains(got[1].Text, "cil_from_netdev") || !strings.Contains(got[1].Remedy, "restart failoverd") {
		t.Errorf("problems %v", got)
	}
}

type fakePrograms struct {
	look   func() []datapath.Lack
	repair func(ifindex int) ([]string, error)
}

func (p *fakePrograms) Look() []datapath.Lack                { return p.look() }
func (p *fakePrograms) LookRequests() <-chan struct{}        { return nil }
func (p *fakePrograms) LookRequested() []datapath.Lack       { return nil }
func (p *fakePrograms) Repair(ifindex int) ([]string, error) { return p.repair(ifindex) }
