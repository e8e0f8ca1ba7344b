// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/manual"
)

var sections = []manual.Section{
	{Title: "SIGNALS", Text: `  SIGHUP            reads the configuration file again: what is different changes, and
                    nothing if something is wrong with it. With --vip it ends failoverd
  SIGTERM, SIGINT   ends it in order: other hosts are told by an advertisement of
                    priority 0 and take over at once, the addresses and all else that
                    it has put on the host are removed. A second one, half a second later or
                    more, ends the wait for hooks`},
	{Title: "JOURNAL", Text: `Below systemd each line of the log is a record of the journal, with the priority err,
warning, info or debug, and with what of these fields it has:

  VRRP_ROUTER       the name of the router
  VRRP_INTERFACE    the interface
  VRRP_VRID         the VRID
  VRRP_FAMILY       ipv4 or ipv6
  VRRP_STATE        of a change of state: Active, Backup or Initialize
  VRRP_CAUSE        why the state has changed
  VRRP_PEER         the address of the other host
  VRRP_PROBLEM      the kind of a problem, as failoverctl status has it

  journalctl -u failoverd -p warning
  journalctl VRRP_ROUTER=web VRRP_STATE=Active`},
	{Title: "FILES", Text: `  /etc/failoverd/failoverd.yaml   the configuration file; see failoverd.yaml(5)
  /run/failoverd/control.sock     the control socket, for failoverctl(1). A second
                                  failoverd of the host has control-PID.sock
  /run/failoverd/                 also what was changed on the host, for the next start
                                  after kill -9, or for --cleanup
  /sys/fs/bpf/failoverd/          the BPF programs and maps while it runs
  /etc/failover/vrrp-config.json  the Rust failover's configuration, which is run if
                                  there is no other; also looked for in $SNAP_COMMON`},
}

// manualCommand prints the manual page, for who packages it.
func manualCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man",
		Short:  "Print the manual page of failoverd",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return manual.Command(c.OutOrStdout(), c.Root(), manual.Page{
				Section:  8,
				Version:  config.Version(),
				Sections: sections,
				SeeAlso:  []string{"failoverctl(1)", "failoverd.yaml(5)"},
			})
		},
	}
}
