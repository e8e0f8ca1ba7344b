// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// credentialsDirectory is where systemd says that the service's credentials are.
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// readSecrets completes a plan with the secrets of its routers. The known ones are in the
// configuration itself and not in files.
func readSecrets(routers []*plan.ConfiguredRouter, known map[string]auth.Secret) error {
	var wrong plan.Error
	for _, p := range routers {
		a := p.Authentication
		p.Auth = a.Settings(p.Interval)
		for n, k := range a.Keys {
			secret, there := known[k.File]
			if !there {
				var err error
				if secret, err = readSecret(k); err != nil {
					wrong.Add(p, "authentication", item(a, n), "%s", err)
					continue
				}
			}
			key := auth.Key{ID: uint8(k.ID), Secret: secret}
			if err := (&auth.Settings{Type: a.Type, Keys: []auth.Key{key}}).Check(); err != nil {
				wrong.Add(p, "authentication", item(a, n), "%s", err)
			}
			p.Auth.Keys = append(p.Auth.Keys, key)
		}
	}
	return wrong.OrNil()
}

func readSecret(k config.Key) (auth.Secret, error) {
	if k.Credential != "" {
		return auth.ReadCredential(os.Getenv(credentialsDirectory), k.Credential)
	}
	return auth.ReadFile(k.File)
}

// item is where a key is among what config notes the places of.
func item(a config.Authentication, key int) int {
	if a.Type.Weak() {
		return 0
	}
	return 1 + key
}

// authenticator is a Guard with a clock.
type authenticator struct{ *auth.Guard }

// Sign writes the proof into a datagram that is sent now.
func (g authenticator) Sign(datagram []byte) { g.Guard.Sign(datagram, time.Now()) }

// Verify judges an advertisement by the time at which the kernel had it: a process
// that was stopped doesn't take what came meanwhile for old.
func (g authenticator) Verify(at vrrp.Instant, d *packet.Datagram, a *packet.Advertisement) error {
	return g.Guard.Verify(time.Now().Add(at.Sub(process.Clock{}.Now())), d, a)
}

// guards are the guards of Virtual Routers. One that gets other settings knows what it has
// heard before.
type guards struct {
	mu  sync.Mutex
	all map[plan.ID]guarded
}

type guarded struct {
	v     *plan.VirtualRouter
	guard *auth.Guard // nil without authentication
}

// of returns the guard of a Virtual Router, nil for none.
func (g *guards) of(v *plan.VirtualRouter) *auth.Guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.all[v.ID]
	if was.v == v {
		return was.guard
	}
	now := guarded{v: v}
	switch s := v.Router.Auth; {
	case s.Type == "" || s.Type == auth.None:
	case was.guard == nil:
		now.guard = auth.NewGuard(s)
	default:
		now.guard = was.guard.With(s)
	}
	g.all[v.ID] = now
	return now.guard
}

// prune forgets the guards of Virtual Routers that a plan doesn't have.
func (g *guards) prune(p *plan.Plan) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.all {
		if p.VirtualRouter(id) == nil {
			delete(g.all, id)
		}
	}
}

// warnWeak says so of routers whose authentication protects nothing, and hadn't before.
func warnWeak(p, before *plan.Plan, log *logrus.Logger) {
	for _, v := range p.VirtualRouters {
		what := map[auth.Type]string{
			auth.Password: "a password in clear text",
			auth.Header:   "an Authentication Header",
		}[v.Router.Authentication.Type]
		if what == "" {
			continue
		}
		if before != nil {
			if was := before.VirtualRouter(v.ID); was != nil && was.Router.Authentication.Type == v.Router.Authentication.Type {
				continue
			}
		}
		log.WithFields(fields(v.ID)).Warnf("authentication by %s keeps out mistakes and no attacker, RFC 3768 removed it: use version 3 with type hmac", what)
	}
}

// authentication says how a router is authenticated, for people.
func authentication(a config.Authentication) string {
	switch {
	case !a.On():
		return ""
	case a.Type == auth.HMAC && a.Mode != auth.ReceiveOnly:
		return fmt.Sprintf("%s (%s), sends with key %d", a.Type, a.Mode, a.Send)
	case a.Type == auth.HMAC:
		return fmt.Sprintf("%s (%s)", a.Type, a.Mode)
	}
	return string(a.Type)
}
