// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/router"
)

// When there is no room to write down what a router changes, it takes part if the fence
// holds, with a problem, and doesn't otherwise. With room it is written down after all.
func TestNoRoomForTheJournal(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=755"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	full := filepath.Join(dir, "full")
	if err := os.WriteFile(full, make([]byte, 128<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("there is room: %v", err)
	}
	journal, err := link.OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	history := control.NewHistory()
	ps := &ports{journal: journal, worker: link.NewWorker(nil, nil, nil), log: log, problems: observe.NewProblems(log, history, observe.NewAllowance())}
	m := &member{id: router.ID{Interface: "eth0", Family: 4, VRID: 51}, config: &config.Router{Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}}
	p := &port{name: "eth0", routers: []*member{m}, path: datapath.Path{Unfenced: errors.New("no TC")}}
	ps.all = []*port{p}
	i := link.Interface{Index: 2, Name: "eth0"}
	if err := ps.plan(p, i); !errors.Is(err, link.ErrNoRoom) || !strings.Contains(fmt.Sprint(err), "df "+dir) || m.noted {
		t.Errorf("without a fence: %v", err)
	}
	p.path = datapath.Path{TC: "tcx"}
	if err := ps.plan(p, i); err != nil || !m.noted {
		t.Errorf("behind the fence: %v", err)
	}
	m.running = true
	if !ps.keepJournal() {
		t.Error("it isn't to be tried again")
	}
	if all := ps.problems.Each()[m.id]; len(all) != 1 || all[0].Kind != control.Journal {
		t.Errorf("problems %+v", all)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if ps.keepJournal() || journal.Err() != nil {
		t.Errorf("there is room: %v", journal.Err())
	}
	if err := journal.Remove(); err != nil {
		t.Error(err)
	}
}
