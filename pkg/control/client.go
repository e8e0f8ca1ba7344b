// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// Client sends requests to a daemon. It may be used by several goroutines.
type Client struct {
	path string
	http http.Client
}

// dialRetry is the time between two attempts to connect while the socket's backlog is full.
const dialRetry = 10 * time.Millisecond

// ErrNotRunning is returned if no process serves the socket.
var ErrNotRunning = errors.New("failoverd isn't running")

// ErrTooOld is returned if the daemon doesn't know a command.
var ErrTooOld = errors.New("the running failoverd is older and doesn't know this command")

// NewClient returns a Client for the socket at path.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			for {
				conn, err := d.DialContext(ctx, "unix", path)
				if !errors.Is(err, syscall.EAGAIN) {
					return conn, err
				}
				select { // the socket's backlog is full
				case <-time.After(dialRetry):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		},
	}
	return c
}

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Stats returns the counters.
func (c *Client) Stats(ctx context.Context) (s Stats, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/stats", nil, &s)
}

// Reload makes the daemon read its configuration again. With dryRun it changes nothing and
// returns what would change.
func (c *Client) Reload(ctx context.Context, dryRun bool) (r Reload, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/reload", url.Values{"dry_run": {fmt.Sprint(dryRun)}}, &r)
}

// Maintenance takes a router out of service or puts it back into service. The empty name
// means all routers. With persist the setting outlasts restarts.
func (c *Client) Maintenance(ctx context.Context, name string, on, persist bool) (o Order, err error) {
	return o, c.call(ctx, http.MethodPost, "/v1/maintenance", url.Values{"router": {name}, "on": {fmt.Sprint(on)}, "persist": {fmt.Sprint(persist)}}, &o)
}

// SetPriority sets the priority of a router until the next reload, or permanently with
// persist. 0 restores the configured priority.
func (c *Client) SetPriority(ctx context.Context, name string, priority int, persist bool) (o Order, err error) {
	return o, c.call(ctx, http.MethodPost, "/v1/priority", url.Values{"router": {name}, "priority": {fmt.Sprint(priority)}, "persist": {fmt.Sprint(persist)}}, &o)
}

// HandOver makes an Active router hand its addresses over to another host.
func (c *Client) HandOver(ctx context.Context, name string) (o Order, err error) {
	return o, c.call(ctx, http.MethodPost, "/v1/failover", url.Values{"router": {name}}, &o)
}

// Restart makes the daemon start a new process that takes over from it. With onlyStop the daemon only
// ends, and leaves everything in place for a process that somebody else starts at once.
func (c *Client) Restart(ctx context.Context, onlyStop bool) (r Restart, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/restart", url.Values{"only_stop": {fmt.Sprint(onlyStop)}}, &r)
}

// Events calls f for each event after a number. With follow it goes on with new events until
// ctx ends, which isn't an error.
func (c *Client) Events(ctx context.Context, after uint64, follow bool, f func(Event) error) error {
	body, err := c.open(ctx, http.MethodGet, "/v1/events", url.Values{"after": {fmt.Sprint(after)}, "follow": {fmt.Sprint(follow)}})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // it is only read
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("decode an event: %w", err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return lines.Err()
}

func (c *Client) call(ctx context.Context, method, path string, query url.Values, into any) error {
	body, err := c.open(ctx, method, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // it is only read
	return json.NewDecoder(body).Decode(into)
}

func (c *Client) open(ctx context.Context, method, path string, query url.Values) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://failoverd"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: no process serves %s; start it with systemctl start failoverd, or sudo failoverd", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no permission to open %s: use sudo, or join the group %s", c.path, group)
	case err != nil:
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }() // it is only read
	if response.StatusCode == http.StatusNotFound {
		return nil, ErrTooOld
	}
	var f failure
	if err := json.NewDecoder(response.Body).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("the daemon answered %s", response.Status)
	}
	return nil, errors.New(f.Error)
}
