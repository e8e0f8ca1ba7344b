// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/script"
)

// Sources are what looks need of the host. The interfaces are asked from any
// goroutine.
type Sources struct {
	Runner  *script.Runner
	Network Network
	Routers Routers
}

// Network is what is known of the host's network. Each says why it isn't so.
type Network interface {
	// Interface reports whether an interface is up and has a carrier.
	Interface(name string) (up bool, why string)
	// Address reports whether an interface has an address.
	Address(a netip.Addr) (there bool, why string)
	// Route reports whether a route is there.
	Route(r routing.Sought) (there bool, why string)
}

// Routers is what is known of other routers.
type Routers interface {
	// State returns the states of a router: of both families, if it has both.
	State(name string) []string
}

// looks look at the host.
type looks struct {
	Sources
	processes processes
	files     files
	deaths    deaths
}

func newLooks(s Sources) *looks {
	l := &looks{Sources: s}
	l.processes.deaths = &l.deaths
	return l
}

func (l *looks) look(ctx context.Context, c Check) outcome {
	switch c.Kind {
	case Script:
		return l.script(ctx, c)
	case TCP:
		return connect(ctx, c.Target)
	case HTTP:
		return get(ctx, c)
	case Process:
		return l.processes.count(c)
	case PIDFile:
		l.files.watch(c.Target) // first, or a change between is missed
		return l.processes.ofPIDFile(c.Target)
	case File:
		l.files.watch(c.Target)
		return readNumber(ctx, c.Target)
	case Interface:
		return be(l.Network.Interface(c.Target))
	case Address:
		return be(l.Network.Address(c.Address))
	case Route:
		return be(l.Network.Route(c.Route))
	case Router:
		return l.router(c)
	}
	return bad("nobody can look at a %q", c.Kind)
}

// be makes an outcome of what is so, or isn't for a reason.
func be(so bool, text string) outcome { return outcome{good: so, text: text} }

// tell has changes told to a tracker.
func (l *looks) tell(t *Tracker) {
	l.deaths.poke = func(int) {
		l.processes.forget()
		t.Poke(func(c Check) bool { return c.Kind == Process || c.Kind == PIDFile })
	}
	l.files.poke = func(path string) {
		t.Poke(func(c Check) bool {
			return (c.Kind == File || c.Kind == PIDFile) && filepath.Clean(c.Target) == path
		})
	}
}

// run watches for changes until ctx ends.
func (l *looks) run(ctx context.Context) error {
	defer l.deaths.close()
	if err := l.files.open(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, l.files.close)
	defer stop()
	return l.files.run()
}

func (l *looks) script(ctx context.Context, c Check) outcome {
	command := c.Command
	command.Timeout, command.Sole = c.Timeout, true
	r := l.Runner.Run(ctx, command)
	o := outcome{good: r.OK(), text: r.String(), output: string(r.Output)}
	if line := r.LastLine(); line != "" && !o.good {
		o.text += ": " + line
	}
	return o
}

// router reports whether all families of a router are in a state.
func (l *looks) router(c Check) outcome {
	states := l.Routers.State(c.Target)
	if len(states) == 0 {
		return bad("there is no router %s", c.Target)
	}
	for _, s := range states {
		if is := s == c.State || c.State == Running && s != "Initialize"; !is {
			return bad("%s is %s", c.Target, s)
		}
	}
	return good("%s is %s", c.Target, states[0])
}

// Running is the State of a Router check that is good unless the router is in
// Initialize.
const Running = "Running"

// connect makes a TCP connection and resets it, so that it leaves nothing behind.
func connect(ctx context.Context, target string) outcome {
	conn, err := dialer().DialContext(ctx, "tcp", target)
	if err != nil {
		return bad("%s", reason(err))
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the port is kept for a minute
	}
	_ = conn.Close() // it was made
	return good("connected")
}

func dialer() *net.Dialer { return &net.Dialer{KeepAlive: -1} }

// reason says without much ado why a connection wasn't made.
func reason(err error) string {
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return "no answer in time"
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// get asks once, over a connection of its own, and follows no redirection.
func get(ctx context.Context, c Check) outcome {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Target, nil)
	if err != nil {
		return bad("%s", err)
	}
	request.Header.Set("User-Agent", "failoverd")
	request.Close = true
	server := ""
	if c.HTTP.Host != "" {
		request.Host = c.HTTP.Host
		server = c.HTTP.Host
		if host, _, err := net.SplitHostPort(server); err == nil {
			server = host
		}
	}
	transport := &http.Transport{
		DialContext:            dialer().DialContext,
		TLSClientConfig:        &tls.Config{ServerName: server, InsecureSkipVerify: c.HTTP.Insecure}, //nolint:gosec // it is asked for
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return bad("%s", reason(err))
	}
	_ = answer.Body.Close() // the status was read
	text := fmt.Sprintf("status %d", answer.StatusCode)
	expected := c.HTTP.Statuses
	if len(expected) == 0 {
		expected = []Status{{200, 299}}
	}
	return be(slices.ContainsFunc(expected, func(s Status) bool {
		return s.From <= answer.StatusCode && answer.StatusCode <= s.To
	}), text)
}
