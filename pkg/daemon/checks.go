// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/script"
	"github.com/failoverd/failoverd/pkg/track"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// checkScripts returns an error for checks whose script other users may change, or whose user
// doesn't exist. A script that can't be run at the moment is only logged.
func checkScripts(f *config.File, log *logrus.Logger) error {
	wrong := make(map[string]config.Problem)
	for _, c := range f.Tracks {
		if c.Kind != string(track.Script) {
			continue
		}
		var user *script.Credential
		var err error
		if c.User != "" {
			if user, err = script.Lookup(c.User); err != nil {
				wrong[c.Name] = config.Problem{Key: "user", Text: err.Error()}
				continue
			}
		}
		err = script.Check(c.Script[0], user)
		switch entry := log.WithField("check", c.Name); {
		case err == nil:
		case !errors.Is(err, script.ErrInsecure):
			entry.WithError(err).Warn("the script of this check can't be run now, so the check is down")
		case f.Global.AllowInsecureScripts:
			entry.WithError(err).Warn("the script of this check is run although it is not safe, because allow_insecure_scripts is set")
		default:
			wrong[c.Name] = config.Problem{Key: "script", Text: c.Script[0] + " is not safe to run: " + err.Error() + "; or set allow_insecure_scripts below global"}
		}
	}
	return f.TrackMistakes(wrong)
}

// checksOf returns the checks that routers use, and the routes that some of these checks wait
// for.
func checksOf(f *config.File) (checks []track.Check, routes []routing.Sought) {
	used := make(map[string]bool)
	for _, r := range f.Routers {
		for _, u := range r.Track {
			used[u.Name] = true
		}
	}
	for _, c := range f.Tracks {
		if !used[c.Name] {
			continue
		}
		check := checkOf(c)
		checks = append(checks, check)
		if check.Kind == track.Route {
			routes = append(routes, check.Route)
		}
	}
	return checks, routes
}

// wanted maps the states that a router check can require to the names that users see.
var wanted = map[string]string{config.WantActive: vrrp.Active.String(), config.WantBackup: vrrp.Backup.String(), config.WantRunning: track.Running}

func checkOf(c config.Track) track.Check {
	check := track.Check{
		Name: c.Name, Kind: track.Kind(c.Kind), Rise: c.Rise, Fall: c.Fall, Interval: c.Interval, Timeout: c.Timeout, InitFail: c.InitFail,
		Target: c.TCP + c.HTTP + c.PIDFile + c.File + c.Link + c.Router, // one of them
	}
	switch check.Kind {
	case track.Script:
		check.Command = script.Command{Args: c.Script, Env: []string{"PATH=" + script.DefaultPath, "FAILOVERD_TRACK=" + c.Name}}
		if c.User != "" {
			var err error
			if check.Command.User, err = script.Lookup(c.User); err != nil {
				check.Command.Args = nil // the user was removed since the file was checked: run nothing instead of using another user
			}
		}
	case track.HTTP:
		check.HTTP = track.Request{Host: c.Host, Insecure: !c.Verify}
		for _, s := range c.Statuses {
			check.HTTP.Statuses = append(check.HTTP.Statuses, track.Status{From: s[0], To: s[1]})
		}
	case track.Ping:
		check.Target, check.Targets = "", track.Targets{Addresses: c.Ping, Interface: c.Link, AtLeast: c.AtLeast}
	case track.ARP:
		check.Target, check.Targets = "", track.Targets{Addresses: c.ARP, Interface: c.Link, AtLeast: c.AtLeast}
	case track.Process:
		check.Process = track.Processes{Min: c.Min, Max: c.Max}
		if len(c.Process) == 1 && !strings.Contains(c.Process[0], "/") {
			check.Process.Name = c.Process[0]
		} else {
			check.Process.Arguments = c.Process
		}
	case track.Address:
		check.Address = c.Address
	case track.Route:
		check.Route = routing.Sought{Prefix: c.Route, Via: c.Via, Table: c.Table}
	case track.Router:
		check.State = wanted[c.State]
	}
	return check
}

// trackDifference returns the changes between two lists of tracks.
func trackDifference(before, after []config.Track) []control.Change {
	old := make(map[string]config.Track)
	for _, c := range before {
		old[c.Name] = c
	}
	var all []control.Change
	for _, c := range after {
		was, there := old[c.Name]
		delete(old, c.Name)
		if !there {
			all = append(all, control.Change{Router: sourceOf(c.Name), What: "added"})
		} else if details := config.TrackDifference(was, c); len(details) > 0 {
			all = append(all, control.Change{Router: sourceOf(c.Name), What: "changed", Details: details})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		all = append(all, control.Change{Router: sourceOf(name), What: "removed"})
	}
	return all
}
