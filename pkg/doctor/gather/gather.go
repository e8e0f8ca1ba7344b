// SPDX-License-Identifier: Apache-2.0

// Package gather collects facts about a host for package doctor. It changes nothing: it loads
// the BPF programs as a test, but doesn't attach or pin them.
package gather

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/doctor"
	"github.com/failoverd/failoverd/pkg/migrate"
)

// Options select what to check.
type Options struct {
	Config     string   // the configuration file
	Required   bool     // a missing file is an error
	Interfaces []string // check these instead of those of the configuration
	Client     *control.Client
}

// Facts returns the facts about the host in the namespaces of this process. Checks that
// weren't possible are listed in Unchecked.
func Facts(ctx context.Context, o Options) (*doctor.Facts, error) {
	g := &gatherer{Facts: new(doctor.Facts), privileged: os.Geteuid() == 0}
	g.status(ctx, o.Client)
	names := g.configuration(o)
	g.kernel()
	g.clock()
	g.realtime()
	g.machine()
	if err := g.interfaces(names); err != nil {
		return nil, err
	}
	g.daemons()
	g.ruleset(ctx)
	return g.Facts, nil
}

type gatherer struct {
	*doctor.Facts
	privileged bool
	inspection datapath.Inspection
}

// skip adds a check that wasn't possible.
func (g *gatherer) skip(check, why string) {
	g.Unchecked = append(g.Unchecked, doctor.Unchecked{Check: check, Why: why})
}

const needsRoot = "it needs root"

func (g *gatherer) status(ctx context.Context, c *control.Client) {
	s, err := c.Status(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return
	case err != nil:
		g.skip("status", err.Error())
		return
	}
	g.Status = &s
	stats, err := c.Stats(ctx)
	if err != nil {
		g.skip("heard", err.Error())
		return
	}
	g.Stats = &stats
	if err := g.listen(ctx, c); err != nil {
		g.skip("rival", err.Error())
	}
}

// listen counts the advertisements of other hosts while the daemon is Active for all its
// routers.
func (g *gatherer) listen(ctx context.Context, c *control.Client) error {
	const longest = 5 * time.Second
	if !alone(g.Status) {
		return nil
	}
	for _, r := range g.Status.Routers {
		g.Listened = max(g.Listened, time.Duration(3*r.AdvertisementInterval*float64(time.Second)))
	}
	g.Listened = min(g.Listened, longest)
	select {
	case <-time.After(g.Listened):
	case <-ctx.Done():
		return ctx.Err()
	}
	stats, err := c.Stats(ctx)
	if err != nil {
		return err
	}
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	g.Alone, g.Heard = alone(&status), accepted(stats)-accepted(*g.Stats)
	return nil
}

// alone reports whether a daemon is Active for all its routers.
func alone(s *control.Status) bool {
	return len(s.Routers) > 0 && !slices.ContainsFunc(s.Routers, func(r control.Router) bool { return r.State != "Active" })
}

// accepted returns the number of accepted advertisements.
func accepted(s control.Stats) uint64 {
	for _, c := range s.Global {
		if c.Name == "advertisement_rcvd" {
			return c.Value
		}
	}
	return 0
}

// configuration reads the file and returns the interfaces to check.
func (g *gatherer) configuration(o Options) []string {
	path := o.Config
	if !o.Required && g.Status != nil && g.Status.Config != "" {
		path = g.Status.Config
	}
	f, _, err := migrate.Load(path, "")
	_, missing := os.Stat(path)
	switch {
	case err == nil:
		g.ConfigPath, g.Routers = path, f.Routers
	case errors.Is(missing, fs.ErrNotExist) && !o.Required:
	case errors.Is(err, config.ErrNothing):
		g.ConfigNothing = path
	default:
		g.ConfigError = err.Error()
	}
	names := slices.Clone(o.Interfaces)
	if len(names) > 0 {
		g.Routers = slices.DeleteFunc(g.Routers, func(r config.Router) bool { return !slices.Contains(names, r.Interface) })
		return names
	}
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, r := range g.Routers {
		add(r.Interface)
	}
	if g.Status != nil {
		for _, r := range g.Status.Routers {
			add(r.Interface)
		}
	}
	return names
}

// line returns the trimmed content of a small file, or "" if it can't be read.
func line(elements ...string) string {
	b, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// value returns the VALUE of the last line KEY=VALUE in a text.
func value(text, key string) (found string) {
	for l := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), "="); ok && strings.TrimSpace(k) == key {
			found = strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return found
}
