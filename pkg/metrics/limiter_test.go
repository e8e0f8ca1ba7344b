// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve serves the metrics of a daemon until the test ends.
func serve(t *testing.T, s Source) (address string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Handler(s, false), nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// big is a daemon whose metrics don't fit the buffers of a connection.
func big() *source {
	s := lan()
	for n := range 300 {
		r := s.status.Routers[0]
		r.Name = fmt.Sprintf("router-%d-%s", n, strings.Repeat("x", 2000))
		s.status.Routers = append(s.status.Routers, r)
	}
	return s
}

// Any number of clients that do nothing, never finish a request, never read the answer, or ask
// without a pause don't keep others from an answer.
func TestIdleConnections(t *testing.T) {
	const holders = connections + 50
	for name, c := range map[string]struct {
		source Source
		say    string
	}{
		"silence":                     {lan(), ""},
		"an endless header":           {lan(), "GET /metrics HTTP/1.1\r\nHost: x\r\nX: "},
		"an endless body":             {lan(), "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"},
		"no reading":                  {lan(), strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 100)},
		"no reading of a long answer": {big(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, c.source)
			for range holders {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, c.say) // the limiter may have closed it
			}
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
			for range 5 {
				response, err := client.Get("http://" + address + "/metrics")
				if err != nil {
					t.Error(err)
					break
				}
				body, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if err != nil || !bytes.Contains(body, []byte("failoverd_build_info")) {
					t.Errorf("%s: %v", response.Status, err)
				}
			}
		})
	}
}

// from returns a connection from an address.
type from struct {
	net.Conn
	address net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.address }

// The source with the most connections loses one first, the one without progress for longest.
func TestReplacedConnection(t *testing.T) {
	p := newLimiter(nil, 4)
	enter := func(ip string) *limitedConn {
		conn := from{address: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
		return &limitedConn{Conn: conn, limiter: p, source: sourceOf(conn)}
	}
	prometheus := enter("192.0.2.1")
	a, b, c := enter("2001:db8::1"), enter("2001:db8::2"), enter("2001:db8::3") // one network
	for _, g := range []*limitedConn{prometheus, a, b, c} {
		if out := p.admit(g); out != nil {
			t.Errorf("%v was replaced below the limit", out.source)
		}
	}
	p.state(a, http.StateActive)
	for i, want := range []*limitedConn{b, c, a} {
		if out := p.admit(enter("2001:db8::" + fmt.Sprint(4+i))); out != want {
			t.Errorf("%d: the wrong connection was replaced", i)
		}
	}
	if !p.open[prometheus] || len(p.open) != 4 {
		t.Errorf("%d connections", len(p.open))
	}
}

// Many clients cause only a few requests to the daemon.
func TestManyScrapes(t *testing.T) {
	c := new(counting)
	address := serve(t, c)
	client := http.Client{Timeout: 20 * time.Second}
	began := time.Now()
	const scrapes = 500
	for range scrapes {
		response, err := client.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	if n, most := c.n.Load(), uint64(time.Since(began)/freshness)+1; n > most {
		t.Errorf("%d scrapes asked the daemon %d times, more than %d", scrapes, n, most)
	}
}
