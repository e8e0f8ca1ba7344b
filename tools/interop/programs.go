// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/failoverd/failoverd/tools/lab"
)

// programs are the paths of the programs under test.
type programs struct {
	failoverd  string
	keepalived string // empty for Debian's
	frr        string // a directory; empty for Debian's
}

// peer returns a router of the peer that isn't started yet.
func (p programs) peer(name string) router {
	if name == peerFRR {
		return &frr{dir: p.frr}
	}
	return &keepalived{program: p.keepalived}
}

// version is a version of a peer: major, minor, patch.
type version [3]int

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

func (v version) atLeast(least version) bool { return slices.Compare(v[:], least[:]) >= 0 }

// versions asks the peers for their versions.
func (p programs) versions(ctx context.Context) (map[string]version, error) {
	all := make(map[string]version)
	for name, ask := range map[string]struct{ path, remedy string }{
		peerKeepalived: {cmp.Or(p.keepalived, "keepalived"), "install the package keepalived, or give --keepalived"},
		peerFRR:        {filepath.Join(cmp.Or(p.frr, filepath.Dir(lab.VRRPD)), "vrrpd"), "install the package frr, or give --frr"},
	} {
		text, err := exec.CommandContext(ctx, ask.path, "--version").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("the version of %s: %w; %s", ask.path, err, ask.remedy)
		}
		if all[name], err = parseVersion(string(text)); err != nil {
			return nil, fmt.Errorf("%s --version: %w", ask.path, err)
		}
	}
	return all, nil
}

var versionForm = regexp.MustCompile(`(\d+)\.(\d+)(?:\.(\d+))?`)

// parseVersion finds the first version in what a program prints. A patch that isn't
// there is 0.
func parseVersion(text string) (version, error) {
	found := versionForm.FindStringSubmatch(text)
	if found == nil {
		return version{}, fmt.Errorf("no version in %q", text)
	}
	var v version
	for i, digits := range found[1:] {
		if digits == "" {
			continue
		}
		var err error
		if v[i], err = strconv.Atoi(digits); err != nil {
			return version{}, err
		}
	}
	return v, nil
}
