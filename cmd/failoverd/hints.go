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

// instead is the remedy for flags that failoverd doesn't have, by what other programs call
// the same thing.
var instead = map[string]string{
	"state":             "there is no state to begin in, the host with the highest --priority has the addresses",
	"interface":         "did you mean --iface?",
	"address":           "did you mean --vip?",
	"virtual-ipaddress": "did you mean --vip?",
	"ip":                "did you mean --vip?",
	"router-id":         "did you mean --vrid?",
	"virtual-router-id": "did you mean --vrid?",
	"advert-int":        "did you mean --interval?",
	"use-file":          "did you mean --config?",
	"preempt":           "it preempts unless --no-preempt is given",
	"use-vmac":          "did you mean --virtual-mac?",
	"dont-fork":         "it never runs in the background, leave the flag away",
}

// versionFlag is --version. It prints the version of failoverd; before a number it is what
// --vrrp-version was called once.
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

// takes reports whether all there is beside the flags is the number of --version NUMBER,
// and takes it.
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

// stray says what to do about an argument that isn't a flag's.
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
			return text + "write it with an equals sign, " + strings.Join(switches, " or ")
		}
	case noPrefix == nil || noAddress == nil:
		return text + "did you mean --vip " + arg + "?"
	}
	return text + "interfaces and addresses are given with --iface and --vip"
}
