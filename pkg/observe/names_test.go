// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
)

// Each line about a router has its name, in both forms of the log.
func TestNames(t *testing.T) {
	id := router.ID{Interface: "eth0", VRID: 51, Family: packet.IPv4}
	six := router.ID{Interface: "eth0", VRID: 51, Family: packet.IPv6}
	other := router.ID{Interface: "eth1", VRID: 51, Family: packet.IPv4}
	names := NewNames()
	names.Learn(id, "web")
	names.Learn(six, "web6")
	for form, formatter := range map[string]logrus.Formatter{`"router":"`: &logrus.JSONFormatter{}, "router=": &logrus.TextFormatter{}} {
		var out strings.Builder
		log := logrus.New()
		log.SetOutput(&out)
		log.SetFormatter(formatter)
		log.AddHook(names)
		for _, c := range []struct {
			fields logrus.Fields
			want   string
		}{
			{Fields(id), "web"},
			{Fields(six), "web6"},
			{Fields(other), ""},
			{Fields(router.ID{Interface: "eth0"}), ""}, // it is about the interface
			{logrus.Fields{"router": "db"}, "db"},
			{logrus.Fields{}, ""},
		} {
			out.Reset()
			log.WithFields(c.fields).Info("x")
			name := ""
			if _, rest, named := strings.Cut(out.String(), form); named {
				name = strings.FieldsFunc(rest, func(r rune) bool { return r == '"' || r == ' ' || r == '\n' })[0]
			}
			if name != c.want {
				t.Errorf("%v: the name is %q in %s, want %q", c.fields, name, out.String(), c.want)
			}
		}
	}
}

// refusing has refused a packet for a reason.
type refusing struct {
	counters
	last datapath.Discard
}

func (r *refusing) Counters() (all [packet.ReasonCount]uint64) {
	all[packet.ErrTTL] = uint64(time.Now().Unix())
	return all
}

func (r *refusing) LastDiscard(reason packet.Reason) (datapath.Discard, bool) {
	return r.last, reason == packet.ErrTTL
}

// A packet that was refused before it reached its router is told with the router's name.
func TestRefusedHasName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := logrus.New()
		log.SetOutput(&out)
		id := router.ID{Interface: "eth0", VRID: 51, Family: packet.IPv4}
		names := NewNames()
		names.Learn(id, "web")
		log.AddHook(names)
		log.SetFormatter(&logrus.JSONFormatter{})
		history, room := control.NewHistory(), NewLogBudget()
		dp := &refusing{last: datapath.Discard{Ifindex: 7, VRID: 51, Family: packet.IPv4, Source: netip.MustParseAddr("192.0.2.2")}}
		o := NewObserver(log, dp, history, room, NewProblems(log, history, room))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_ = o.Run(ctx, func() ([]router.Status, error) {
				return []router.Status{{ID: id, Ifindex: 7}}, nil
			})
		}()
		time.Sleep(3 * discardsEvery)
		cancel()
		synctest.Wait()
		told := false
		for line := range strings.Lines(out.String()) {
			var e struct {
				Message   string `json:"msg"`
				Router    string
				Interface string
				Counter   string
				Ifindex   int
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(e.Message, "refused") {
				told = true
				if e.Router != "web" || e.Interface != "eth0" || e.Ifindex != 7 || e.Counter != packet.ErrTTL.String() {
					t.Errorf("%s", line)
				}
			}
		}
		if !told {
			t.Errorf("not told: %s", out.String())
		}
	})
}
