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

// credentialsDirectory is the environment variable in which systemd passes the directory of the
// service's credentials.
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// readSecrets reads the secrets of the routers into their Auth settings. The known ones are in
// the configuration itself and not in files. Its error is a *plan.Error that has a problem for
// each secret that can't be used.
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
					wrong.Add(p, "authentication", keyItem(a, n), "%s", err)
					continue
				}
			}
			key := auth.Key{ID: uint8(k.ID), Secret: secret}
			if err := (&auth.Settings{Type: a.Type, Keys: []auth.Key{key}}).Check(); err != nil {
				wrong.Add(p, "authentication", keyItem(a, n), "%s", err)
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

// keyItem returns the index under which config records the position of a key.
func keyItem(a config.Authentication, key int) int {
	if a.Type.Weak() {
		return 0
	}
	return 1 + key
}

// authenticator gives a Guard the current time.
type authenticator struct{ *auth.Guard }

// Sign writes the authentication data into a datagram that is about to be sent.
func (g authenticator) Sign(datagram []byte) { g.Guard.Sign(datagram, time.Now()) }

// Verify checks an advertisement as of the time at which the kernel received it. An advertisement
// that waited while the process was stopped is therefore not stale.
func (g authenticator) Verify(at vrrp.Instant, d *packet.Datagram, a *packet.Advertisement) error {
	return g.Guard.Verify(time.Now().Add(at.Sub(process.Clock{}.Now())), d, a)
}

// guards holds the guard of each Virtual Router. When the settings change, the new guard inherits
// the replay window of the old one.
type guards struct {
	mu  sync.Mutex
	all map[plan.ID]guardEntry
}

type guardEntry struct {
	v     *plan.VirtualRouter
	guard *auth.Guard // nil without authentication
}

// of returns the guard of a Virtual Router, nil if it has no authentication.
func (g *guards) of(v *plan.VirtualRouter) *auth.Guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.all[v.ID]
	if was.v == v {
		return was.guard
	}
	now := guardEntry{v: v}
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

// prune removes the guards of Virtual Routers that aren't in the plan.
func (g *guards) prune(p *plan.Plan) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.all {
		if p.VirtualRouter(id) == nil {
			delete(g.all, id)
		}
	}
}

// warnWeak logs a warning for each router that uses an authentication type without real
// protection, unless it used the same type in the plan before.
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
		log.WithFields(fields(v.ID)).Warnf("authentication by %s protects against misconfiguration but not against an attacker, and RFC 3768 removed it: use version 3 with type hmac", what)
	}
}

// describeAuthentication describes the authentication of a router for the status.
func describeAuthentication(a config.Authentication) string {
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
