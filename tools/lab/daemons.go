// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Transition is failoverd's log entry about a change of state.
type Transition struct {
	Message   string    `json:"msg"`
	Time      time.Time `json:"time"`
	Interface string    `json:"interface"`
	VRID      int       `json:"vrid"`
	Family    string    `json:"family"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	Cause     string    `json:"cause"`
}

// Failoverd is a failoverd that runs on a node.
type Failoverd struct{ *Process }

// Failoverd starts the failoverd at the path, with its log in JSON. env is added to its
// environment.
func (n *Node) Failoverd(env []string, path string, args ...string) (*Failoverd, error) {
	p, err := n.StartEnv(env, path, append(args, "--log-format", "json")...)
	return &Failoverd{p}, err
}

// WaitTransition waits for a transition that want accepts, beginning with line from of the
// log, and returns it and the number of its line.
func (f *Failoverd) WaitTransition(ctx context.Context, from int, want func(Transition) bool) (Transition, int, error) {
	var t Transition
	n, err := f.WaitLine(ctx, from, func(line string) bool {
		t = Transition{}
		return json.Unmarshal([]byte(line), &t) == nil && t.Message == "transition" && want(t)
	})
	return t, n, err
}

// WaitState waits until the Virtual Router of the family enters the state.
func (f *Failoverd) WaitState(ctx context.Context, from int, family, state string) (Transition, int, error) {
	return f.WaitTransition(ctx, from, func(t Transition) bool { return t.Family == family && t.To == state })
}

// Transitions returns all transitions so far.
func (f *Failoverd) Transitions() []Transition {
	var all []Transition
	for _, l := range f.Lines() {
		var t Transition
		if json.Unmarshal([]byte(l.Text), &t) == nil && t.Message == "transition" {
			all = append(all, t)
		}
	}
	return all
}

// KeepalivedConfig is the configuration of one virtual router of keepalived. Settings that
// it doesn't have stay at keepalived's defaults.
type KeepalivedConfig struct {
	Program   string // path of keepalived; empty for Debian's
	Interface string
	Version   int // 2 or 3
	VRID      int
	Priority  int
	Interval  time.Duration
	NoPreempt bool
	Addresses []string // with prefix lengths, of one family
	Notify    string   // program that keepalived runs on each change of state; empty for none
	Source    string   // unicast_src_ip; empty for the default
	Peers     []string // unicast_peer; multicast if empty
	AuthType  string   // auth_type, PASS or AH; empty for none
	AuthPass  string   // auth_pass
	HMAC      []string // the lines of auth_hmac, which keepalived has since 2.4; empty for none
}

// String renders the configuration in keepalived's language.
func (c KeepalivedConfig) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n  vrrp_version %d\n  script_user root\n}\n", c.Version)
	fmt.Fprintf(&b, "vrrp_instance lab {\n  state BACKUP\n  interface %s\n  virtual_router_id %d\n  priority %d\n  advert_int %g\n", c.Interface, c.VRID, c.Priority, c.Interval.Seconds())
	if c.NoPreempt {
		b.WriteString("  nopreempt\n")
	}
	if c.Notify != "" {
		fmt.Fprintf(&b, "  notify %s\n", c.Notify)
	}
	if c.Source != "" {
		fmt.Fprintf(&b, "  unicast_src_ip %s\n", c.Source)
	}
	if len(c.Peers) > 0 {
		fmt.Fprintf(&b, "  unicast_peer {\n    %s\n  }\n", strings.Join(c.Peers, "\n    "))
	}
	if c.AuthType != "" {
		fmt.Fprintf(&b, "  authentication {\n    auth_type %s\n    auth_pass %s\n  }\n", c.AuthType, c.AuthPass)
	}
	if len(c.HMAC) > 0 {
		fmt.Fprintf(&b, "  auth_hmac {\n    %s\n  }\n", strings.Join(c.HMAC, "\n    "))
	}
	b.WriteString("  virtual_ipaddress {\n")
	for _, a := range c.Addresses {
		fmt.Fprintf(&b, "    %s\n", a)
	}
	b.WriteString("  }\n}\n")
	return b.String()
}

// Keepalived starts keepalived on the node.
func (n *Node) Keepalived(c KeepalivedConfig) (*Process, error) {
	path, err := n.WriteKeepalived(c)
	if err != nil {
		return nil, err
	}
	return n.keepalived(cmp.Or(c.Program, "keepalived"), path)
}

// WriteKeepalived writes the configuration file that Keepalived starts with, and returns its
// path. A running keepalived reads it again at SIGHUP.
func (n *Node) WriteKeepalived(c KeepalivedConfig) (string, error) {
	path := fmt.Sprintf("/run/keepalived-%d.conf", c.VRID)
	return path, n.Do(func() error { return os.WriteFile(path, []byte(c.String()), 0o644) })
}

// KeepalivedFile starts Debian's keepalived with a configuration file. The files of the
// keepaliveds on one node need different names.
func (n *Node) KeepalivedFile(path string) (*Process, error) {
	return n.keepalived("keepalived", path)
}

func (n *Node) keepalived(program, path string) (*Process, error) {
	args, err := n.keepalivedArgs(program, path)
	if err != nil {
		return nil, err
	}
	return n.Start(program, append(args, "--log-detail")...)
}

// KeepalivedToFile starts the keepalived at the path of program with a configuration, as
// StartToFile does: its log goes to a file in memory. A node can run one of these.
func (n *Node) KeepalivedToFile(program, config string) (*Process, error) {
	const path = "/run/measured.conf"
	if err := n.Do(func() error { return os.WriteFile(path, []byte(config), 0o644) }); err != nil {
		return nil, err
	}
	args, err := n.keepalivedArgs(program, path)
	if err != nil {
		return nil, err
	}
	return n.StartToFile(program, append(args, "--no-syslog")...)
}

// keepalivedArgs returns the arguments that a keepalived with a configuration file needs, and
// makes the directory of its PID files. A keepalived that was built without LVS has no --vrrp,
// and takes it for --vrrp_pid.
func (n *Node) keepalivedArgs(program, path string) ([]string, error) {
	dir := "/run/" + strings.TrimSuffix(filepath.Base(path), ".conf")
	if err := n.Do(func() error { return os.MkdirAll(dir, 0o755) }); err != nil {
		return nil, err
	}
	help, err := exec.Command(program, "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s --help: %w", program, err)
	}
	args := []string{"--dont-fork", "--log-console", "--use-file=" + path, "--pid=" + dir + "/pid", "--vrrp_pid=" + dir + "/vrrp.pid"}
	if bytes.Contains(help, []byte("--vrrp ")) {
		args = append(args, "--vrrp")
	}
	return args, nil
}

// WaitHolds waits until the wanted ones of all nodes, and no others, have the address on the
// interface.
func WaitHolds(ctx context.Context, ifname, address string, all []*Node, want ...*Node) error {
	for {
		var holders []string
		right := true
		for _, n := range all {
			holds, err := n.Holds(ifname, address)
			if err != nil {
				return err
			}
			if holds {
				holders = append(holders, n.Name)
			}
			wanted := false
			for _, w := range want {
				wanted = wanted || w == n
			}
			right = right && wanted == holds
		}
		if right {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s is on %v: %w", address, holders, ctx.Err())
		}
	}
}

// Holds reports whether the node has the address on the interface.
func (n *Node) Holds(ifname, address string) (bool, error) {
	all, err := n.Addresses(ifname)
	for _, a := range all {
		if a.String() == address || a.Addr().String() == address {
			return true, err
		}
	}
	return false, err
}
