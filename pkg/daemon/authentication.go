// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// credentialsDirectory is where systemd says that the service's credentials are.
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// readSecrets completes a plan with the secrets of its routers.
func readSecrets(plan []planned) error {
	var wrong ConfigError
	for i := range plan {
		p := &plan[i]
		a := p.Authentication
		p.auth = a.Settings(p.Interval)
		for n, k := range a.Keys {
			secret, err := readSecret(k)
			if err != nil {
				wrong.add(*p, "authentication", item(a, n), "%s", err)
				continue
			}
			key := auth.Key{ID: uint8(k.ID), Secret: secret}
			if err := (&auth.Settings{Type: a.Type, Keys: []auth.Key{key}}).Check(); err != nil {
				wrong.add(*p, "authentication", item(a, n), "%s", err)
			}
			p.auth.Keys = append(p.auth.Keys, key)
		}
	}
	return wrong.orNil()
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

// authenticate has a Virtual Router authenticated by settings, and by what was
// heard before.
func (m *member) authenticate(s auth.Settings) {
	switch {
	case s.Type == "" || s.Type == auth.None:
		m.guard = nil
	case m.guard == nil:
		m.guard = auth.NewGuard(s)
	default:
		m.guard = m.guard.With(s)
	}
}

// prover is what signs for a Virtual Router, nil if nothing does.
func (m *member) prover() router.Prover {
	if m.guard == nil {
		return nil
	}
	return authenticator{m.guard}
}

// warnWeak says so if an authentication protects nothing.
func (ps *ports) warnWeak(m *member) {
	what := map[auth.Type]string{
		auth.Password: "a password in clear text",
		auth.Header:   "an Authentication Header",
	}[m.config.Authentication.Type]
	if what != "" {
		ps.log.WithFields(fields(m.id)).Warnf("authentication by %s keeps out mistakes and no attacker, RFC 3768 removed it: use version 3 with type hmac", what)
	}
}

// secretDifference says for which routers of a plan the secrets are others than
// before, though they are in the same place. It doesn't tell them.
func secretDifference(changes []control.Change, before, after []planned) []control.Change {
	for _, b := range after {
		for _, a := range before {
			if a.Name != b.Name || a.Authentication.String() != b.Authentication.String() {
				continue
			}
			details := auth.Difference(&a.auth, &b.auth)
			for i := range details {
				details[i] = "authentication: " + details[i]
			}
			changes = addDetails(changes, b.Name, details)
		}
	}
	return changes
}

func addDetails(changes []control.Change, name string, details []string) []control.Change {
	if len(details) == 0 {
		return changes
	}
	for i := range changes {
		if changes[i].Router == name && changes[i].What != "removed" && changes[i].What != "added" {
			changes[i].Details = append(changes[i].Details, details...)
			return changes
		}
	}
	return append(changes, control.Change{Router: name, What: "changed", Details: details})
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
