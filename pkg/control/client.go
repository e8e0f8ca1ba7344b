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

// Client asks a daemon. It may be used by several goroutines.
type Client struct {
	path string
	http http.Client
}

// dialAgain is how long to wait for a place in the queue of those who connect.
const dialAgain = 10 * time.Millisecond

// ErrNotRunning is returned if nobody serves the socket.
var ErrNotRunning = errors.New("failoverd isn't running")

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
				select { // many others are waiting already
				case <-time.After(dialAgain):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		},
	}
	return c
}

// Status asks for the state of everything.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Stats asks for the counters.
func (c *Client) Stats(ctx context.Context) (s Stats, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/stats", nil, &s)
}

// Reload has the daemon read its configuration again, or with dryRun say what
// that would change.
func (c *Client) Reload(ctx context.Context, dryRun bool) (r Reload, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/reload", url.Values{"dry_run": {fmt.Sprint(dryRun)}}, &r)
}

// Maintenance takes a router, without a name all, out of service or back into it,
// beyond a restart if it is to persist.
func (c *Client) Maintenance(ctx context.Context, name string, on, persist bool) (o Order, err error) {
	return o, c.call(ctx, http.MethodPost, "/v1/maintenance", url.Values{"router": {name}, "on": {fmt.Sprint(on)}, "persist": {fmt.Sprint(persist)}}, &o)
}

// SetPriority gives a router a priority until the next reload, or for good; 0 gives
// it the configured one back.
func (c *Client) SetPriority(ctx context.Context, name string, priority int, persist bool) (o Order, err error) {
	return o, c.call(ctx, http.MethodPost, "/v1/priority", url.Values{"router": {name}, "priority": {fmt.Sprint(priority)}, "persist": {fmt.Sprint(persist)}}, &o)
}

// HandOver has an Active router let another host have its addresses.
func (c *Client) HandOver(ctx context.Context, name string) (o Order, err error) {
	return o, c.call(ctx, http.MethodPost, "/v1/failover", url.Values{"router": {name}}, &o)
}

// Events calls f for each event after a number, and with follow for those to
// come until ctx ends.
func (c *Client) Events(ctx context.Context, after uint64, follow bool, f func(Event) error) error {
	body, err := c.open(ctx, http.MethodGet, "/v1/events", url.Values{"after": {fmt.Sprint(after)}, "follow": {fmt.Sprint(follow)}})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // it was only read
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("an event that can't be read: %w", err)
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
	defer func() { _ = body.Close() }() // it was only read
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
		return nil, fmt.Errorf("%w: nobody serves %s; start it with systemctl start failoverd, or sudo failoverd", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no right to open %s: use sudo, or join the group %s", c.path, group)
	case err != nil:
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	var f failure
	if err := json.NewDecoder(response.Body).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("the daemon says %s", response.Status)
	}
	return nil, errors.New(f.Error)
}
