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

// Sources are the parts of the host that checks use. Their methods are called from any
// goroutine.
type Sources struct {
	Runner  *script.Runner
	Network Network
	Routers Routers
	// Ping sends an echo request on an interface, or by the routes of the host if the name is
	// empty.
	Ping func(target netip.Addr, ifname string) (Echo, error)
	// Solicit asks a neighbour on an interface for its MAC until it answers or ctx ends, which
	// isn't an error. It reports whether the neighbour answered.
	Solicit func(ctx context.Context, ifname string, neighbor netip.Addr) (answered bool, err error)
}

// Echo is an echo request that was sent.
type Echo interface {
	// Wait returns nil when the reply has arrived. It ends with ctx.
	Wait(ctx context.Context) error
	Close()
}

// Network is the state of the host's network. Each method also returns a text with the reason.
type Network interface {
	// Interface reports whether an interface is up and has a carrier.
	Interface(name string) (up bool, why string)
	// Address reports whether an interface has an address.
	Address(a netip.Addr) (present bool, why string)
	// Route reports whether a route exists.
	Route(r routing.Sought) (present bool, why string)
}

// Routers is the state of other routers.
type Routers interface {
	// State returns the state of each family of a router.
	State(name string) []string
}

// looks runs checks on the host.
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
	case Ping:
		return l.ping(ctx, c.Targets)
	case ARP:
		return l.solicit(ctx, c.Targets)
	case Process:
		return l.processes.count(c)
	case PIDFile:
		l.files.watch(c.Target) // before the read, so that no change is missed
		return l.processes.ofPIDFile(c.Target)
	case File:
		l.files.watch(c.Target)
		return readNumber(ctx, c.Target)
	case Interface:
		return result(l.Network.Interface(c.Target))
	case Address:
		return result(l.Network.Address(c.Address))
	case Route:
		return result(l.Network.Route(c.Route))
	case Router:
		return l.router(c)
	}
	return bad("there is no kind %q of checks", c.Kind)
}

// result makes an outcome.
func result(good bool, text string) outcome { return outcome{good: good, text: text} }

// notify makes changes of files and processes poke a tracker.
func (l *looks) notify(t *Tracker) {
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

// solicit asks neighbours for their MACs, until enough have answered.
func (l *looks) solicit(ctx context.Context, t Targets) outcome {
	asked := make([]func(context.Context) error, len(t.Addresses))
	for i, a := range t.Addresses {
		asked[i] = func(ctx context.Context) error {
			if answered, err := l.Solicit(ctx, t.Interface, a); err != nil || answered {
				return err
			}
			return errors.New("no answer in time")
		}
	}
	return t.gather(ctx, asked)
}

// router reports whether all families of a router are in the wanted state.
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

// Running is the State of a Router check that is good if the router is Active or Backup.
const Running = "Running"

// connect makes a TCP connection and resets it, so that no port stays in TIME_WAIT.
func connect(ctx context.Context, target string) outcome {
	conn, err := dialer().DialContext(ctx, "tcp", target)
	if err != nil {
		return bad("%s", reason(err))
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // makes Close send a reset
	}
	_ = conn.Close() // the check succeeded already
	return good("connected")
}

func dialer() *net.Dialer { return &net.Dialer{KeepAlive: -1} }

// reason returns a short text for the error of a connection.
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

// get sends one request over a new connection and follows no redirections.
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
		TLSClientConfig:        &tls.Config{ServerName: server, InsecureSkipVerify: c.HTTP.Insecure}, //nolint:gosec // it is configured
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return bad("%s", reason(err))
	}
	_ = answer.Body.Close() // only the status matters
	text := fmt.Sprintf("status %d", answer.StatusCode)
	expected := c.HTTP.Statuses
	if len(expected) == 0 {
		expected = []Status{{200, 299}}
	}
	return result(slices.ContainsFunc(expected, func(s Status) bool {
		return s.From <= answer.StatusCode && answer.StatusCode <= s.To
	}), text)
}
