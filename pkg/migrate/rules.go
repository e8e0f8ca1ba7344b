// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Reasons that several directives share.
const (
	itself   = "failoverd doesn't need it"
	noMail   = "failoverd sends no mail yet: a program of `notify` can send it"
	mailOnly = "keepalived mails about VRRP only with smtp_alert"
	noSNMP   = "failoverd has no SNMP yet; `metrics` below `global:` serves Prometheus"
	noDBus   = "failoverd has no D-Bus yet; `failoverctl status -o json` shows the same"
	noBFD    = "failoverd has no BFD yet"
	noStatic = "failoverd leaves it to the network configuration of the host (systemd-networkd, netplan, ifupdown)"
	process  = "it is about keepalived's processes; failoverd's systemd unit has such settings"
	realTime = "a late failoverd reads when the kernel received each advertisement, so it doesn't take over because of its own delay"
	buffers  = "failoverd sizes its buffers itself"
	firewall = "failoverd needs no firewall rules: its BPF programs drop the packets"
	reload   = "failoverctl reload checks the file before anything changes"
	dumps    = "`failoverctl status` shows it, and `failoverctl status -o json` as JSON"
	afterNS  = "run failoverd there: by NetworkNamespacePath= in its systemd unit, or ip netns exec"
	merged   = "one failoverd has all routers of a network namespace: put those of all instances into one file"
)

// What failoverd does in its own way.
const (
	pacedText   = "failoverd announces all addresses at once, and again after a tenth of a second as often as announce_count says"
	defendText  = "failoverd answers an advertisement of lower priority with its own, and announces the addresses at once and again a tenth of a second later"
	refreshText = "each refresh announces the addresses once"
	extraText   = "failoverd announces the addresses on the interface that has them, which is never a macvlan's"
	ownerText   = "an owner of the addresses answers an advertisement with its own, as RFC 9568 demands, and gives way to no lower priority"
	heldUpText  = "the lease does it: the kernel's programs stop answering for the addresses of an Active that hangs"
)

func later(text string) rule    { return rule{kind: Later, text: text} }
func foreign(text string) rule  { return rule{kind: Foreign, text: text} }
func unneeded(text string) rule { return rule{kind: Unneeded, text: text} }
func changed(text string) rule  { return rule{kind: Changed, text: text} }

// topRules are the rules outside of blocks.
var topRules = rules{
	"global_defs":              {apply: block(globalRules)},
	"vrrp_instance":            {apply: beginInstance},
	"vrrp_sync_group":          {apply: syncGroup},
	"vrrp_script":              {apply: beginCheck(kindScript, 0, scriptRules)},
	"vrrp_track_process":       {apply: beginCheck(kindProcess, 0, processRules)},
	"vrrp_track_file":          {apply: beginCheck(kindFile, 1, fileRules)},
	"track_file":               {apply: beginCheck(kindFile, 1, fileRules)},
	"bfd_instance":             {apply: bfd},
	"garp_group":               changed(pacedText),
	"static_ipaddress":         foreign(noStatic),
	"static_routes":            foreign(noStatic),
	"static_rules":             foreign(noStatic),
	"track_group":              foreign(noStatic),
	"linkbeat_interfaces":      unneeded("the kernel tells failoverd when a link goes down; it polls nothing"),
	"linkbeat_use_polling":     unneeded("the kernel tells failoverd when a link goes down; it polls nothing"),
	"interface_up_down_delays": {apply: interfaceDelays},
	"virtual_server":           {apply: balance},
	"virtual_server_group":     {apply: balance},
	"SSL":                      {apply: balance},
	"net_namespace":            foreign(afterNS),
	"net_namespace_ipvs":       {apply: balance},
	"namespace_with_ipsets":    unneeded(firewall),
	"instance":                 changed(merged),
	"use_pid_dir":              unneeded(process),
	"child_wait_time":          unneeded(process),
	"include":                  {kind: Unknown, text: "keepalived includes no file on a line with @, ~ or a variable: the file isn't read. Import it by itself"},
}

var globalRules = rules{
	"vrrp_version": {apply: func(t *translator, _ *instance, n *node) {
		if v, ok := t.number(n, 2, 3); ok {
			t.global.version = v
		}
	}},
	"vrrp_strict": {apply: func(t *translator, _ *instance, n *node) {
		strict := true
		t.global.strict = &strict
		t.find(n, Unneeded, strictText)
	}},
	"vrrp_garp_master_delay": {apply: func(t *translator, _ *instance, n *node) {
		if d, ok := t.seconds(n); ok {
			t.global.again, t.global.againTime = n, d
		}
	}},
	"vrrp_garp_master_repeat":  {apply: announceCount},
	"vrrp_garp_master_refresh": {apply: announceRefresh},
	"vrrp_startup_delay":       {apply: startDelay("startup_delay")},
	"vrrp_delay_after_boot":    {apply: startDelay("delay_after_boot")},
	"vrrp_min_garp": {apply: func(t *translator, _ *instance, n *node) {
		if v, ok := t.boolean(n); ok && v {
			t.find(n, Changed, "the addresses are announced once at a take-over, and not again where nothing else is said")
			t.global.againMinimal = v
		}
	}},
	"vrrp_mcast_group4":       {apply: multicastGroup},
	"vrrp_mcast_group6":       {apply: multicastGroup},
	"vrrp_down_timer_adverts": {apply: downTimer},

	"router_id":                    unneeded("it is for mails and logs"),
	"default_interface":            unneeded("each router has its interface"),
	"dynamic_interfaces":           unneeded("failoverd waits for interfaces that aren't there"),
	"log_unknown_vrids":            unneeded("`failoverctl stats` counts them as vrid_errors; `failoverd --iface eth0` shows what is on the network"),
	"vmac_prefix":                  unneeded("failoverd needs no devices for virtual MACs"),
	"vmac_addr_prefix":             unneeded("failoverd needs no devices for virtual MACs"),
	"vrrp_skip_check_adv_addr":     unneeded(addressText),
	"vrrp_check_unicast_src":       unneeded(peersOnly),
	"vrrp_lower_prio_no_advert":    unneeded(answersText),
	"vrrp_higher_prio_send_advert": unneeded(silentText),
	"vrrp_owner_ignore_adverts":    unneeded(ownerText),
	"v3_checksum_as_v2":            unneeded(checksumText),

	"vrrp_garp_lower_prio_delay":      unneeded(defendText),
	"vrrp_garp_lower_prio_repeat":     unneeded(defendText),
	"vrrp_garp_master_refresh_repeat": unneeded(refreshText),
	"vrrp_garp_interval":              {apply: paced},
	"vrrp_gna_interval":               {apply: paced},
	"vrrp_garp_extra_if":              unneeded(extraText),
	"vrrp_vmac_garp_intvl":            unneeded(extraText),

	"startup_script":          foreign("let systemd run it: ExecStartPre= in failoverd's unit"),
	"startup_script_timeout":  foreign("let systemd run it: ExecStartPre= in failoverd's unit"),
	"shutdown_script":         foreign("let systemd run it: ExecStopPost= in failoverd's unit"),
	"shutdown_script_timeout": foreign("let systemd run it: ExecStopPost= in failoverd's unit"),

	"notification_email":      {apply: mail},
	"notification_email_from": {apply: mail},
	"smtp_server":             {apply: mail},
	"smtp_helo_name":          {apply: mail},
	"smtp_connect_timeout":    {apply: mail},
	"smtp_alert":              {apply: mail},
	"smtp_alert_vrrp":         {apply: mail},
	"no_email_faults":         {apply: mail},

	"notify_fifo":                      {apply: fifo},
	"notify_fifo_script":               foreign(fifoReader),
	"vrrp_notify_fifo":                 {apply: fifo},
	"vrrp_notify_fifo_script":          foreign(fifoReader),
	"vrrp_notify_priority_changes":     {apply: priorityChanges},
	"fifo_write_vrrp_states_on_reload": later("a reload writes no states to the FIFO; `failoverctl status` shows them"),
	"script_user": {apply: func(t *translator, _ *instance, n *node) {
		t.globals = append(t.globals, pair{key: "script_user", value: text(strings.Join(n.args(), ":"))})
	}},
	"enable_script_security":   unneeded("failoverd refuses programs that others may change, unless allow_insecure_scripts is set"),
	"use_symlink_paths":        unneeded("failoverd runs a program by the path that the file has"),
	"set_supplementary_groups": unneeded("programs have all groups of their user"),

	"snmp_vs_stats_update_interval": {apply: balance},
	"snmp_rs_stats_update_interval": {apply: balance},
	"dbus_no_interface_name":        later(noDBus),
	"snmp_socket":                   later(noSNMP),
	"enable_snmp_vrrp":              later(noSNMP),
	"enable_snmp_keepalived":        later(noSNMP),
	"enable_snmp_checker":           {apply: balance},
	"enable_snmp_rfc":               later(noSNMP),
	"enable_snmp_rfcv2":             later(noSNMP),
	"enable_snmp_rfcv3":             later(noSNMP),
	"enable_traps":                  later(noSNMP),
	"enable_dbus":                   later(noDBus),
	"dbus_service_name":             later(noDBus),

	"tmp_config_directory": unneeded(itself),
	"config_save_dir":      unneeded(itself),
	"random_seed":          unneeded(itself),
	"umask":                unneeded(itself),
	"data_use_instance":    unneeded(dumps),
	"state_dump_file":      unneeded(dumps),
	"stats_dump_file":      unneeded(dumps),
	"json_dump_file":       unneeded(dumps),
	"state_file_location":  unneeded(dumps),
	"stats_file_location":  unneeded(dumps),
	"json_file_location":   unneeded(dumps),
	"json_version":         unneeded(dumps),
	"iproute_usr_dir":      unneeded("tables have numbers in failoverd's file"),
	"iproute_etc_dir":      unneeded("tables have numbers in failoverd's file"),
	"include_check":        unneeded("failoverd's configuration is one file"),
	"reload_check_config":  unneeded(reload),
	"reload_time_file":     unneeded("a systemd timer that runs failoverctl reload does it"),
	"reload_repeat":        unneeded("a systemd timer that runs failoverctl reload does it"),
	"reload_file":          unneeded(reload),

	"process_names":      unneeded(process),
	"process_name":       unneeded(process),
	"vrrp_process_name":  unneeded(process),
	"vrrp_priority":      unneeded(realTime),
	"vrrp_rt_priority":   unneeded("failoverd's event loop is real-time by itself (`realtime: auto`)"),
	"vrrp_rlimit_rttime": unneeded("failoverd bounds its real-time threads itself"),
	"vrrp_rlimit_rtime":  unneeded("failoverd bounds its real-time threads itself"),
	"vrrp_no_swap":       unneeded("failoverd locks its memory itself, where it may"),
	"vrrp_cpu_affinity":  unneeded("CPUAffinity= in failoverd's systemd unit does it"),

	"max_auto_priority":       unneeded(realTime),
	"min_auto_priority_delay": unneeded(realTime),

	"bfd_process_name":  later(noBFD),
	"bfd_priority":      later(noBFD),
	"bfd_rt_priority":   later(noBFD),
	"bfd_rlimit_rttime": later(noBFD),
	"bfd_rlimit_rtime":  later(noBFD),
	"bfd_no_swap":       later(noBFD),
	"bfd_cpu_affinity":  later(noBFD),

	"nftables":                   unneeded(firewall),
	"nftables_priority":          unneeded(firewall),
	"nftables_counters":          unneeded(firewall),
	"nftables_ifindex":           unneeded(firewall),
	"nftables_ipvs":              {apply: balance},
	"nftables_ipvs_priority":     {apply: balance},
	"nftables_ipvs_start_fwmark": {apply: balance},
	"vrrp_iptables":              unneeded(firewall),
	"vrrp_ipsets":                unneeded(firewall),
	"disable_local_igmp":         unneeded("failoverd joins the group on the interface itself"),

	"vrrp_netlink_cmd_rcv_bufs":           unneeded(buffers),
	"vrrp_netlink_cmd_rcv_bufs_force":     unneeded(buffers),
	"vrrp_netlink_monitor_rcv_bufs":       unneeded(buffers),
	"vrrp_netlink_monitor_rcv_bufs_force": unneeded(buffers),
	"process_monitor_rcv_bufs":            unneeded(buffers),
	"process_monitor_rcv_bufs_force":      unneeded(buffers),
	"vrrp_rx_bufs_policy":                 unneeded(buffers),
	"vrrp_rx_bufs_multiplier":             unneeded(buffers),

	"smtp_alert_checker":       {apply: balance},
	"checker_log_all_failures": {apply: balance},
	"checker_process_name":     {apply: balance},
	"checker_priority":         {apply: balance},
	"checker_rt_priority":      {apply: balance},
	"checker_rlimit_rttime":    {apply: balance},
	"checker_rlimit_rtime":     {apply: balance},
	"checker_no_swap":          {apply: balance},
	"checker_cpu_affinity":     {apply: balance},
	"no_checker_emails":        {apply: balance},
	"rs_init_notifies":         {apply: balance},
	"lvs_sync_daemon":          {apply: syncDaemon},
	"lvs_timeouts":             {apply: balance},
	"lvs_flush":                {apply: balance},
	"lvs_flush_on_stop":        {apply: balance},
	"lvs_flush_onstop":         {apply: balance},
	"lvs_process_name":         {apply: balance},
	"lvs_notify_fifo":          {apply: balance},
	"lvs_notify_fifo_script":   {apply: balance},

	"lvs_netlink_cmd_rcv_bufs":           {apply: balance},
	"lvs_netlink_cmd_rcv_bufs_force":     {apply: balance},
	"lvs_netlink_monitor_rcv_bufs":       {apply: balance},
	"lvs_netlink_monitor_rcv_bufs_force": {apply: balance},
	"lvs_sync_daemon_interface":          {apply: syncDaemon},

	// These may be in global_defs too.
	"linkbeat_use_polling":  unneeded("the kernel tells failoverd when a link goes down; it polls nothing"),
	"net_namespace":         foreign(afterNS),
	"net_namespace_ipvs":    {apply: balance},
	"namespace_with_ipsets": unneeded(firewall),
	"instance":              changed(merged),
	"use_pid_dir":           unneeded(process),
	"child_wait_time":       unneeded(process),
}

// Texts of directives that both an instance and global_defs can have.
const (
	strictText   = "it becomes `accept: false`, unless the instance says accept, and the directives that keepalived ignores beside it are left out"
	answersText  = "failoverd answers an advertisement of lower priority with its own at once, as RFC 9568 demands"
	silentText   = "failoverd becomes Backup without another advertisement, as RFC 9568 demands"
	addressText  = "failoverd compares the addresses of each advertisement, which costs nothing; `tolerate: [address-list]` accepts others in version 2"
	checksumText = "`checksum: auto`, the default, accepts both forms and answers in the peers'"
)

// mail is for the directives about mail, which mean nothing for VRRP without a
// smtp_alert.
func mail(t *translator, _ *instance, n *node) {
	n.tellAll()
	if !t.alerts {
		t.find(n, Unneeded, mailOnly)
		return
	}
	t.findOnce(n, Later, noMail)
}

// bfd is for a BFD session, which routers track, or real servers.
func bfd(t *translator, in *instance, n *node) {
	n.tellAll()
	root := n.parent
	switch tracked := func(c *node) bool {
		return slices.ContainsFunc(c.block, func(d *node) bool { return d.name() == "track_bfd" })
	}; {
	case slices.ContainsFunc(root.block, tracked):
		t.findOnce(n, Later, noBFD)
	case root.checks(n):
		balance(t, in, n)
	default:
		t.find(n, Unneeded, "nothing tracks it")
	}
}

// startDelay is for the times in which keepalived takes no part.
func startDelay(key string) func(*translator, *instance, *node) {
	return func(t *translator, _ *instance, n *node) {
		d, ok := t.seconds(n)
		if most := 1000 * time.Second; ok && d > most {
			d = most
			t.find(n, Changed, "failoverd waits for %s, its maximum", duration(d))
		}
		if d > 0 {
			t.globals = append(t.globals, pair{key: key, value: duration(d)})
		}
	}
}

// paced is for the intervals between gratuitous ARPs. 0 is keepalived's default.
func paced(t *translator, _ *instance, n *node) {
	if d, ok := t.seconds(n); ok && d == 0 {
		t.find(n, Unneeded, "0 is the default")
	} else if ok {
		t.findOnce(n, Changed, pacedText)
	}
}

var syncRules = rules{
	"group": {apply: func(_ *translator, _ *instance, n *node) {
		for _, c := range n.block {
			n.parent.members = append(n.parent.members, c.words...)
			c.tellAll()
		}
		n.args() // one that is written without a block
	}},
	"track_interface":            {apply: uses(kindInterface)},
	"track_script":               {apply: uses(kindScript)},
	"track_file":                 {apply: uses(kindFile)},
	"track_process":              {apply: uses(kindProcess)},
	"track_bfd":                  later(noBFD),
	"global_tracking":            unneeded("what keeps one member of a group from taking part keeps all"),
	"sync_group_tracking_weight": {apply: groupWeights},
	"notify_master":              groupHook("notify_active"),
	"notify_backup":              groupHook("notify_backup"),
	"notify_fault":               groupHook("notify_fault"),
	"notify_stop":                groupHook("notify_stop"),
	"notify_deleted":             unneeded("keepalived has it for instances only"),
	"notify":                     groupHook("notify"),
	"notify_priority_changes":    {apply: priorityChanges},
	"smtp_alert":                 {apply: mail},
}

// overrule finds a directive that another one further down overrules.
func (t *translator) overrule(before, n *node) {
	if before != nil {
		t.find(before, Doubtful, "there is %s further down, and keepalived takes the last", n.name())
	}
}

func syncGroup(t *translator, _ *instance, n *node) {
	g := &syncedGroup{node: n, name: n.arg(1)}
	for _, block := range n.block {
		if block.name() == "group" {
			for _, member := range block.block {
				g.members = append(g.members, member.words...)
			}
		}
	}
	t.synced = append(t.synced, g)
	t.apply(syncRules, nil, n.block)
}

func block(known rules) func(*translator, *instance, *node) {
	return func(t *translator, in *instance, n *node) { t.apply(known, in, n.block) }
}

func multicastGroup(t *translator, _ *instance, n *node) {
	if group := n.arg(1); group == "224.0.0.18" || strings.EqualFold(group, "ff02::12") {
		return
	}
	t.groups[n.name()] = n
	t.find(n, Later, "failoverd has no other multicast group than VRRP's: the routers that would use another are commented out")
}

// orGlobal returns the instance of a directive, or the defaults of all instances.
func (t *translator) orGlobal(in *instance) *instance {
	if in == nil {
		return &t.global
	}
	return in
}

func downTimer(t *translator, in *instance, n *node) {
	v, ok := t.number(n, 1, 100)
	if !ok {
		return
	}
	if v < vrrp.MinDownAfter {
		v = vrrp.MinDownAfter
		t.find(n, Changed, "failoverd waits for %d missing advertisements at least. Set it so on all hosts", v)
	}
	t.orGlobal(in).downAfter, t.orGlobal(in).downNode = v, n
}

func announceCount(t *translator, in *instance, n *node) {
	v, ok := t.number(n, 0, math.MaxInt32)
	if !ok {
		return
	}
	if most := min(max(v, 1), 100); most != v {
		t.find(n, Changed, "it is %d here: failoverd announces the addresses 1 to 100 times in a row", most)
		v = most
	}
	t.orGlobal(in).count = v
}

func announceRefresh(t *translator, in *instance, n *node) {
	d, ok := t.seconds(n)
	if !ok {
		return
	}
	if most := 24 * time.Hour; d > most {
		d = most
		t.find(n, Changed, "it is %s here, failoverd's maximum", duration(d))
	}
	t.orGlobal(in).refresh = &d
}

var instanceRules = rules{
	"interface": {apply: func(_ *translator, in *instance, n *node) { in.iface = n.arg(1) }},
	"state":     {apply: func(_ *translator, in *instance, n *node) { in.state = n }},
	"virtual_router_id": {apply: func(_ *translator, in *instance, n *node) {
		in.vridNode = n
		if v, err := strconv.Atoi(n.arg(1)); err == nil && v >= 1 && v <= 255 {
			in.vrid = v
		}
	}},
	"priority": {apply: func(t *translator, in *instance, n *node) {
		if v, err := strconv.Atoi(n.arg(1)); err == nil && v >= 1 && v <= config.OwnerPriority {
			in.priority = v
			return
		}
		t.find(n, Doubtful, "`%s` isn't a number from 1 to 255: it is 100 here, as keepalived takes it", cut(n.arg(1)))
	}},
	"advert_int": {apply: func(t *translator, in *instance, n *node) {
		if d, ok := t.seconds(n); ok {
			in.advert, in.interval = n, d
		}
	}},
	"version": {apply: func(t *translator, in *instance, n *node) {
		if v, ok := t.number(n, 2, 3); ok {
			in.version = v
		}
	}},
	"nopreempt": {apply: func(t *translator, in *instance, n *node) {
		t.overrule(in.preempt, n)
		in.preempt = n
	}},
	"preempt": {apply: func(t *translator, in *instance, n *node) {
		t.overrule(in.preempt, n)
		in.preempt = n
	}},
	"preempt_delay": {apply: func(t *translator, in *instance, n *node) {
		if d, ok := t.seconds(n); ok {
			in.delay, in.delayTime = n, d
		}
	}},
	"accept": {apply: func(t *translator, in *instance, n *node) {
		t.overrule(in.accept, n)
		in.accept = n
	}},
	"no_accept": {apply: func(t *translator, in *instance, n *node) {
		t.overrule(in.accept, n)
		in.accept = n
	}},
	"strict_mode": {apply: func(t *translator, in *instance, n *node) {
		v, ok := t.boolean(n)
		if ok {
			in.strict = &v
		}
		if ok && v {
			t.find(n, Unneeded, strictText)
		}
	}},
	"use_vmac": {apply: func(t *translator, in *instance, n *node) {
		in.vmac = n
		for _, word := range n.args() {
			if strings.Count(word, ":") >= 4 {
				t.find(n, Later, "the MAC is RFC 9568's, not `%s`", cut(word))
			}
		}
	}},
	"garp_master_delay": {apply: func(t *translator, in *instance, n *node) {
		if d, ok := t.seconds(n); ok {
			in.again, in.againTime = n, d
		}
	}},
	"virtual_ipaddress":          {apply: func(t *translator, in *instance, n *node) { in.pending = append(in.pending, n) }},
	"virtual_ipaddress_excluded": {apply: func(t *translator, in *instance, n *node) { in.pending = append(in.pending, n) }},
	"authentication":             {apply: func(_ *translator, in *instance, n *node) { in.auth = n }},
	"auth_hmac":                  {apply: func(_ *translator, in *instance, n *node) { in.hmac = n }},
	"unicast_peer":               {apply: unicastPeers},
	"unicast_src_ip":             {apply: sourceAddress},
	"mcast_src_ip":               {apply: sourceAddress},
	"unicast_ttl": {apply: func(t *translator, in *instance, n *node) {
		if v, ok := t.number(n, 1, 255); ok {
			in.ttl, in.ttlValue = n, v
		}
	}},
	"unicast_fault_no_peer": {apply: func(_ *translator, in *instance, n *node) { in.faultless = n }},
	"old_unicast_checksum": {apply: func(t *translator, _ *instance, n *node) {
		if n.arg(1) == "never" {
			t.find(n, Unneeded, "failoverd's checksum never covers the group's address")
			return
		}
		t.find(n, Changed, "failoverd's checksum covers the peer's address. keepalived up to 1.3.6 took the group's")
	}},
	"mcast_dst_ip": {apply: func(t *translator, in *instance, n *node) {
		if group := n.arg(1); group != "224.0.0.18" && !strings.EqualFold(group, "ff02::12") {
			in.group = n
			t.find(n, Later, "failoverd has no other multicast group than VRRP's. The router is commented out: it wouldn't hear the other hosts")
		}
	}},
	"down_timer_adverts":   {apply: downTimer},
	"timer_expired_backup": unneeded(heldUpText),
	"thread_timer_expired": unneeded(heldUpText),
	"owner_ignore_adverts": unneeded(ownerText),
	"no_virtual_ipaddress": {apply: func(_ *translator, in *instance, n *node) { in.addressless = n }},

	"track_src_ip":      unneeded("failoverd waits for the interface to have an address"),
	"check_unicast_src": unneeded(peersOnly),
	"vrf":               later("failoverd takes an interface, which may be part of a VRF: give its name"),

	"use_vmac_addr":  changed("addresses on other interfaces are at those interfaces' MACs"),
	"vmac_xmit_base": {apply: func(t *translator, in *instance, n *node) { in.xmitBase = n }},
	"use_ipvlan":     changed("failoverd makes no ipvlan: the addresses are on the interface itself"),
	"native_ipv6": {apply: func(t *translator, in *instance, n *node) {
		in.six = true
		t.find(n, Unneeded, "the addresses decide the family")
	}},

	"dont_track_primary": {apply: func(_ *translator, in *instance, n *node) {
		in.withoutCarrier = true
		n.tell()
	}},
	"track_interface": {apply: uses(kindInterface)},
	"track_script":    {apply: uses(kindScript)},
	"track_file":      {apply: uses(kindFile)},
	"track_process":   {apply: uses(kindProcess)},
	"track_bfd":       later(noBFD),

	"garp_master_repeat":         {apply: announceCount},
	"garp_lower_prio_delay":      unneeded(defendText),
	"garp_lower_prio_repeat":     unneeded(defendText),
	"garp_master_refresh":        {apply: announceRefresh},
	"garp_master_refresh_repeat": unneeded(refreshText),
	"garp_extra_if":              unneeded(extraText),
	"vmac_garp_intvl":            unneeded(extraText),
	"lower_prio_no_advert":       unneeded(answersText),
	"higher_prio_send_advert":    unneeded(silentText),

	"promote_secondaries": unneeded("when failoverd removes an address, it keeps the others of the network; and when another program removes one and the kernel takes virtual addresses with it, failoverd adds these again"),
	"virtual_routes":      {apply: virtualRoutes},
	"virtual_rules":       {apply: virtualRules},

	"v3_checksum_as_v2":         unneeded(checksumText),
	"skip_check_adv_addr":       unneeded(addressText),
	"debug":                     unneeded("`log_level: debug` below `global:` logs more"),
	"kernel_rx_buf_size":        unneeded(buffers),
	"linkbeat_use_polling":      unneeded("the kernel tells failoverd when a link goes down; it polls nothing"),
	"lvs_sync_daemon_interface": {apply: syncDaemon},

	"notify_master":              hook("notify_active"),
	"notify_backup":              hook("notify_backup"),
	"notify_fault":               hook("notify_fault"),
	"notify_stop":                hook("notify_stop"),
	"notify_deleted":             changed("a router that a reload removes runs notify_stop, and notify with STOP"),
	"notify":                     hook("notify"),
	"notify_master_rx_lower_pri": hook("notify_lower_priority"),
	"notify_priority_changes":    {apply: priorityChanges},
	"smtp_alert":                 {apply: mail},
}
