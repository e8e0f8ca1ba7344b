// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
)

// keyFile creates a file with a secret of the given length.
func keyFile(t *testing.T, octets int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Repeat("k", octets)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// planned returns routers without their secrets.
func planned(t *testing.T, lines string) []*plan.ConfiguredRouter {
	t.Helper()
	all, err := plan.Complete(parseFile(t, lines).Routers)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReadSecrets(t *testing.T) {
	credentials := t.TempDir()
	t.Setenv(credentialsDirectory, credentials)
	if err := os.WriteFile(filepath.Join(credentials, "second"), []byte(strings.Repeat("c", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	const hmac, password = `{interface: eth0, vrid: 51, addresses: [198.18.0.10/24], authentication: {type: hmac, send: 1, keys: [KEYS]}}`,
		`{interface: eth0, vrid: 52, version: 2, addresses: [198.18.0.11/24], authentication: {type: password, key_file: FILE}}`
	both := strings.Replace(hmac, "KEYS", "{id: 1, file: "+keyFile(t, 32)+"}, {id: 2, credential: second}", 1) + "\n" + strings.Replace(password, "FILE", keyFile(t, 8), 1) + "\n" +
		`{interface: eth0, vrid: 53, addresses: [198.18.0.12/24]}`
	routers := planned(t, both)
	if err := readSecrets(routers, nil); err != nil {
		t.Fatal(err)
	}
	a, b, c := routers[0].Auth, routers[1].Auth, routers[2].Auth
	if len(a.Keys) != 2 || a.Keys[0].ID != 1 || a.Keys[0].Secret.Len() != 32 || a.Keys[1].ID != 2 || a.Keys[1].Secret.Len() != 40 || a.Send != 1 || a.Window != 5*time.Second || a.Mode != auth.Enforce {
		t.Errorf("%+v", a)
	}
	if len(b.Keys) != 1 || b.Keys[0].Secret.Len() != 8 || b.Type != auth.Password || len(c.Keys) != 0 {
		t.Errorf("%+v, %+v", b, c)
	}

	routers = planned(t, strings.Replace(hmac, "KEYS", "{id: 1, file: "+keyFile(t, 31)+"}, {id: 2, credential: third}, {id: 3, file: /nowhere}", 1)+"\n"+strings.Replace(password, "FILE", keyFile(t, 9), 1))
	var wrong *plan.Error
	if err := readSecrets(routers, nil); !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	for router, want := range map[int][]struct {
		item int
		text string
	}{
		0: {{1, "key 1 has 31 octets"}, {2, "credential third does not exist"}, {3, "/nowhere"}},
		1: {{0, "the password has 9 octets"}},
	} {
		got := wrong.Problems[router]
		if len(got) != len(want) {
			t.Errorf("router %d: %+v", router, got)
			continue
		}
		for n, w := range want {
			if got[n].Key != "authentication" || got[n].Item != w.item || !strings.Contains(got[n].Text, w.text) {
				t.Errorf("router %d: %+v", router, got[n])
			}
		}
	}
}

// virtualOf returns a Virtual Router with the given authentication.
func virtualOf(s auth.Settings) *plan.VirtualRouter {
	r := &plan.ConfiguredRouter{Auth: s}
	return &plan.VirtualRouter{ID: v4(51), Router: r}
}

// A guard keeps its replay window when the settings change, and is removed with its router.
func TestGuards(t *testing.T) {
	g := &guards{all: make(map[plan.ID]guardEntry)}
	if g.of(virtualOf(auth.Settings{Type: auth.None})) != nil || g.of(virtualOf(auth.Settings{})) != nil {
		t.Error("there is a guard although there is no authentication")
	}
	settings := auth.Settings{Type: auth.HMAC, Send: 1, Mode: auth.Enforce, Window: 5 * time.Second, Keys: []auth.Key{{ID: 1, Secret: auth.NewSecret([]byte(strings.Repeat("k", 32)))}}}
	v := virtualOf(settings)
	first := g.of(v)
	if first == nil || g.of(v) != first {
		t.Fatal("the guard of an unchanged Virtual Router was replaced")
	}
	datagram := signed(t, first)
	if err := verify(first, datagram); err != nil {
		t.Fatal(err)
	}
	settings.Window = 7 * time.Second
	changed := virtualOf(settings)
	second := g.of(changed)
	if second == first {
		t.Error("the guard was not replaced after a change of the settings")
	}
	if err := verify(second, datagram); err == nil {
		t.Error("a replay of a datagram from before the change is accepted")
	}
	g.prune(&plan.Plan{})
	if len(g.all) != 0 {
		t.Error("the guard of a removed router is kept")
	}
	if err := verify(g.of(changed), datagram); err != nil {
		t.Error("a new router: ", err)
	}
	g.prune(plan.New([]*plan.ConfiguredRouter{{Router: config.Router{Interface: "eth0", VRID: 51, Addresses: []netip.Prefix{netip.MustParsePrefix("198.18.0.10/24")}}}}, nil))
	if len(g.all) != 1 {
		t.Error("the guard of an unchanged router was removed")
	}
}

// warnings returns what warnWeak logs.
func warnings(p, before *plan.Plan) string {
	out := &lines{}
	log := logrus.New()
	log.SetOutput(out)
	warnWeak(p, before, log)
	return out.String()
}

func TestWarnWeak(t *testing.T) {
	of := func(a string) *plan.Plan {
		return plan.New(planned(t, `{interface: eth0, vrid: 51, version: 2, addresses: [198.18.0.10/24], authentication: `+a+`}`), nil)
	}
	password, header, none := of("{type: password, key_file: /a}"), of("{type: ah, key_file: /a}"), of("off")
	for _, c := range []struct {
		now, before *plan.Plan
		text        string
	}{
		{password, nil, "a password in clear text"},
		{header, nil, "an Authentication Header"},
		{none, nil, ""},
		{password, password, ""},
		{password, header, "a password in clear text"},
		{password, none, "a password in clear text"},
		{password, plan.New(nil, nil), "a password in clear text"},
		{none, password, ""},
	} {
		if got := warnings(c.now, c.before); c.text == "" && got != "" || !strings.Contains(got, c.text) {
			t.Error(got, "instead of", c.text)
		}
	}
}

func TestDescribeAuthentication(t *testing.T) {
	for text, a := range map[string]config.Authentication{
		"":                                 {},
		"hmac (enforce), sends with key 2": {Type: auth.HMAC, Mode: auth.Enforce, Send: 2},
		"hmac (receive-only)":              {Type: auth.HMAC, Mode: auth.ReceiveOnly, Send: 2},
		"password":                         {Type: auth.Password},
	} {
		if got := describeAuthentication(a); got != text {
			t.Errorf("%q instead of %q", got, text)
		}
	}
}

// signed returns a datagram, from the IP header on, that a guard has signed now.
func signed(t *testing.T, g *auth.Guard) []byte {
	t.Helper()
	a := &packet.Advertisement{Version: 3, VRID: 51, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")}}
	d, err := packet.AppendAdvertisementDatagram(nil, netip.MustParseAddr("198.18.0.2"), packet.IPv4.Group(), 255, a, packet.ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	d = g.Prepare(d)
	authenticator{g}.Sign(d)
	return d
}

// verify makes a guard check a datagram that the kernel received a second ago.
func verify(g *auth.Guard, d []byte) error {
	n := len(d) - packet.TrailerLen
	datagram := &packet.Datagram{Source: netip.MustParseAddr("198.18.0.2"), Message: d[20:n], Trailer: d[n:]}
	return authenticator{g}.Verify((process.Clock{}).Now().Add(-time.Second), datagram, nil)
}
