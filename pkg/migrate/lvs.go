// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Findings about the load balancer.
const (
	lvsText     = "failoverd has no load balancer. keepalived can go on with it, without VRRP: `failoverctl import --lvs FILE` writes its file, for `keepalived --check --use-file FILE`"
	lvsDone     = "it is in the file of --lvs"
	lvsSyncText = "keepalived switches the sync daemon of IPVS with VRRP. Without VRRP it runs the daemon in both directions at once: `failoverctl import --lvs FILE` writes that. For one direction at a time run ipvsadm --start-daemon in notify_active and notify_backup"
	lvsSyncDone = "in the file of --lvs keepalived runs the sync daemon of IPVS in both directions at once. For one direction at a time remove lvs_sync_daemon there, and run ipvsadm --start-daemon in notify_active and notify_backup"
)

// balance is for the directives of the load balancer alone.
func balance(t *translator, _ *instance, n *node) {
	n.tellAll()
	n.balances = true
	switch {
	case !t.balancer:
		t.find(n, Unneeded, "it is for virtual servers, and there are none")
	case t.LVS:
		t.findOnce(n, Unneeded, lvsDone)
	default:
		t.findOnce(n, Foreign, lvsText)
	}
}

// syncDaemon is for the directives that start the sync daemon of IPVS. keepalived takes
// lvs_sync_daemon of global_defs, or else the first instance's.
func syncDaemon(t *translator, in *instance, n *node) {
	n.tellAll()
	if t.syncd == nil || in == nil && t.syncd.name() != "lvs_sync_daemon" {
		t.syncd = n
	}
	master, _ := syncOptions(n)
	switch {
	case in == nil && master == "" || !t.balancer:
		balance(t, in, n)
	case t.LVS:
		t.findOnce(n, Foreign, lvsSyncDone)
	default:
		t.findOnce(n, Foreign, lvsSyncText)
	}
}

// syncOptions returns the instance that a lvs_sync_daemon follows, "" for none, and its
// options without that.
func syncOptions(n *node) (master string, options []string) {
	words := n.words[min(2, len(n.words)):]
	known := []string{"id", "maxlen", "port", "ttl", "group"}
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch {
		case words[i] == "inst":
			master, i = value, i+1
		case slices.Contains(known, words[i]):
			options, i = append(options, words[i], value), i+1
		case i == 0: // the old form: INTERFACE INSTANCE [ID]
			master = words[i]
		case i == 1:
			options = append(options, "id", words[i])
		}
	}
	return master, options
}

// shared are the directives of global_defs, and of the top of the file, that keepalived needs
// for the load balancer too.
var shared = map[string]bool{
	"router_id": true, "process_names": true, "process_name": true, "umask": true, "random_seed": true,
	"notification_email": true, "notification_email_from": true, "smtp_server": true, "smtp_helo_name": true, "smtp_connect_timeout": true, "smtp_alert": true,
	"script_user": true, "enable_script_security": true, "use_symlink_paths": true, "set_supplementary_groups": true,
	"snmp_socket": true, "enable_traps": true, "max_auto_priority": true, "min_auto_priority_delay": true, "nftables_counters": true,
	"tmp_config_directory": true, "config_save_dir": true, "include_check": true, "data_use_instance": true, "state_dump_file": true,
	"reload_check_config": true, "reload_time_file": true, "reload_repeat": true, "reload_file": true,
	"net_namespace": true, "instance": true, "use_pid_dir": true, "child_wait_time": true,
}

// lvs returns the file for a keepalived that is only the load balancer, nil without a virtual
// server.
func (t *translator) lvs(path string, root *node) []byte {
	if !t.balancer {
		return nil
	}
	var b bytes.Buffer
	comment(&b, "", "Made by `failoverctl import` from keepalived's "+clean(path)+": its load balancer, beside failoverd. It is for: keepalived --check --use-file FILE")
	var globals []*node
	for _, n := range root.block {
		if n.name() == "global_defs" {
			globals = append(globals, slices.DeleteFunc(slices.Clone(n.block), func(c *node) bool { return c == t.syncd || !c.balances && !shared[c.name()] })...)
		}
	}
	if len(globals) > 0 || t.syncd != nil {
		b.WriteString("\nglobal_defs {\n")
		for _, n := range globals {
			n.write(&b, "    ")
		}
		if t.syncd != nil {
			fmt.Fprintf(&b, "    lvs_sync_daemon %s\n", strings.Join(t.syncWords(), " "))
		}
		b.WriteString("}\n")
	}
	for _, n := range root.block {
		if n.balances || shared[n.name()] || root.checks(n) {
			b.WriteByte('\n')
			n.write(&b, "")
		}
	}
	return b.Bytes()
}

// syncWords returns the arguments of a lvs_sync_daemon that follows no instance. The hosts
// that synchronize have one ID, by default the VRID of the instance.
func (t *translator) syncWords() []string {
	master, options := syncOptions(t.syncd)
	words := append([]string{t.syncd.words[min(1, len(t.syncd.words)-1)]}, options...)
	if slices.Contains(options, "id") {
		return words
	}
	for _, in := range t.instances {
		if in.name == master && master != "" || t.syncd.parent == in.node {
			return append(words, "id", strconv.Itoa(in.vrid))
		}
	}
	return words
}

// checks reports whether a check of a real server, at any depth of a block, uses a block of
// the top: a file or a BFD session.
func (n *node) checks(used *node) bool {
	check, key := "FILE_CHECK", "track_file"
	switch used.name() {
	case "bfd_instance":
		check, key = "BFD_CHECK", "name"
	case "track_file", "vrrp_track_file":
	default:
		return false
	}
	return slices.ContainsFunc(n.block, func(c *node) bool {
		if c.name() != check {
			return c.checks(used)
		}
		return slices.ContainsFunc(c.block, func(name *node) bool {
			return name.name() == key && slices.Equal(name.words[1:], used.words[1:min(2, len(used.words))])
		})
	})
}

// write writes a directive as keepalived reads it.
func (n *node) write(b *bytes.Buffer, indent string) {
	words := make([]string, len(n.raw))
	for i, raw := range n.raw {
		words[i] = uncommentable.Replace(raw)
		if strings.ContainsAny(raw, `"'\`) {
			words[i] = raw // quotes keep these characters
		}
	}
	b.WriteString(indent + strings.Join(words, " "))
	if !n.hasBlock {
		b.WriteByte('\n')
		return
	}
	b.WriteString(" {\n")
	for _, c := range n.block {
		c.write(b, indent+"    ")
	}
	b.WriteString(indent + "}\n")
}

// uncommentable writes the characters that begin a comment as the variables they came from.
var uncommentable = strings.NewReplacer("#", "${_HASH}", "!", "${_BANG}")
