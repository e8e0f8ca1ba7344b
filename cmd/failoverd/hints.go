// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/failoverd/failoverd/cmd/internal/cli"
	"github.com/failoverd/failoverd/pkg/config"
)

// instead has the remedies for flags that other programs have and failoverd doesn't.
var instead = map[string]string{
	"state":             "a router has no configured state, the host with the highest --priority becomes Active",
	"interface":         "did you mean --iface?",
	"address":           "did you mean --vip?",
	"virtual-ipaddress": "did you mean --vip?",
	"ip":                "did you mean --vip?",
	"router-id":         "did you mean --vrid?",
	"virtual-router-id": "did you mean --vrid?",
	"advert-int":        "did you mean --interval?",
	"use-file":          "did you mean --config?",
	"preempt":           "failoverd preempts by default, and --no-preempt turns that off",
	"use-vmac":          "did you mean --virtual-mac?",
	"dont-fork":         "failoverd never runs in the background, so omit the flag",
}

// versionFlag is --version. It prints the version of failoverd. Before a number it is
// --vrrp-version, because that flag once had this name.
type versionFlag struct {
	flags *pflag.FlagSet
	asked bool
}

func (v *versionFlag) Type() string   { return "bool" }
func (v *versionFlag) String() string { return strconv.FormatBool(v.asked) }

func (v *versionFlag) Set(s string) error {
	if s == "true" {
		v.asked = true
		return nil
	}
	return v.flags.Set("vrrp-version", s)
}

// takes reports whether the arguments are only the number of --version NUMBER, and sets
// --vrrp-version then.
func (v *versionFlag) takes(args []string) bool {
	if !v.asked || len(args) != 1 {
		return false
	}
	if _, err := strconv.Atoi(args[0]); err != nil {
		return false
	}
	v.asked = false
	return v.flags.Set("vrrp-version", args[0]) == nil
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintln(w, "failoverd", config.Version())
	return err
}

// stray returns the error and the remedy for an argument that belongs to no flag.
func stray(arg string, flags *pflag.FlagSet) string {
	text := fmt.Sprintf("unexpected argument %q: ", arg)
	_, noPrefix := netip.ParsePrefix(arg)
	_, noAddress := netip.ParseAddr(arg)
	switch {
	case slices.Contains(cli.ControlCommands(), arg):
		return text + "did you mean failoverctl " + arg + "?"
	case arg == "start" || arg == "stop" || arg == "restart":
		return text + "did you mean systemctl " + arg + " failoverd?"
	case arg == "true" || arg == "false":
		var switches []string
		flags.Visit(func(f *pflag.Flag) {
			if f.NoOptDefVal == "true" {
				switches = append(switches, "--"+f.Name+"="+arg)
			}
		})
		if len(switches) > 0 {
			return text + "write the flag with an equals sign, " + strings.Join(switches, " or ")
		}
	case noPrefix == nil || noAddress == nil:
		return text + "did you mean --vip " + arg + "?"
	}
	return text + "name interfaces with --iface, and addresses with --vip"
}
