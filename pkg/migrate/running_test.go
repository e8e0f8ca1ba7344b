// SPDX-License-Identifier: Apache-2.0

package migrate_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/migrate"
)

// confs are the files of a keepalived in a directory, of which keepalived.conf is run.
type confs struct {
	t   *testing.T
	dir string
}

func newConfs(t *testing.T) confs { return confs{t, t.TempDir()} }

func (c confs) path(name string) string { return filepath.Join(c.dir, name) }

func (c confs) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// load loads keepalived.conf. DIR is its directory in what is returned.
func (c confs) load() (f *config.File, findings []string, err string) {
	c.t.Helper()
	f, all, e := migrate.Load(c.path("keepalived.conf"), "")
	for _, one := range all {
		findings = append(findings, c.plain(one.String()))
	}
	if e != nil {
		err = c.plain(e.Error())
	}
	return f, findings, err
}

func (c confs) plain(s string) string { return strings.ReplaceAll(s, c.dir, "DIR") }

const (
	mainConf = `! Configuration File for keepalived
global_defs {
    router_id here
    vrrp_garp_master_delay 3
}
include instances.conf
`
	instancesConf = `vrrp_script check {
    script "/usr/bin/true"
    weight 5
}
vrrp_instance web {
    interface eth0
    virtual_router_id 51
    priority 150
    authentication {
        auth_type PASS
        auth_pass not2tell
    }
    virtual_ipaddress {
        192.0.2.10/24
        192.0.2.11/24
    }
    track_script {
        check
    }
}
vrrp_instance db {
    interface eth1
    virtual_router_id 52
    virtual_ipaddress {
        198.51.100.10/24
    }
    track_bfd {
        peer
    }
}
vrrp_sync_group both {
    sync_group_tracking_weight
    group {
        web
        db
    }
}
`
)

// keepalived's file runs as it is, with its includes. Its secrets stay in memory, and what
// the host finds wrong is told with keepalived's file, line and directive.
func TestRunKeepalived(t *testing.T) {
	c := newConfs(t)
	c.write("keepalived.conf", mainConf)
	c.write("instances.conf", instancesConf)
	f, findings, err := c.load()
	if err != "" {
		t.Fatal(err)
	}
	if len(f.Routers) != 2 || f.Routers[0].Name != "web" || f.Routers[0].Priority != 150 || f.Routers[0].Group != "both" || f.Path != c.path("keepalived.conf") {
		t.Errorf("%+v", f.Routers)
	}
	if len(findings) == 0 || !slices.ContainsFunc(findings, func(s string) bool { return strings.HasPrefix(s, "DIR/instances.conf:27: track_bfd: ") }) {
		t.Errorf("findings %q", findings)
	}
	for _, s := range findings {
		if strings.Contains(s, "not2tell") || strings.Contains(s, "auth_pass") || strings.Contains(s, "install -m 600") {
			t.Errorf("a secret, or what to do with one: %s", s)
		}
	}
	key := f.Routers[0].Authentication.Keys[0]
	if secret, ok := f.Secrets[key.File]; !ok || secret.Len() != len("not2tell") || strings.Contains(fmt.Sprintf("%+v", f), "not2tell") {
		t.Errorf("the secret of %+v is %v", key, ok)
	}
	for want, p := range map[string]config.Problem{
		"DIR/instances.conf:8: priority: no":                         {Key: "priority", Text: "no"},
		"DIR/instances.conf:6: interface: no":                        {Key: "interface", Text: "no"},
		"DIR/instances.conf:7: virtual_router_id: no":                {Key: "vrid", Text: "no"},
		"DIR/instances.conf:15: virtual_ipaddress 192.0.2.11/24: no": {Key: "addresses", Item: 1, Text: "no"},
		"DIR/instances.conf:9: authentication: no":                   {Key: "authentication", Text: "no"},
		"DIR/instances.conf:18: track_script check: no":              {Key: "track", Text: "no"},
		"DIR/instances.conf:5: vrrp_instance web: no":                {Key: "xdp_mode", Text: "no"},
	} {
		if got := c.plain(fmt.Sprint(f.Mistakes(map[int][]config.Problem{0: {p}}))); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	if got := c.plain(fmt.Sprint(f.TrackMistakes(map[string]config.Problem{"check": {Key: "script", Text: "no"}}))); got != "DIR/instances.conf:2: script: no" {
		t.Error(got)
	}
}

// A reload tells what differs in keepalived's words, with its lines.
func TestRunKeepalivedDifference(t *testing.T) {
	c := newConfs(t)
	c.write("keepalived.conf", mainConf)
	c.write("instances.conf", instancesConf)
	before, _, err := c.load()
	if err != "" {
		t.Fatal(err)
	}
	for name, d := range map[string]struct {
		replace []string // in all files
		router  string
		want    []string
	}{
		"a priority":    {[]string{"priority 150", "priority 200"}, "web", []string{"DIR/instances.conf:8: priority 150 → 200"}},
		"addresses":     {[]string{"        192.0.2.10/24\n", "", "192.0.2.11/24", "192.0.2.11/24\n        192.0.2.12/24"}, "web", []string{"DIR/instances.conf:15: virtual_ipaddress: 192.0.2.12/24 added", "DIR/instances.conf:13: virtual_ipaddress: 192.0.2.10/24 removed"}},
		"a new word":    {[]string{"priority 150", "priority 150\n    nopreempt\n    advert_int 2"}, "web", []string{"DIR/instances.conf:9: nopreempt added", "DIR/instances.conf:10: advert_int 2 added"}},
		"a lost word":   {[]string{"    priority 150\n", ""}, "web", []string{"DIR/instances.conf:5: priority 150 removed"}},
		"a password":    {[]string{"not2tell", "another2"}, "web", []string{"DIR/instances.conf:11: authentication: auth_pass changed"}},
		"a new block":   {[]string{"    track_bfd {", "    virtual_ipaddress_excluded {\n        203.0.113.7\n    }\n    track_bfd {"}, "db", []string{"DIR/instances.conf:28: virtual_ipaddress_excluded: 203.0.113.7 added"}},
		"a default":     {[]string{"master_delay 3", "master_delay 4"}, "db", []string{"DIR/keepalived.conf:4: vrrp_garp_master_delay 3 → 4"}},
		"a weight":      {[]string{"weight 5", "weight 7"}, "web", []string{"DIR/instances.conf:3: weight 5 → 7"}},
		"a group":       {[]string{"        db\n", ""}, "db", []string{"DIR/instances.conf:33: group: db removed"}},
		"a check":       {[]string{"bin/true", "bin/false"}, "track check", []string{"DIR/instances.conf:2: script /usr/bin/true → /usr/bin/false"}},
		"what is moved": {[]string{"vrrp_script check", "# A comment.\n\nvrrp_script check"}, "web", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := strings.NewReplacer(d.replace...)
			c.write("keepalived.conf", r.Replace(mainConf))
			c.write("instances.conf", r.Replace(instancesConf))
			after, _, err := c.load()
			if err != "" {
				t.Fatal(err)
			}
			var details []string
			for i := range after.Routers {
				if after.Routers[i].Name == d.router {
					details = config.Difference(before.Routers[i], after.Routers[i])
				}
			}
			if len(details) == 0 && d.router == "web" && name != "a password" && len(d.want) > 0 {
				t.Error("nothing differs")
			}
			got := after.Describe(before, d.router, "changed", details)
			for i := range got {
				got[i] = c.plain(got[i])
			}
			if !slices.Equal(got, d.want) {
				t.Errorf("%q\nwant %q", got, d.want)
			}
		})
	}
	after := before
	if got := after.Describe(before, "db", "added", nil); len(got) != 1 || c.plain(got[0]) != "DIR/instances.conf:21: vrrp_instance db" {
		t.Errorf("%q", got)
	}
	if got := after.Describe(before, "web", "changed", []string{"authentication: the password is another one"}); len(got) != 1 || c.plain(got[0]) != "DIR/instances.conf:5: vrrp_instance web: authentication: the password is another one" {
		t.Errorf("%q", got)
	}
	own, e := config.Parse("failoverd.yaml", []byte("routers: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}]"))
	if e != nil {
		t.Fatal(e)
	}
	if got := own.Describe(before, "web", "changed", []string{"priority: 150 → 100"}); !slices.Equal(got, []string{"priority: 150 → 100"}) {
		t.Errorf("%q", got)
	}
}

// A file that can't be run is refused with the reason, and a secret isn't in it.
func TestRunKeepalivedRefused(t *testing.T) {
	const secret = "authentication {\nauth_type PASS\nauth_pass not2tell\n}\n"
	for name, c := range map[string]struct{ text, want string }{
		"a balancer":             {"global_defs {\n}\nvirtual_server 192.0.2.10 80 {\n}\n", "DIR/keepalived.conf:1: there is nothing for failoverd in it: it has no vrrp_instance"},
		"only includes":          {"include missing.conf\n", "DIR/keepalived.conf:1: include missing.conf"},
		"a block without an end": {"vrrp_instance web {\n" + secret, "DIR/keepalived.conf:1: vrrp_instance web { is never closed"},
		"no VRID":                {"vrrp_instance web {\ninterface eth0\n" + secret + "}\n", "DIR/keepalived.conf:1: vrrp_instance web has no virtual_router_id"},
		"no router to run":       {"vrrp_instance web {\ninterface eth0\nvirtual_router_id 51\n" + secret + "mcast_dst_ip 224.0.0.200\nvirtual_ipaddress {\n192.0.2.10/24\n}\n}\n", "DIR/keepalived.conf: failoverd can run none of its routers:\nDIR/keepalived.conf:8: mcast_dst_ip: "},
	} {
		t.Run(name, func(t *testing.T) {
			f := newConfs(t)
			f.write("keepalived.conf", c.text)
			_, _, err := f.load()
			if !strings.HasPrefix(err, c.want) || strings.Contains(err, "not2tell") || strings.Contains(err, "commented out") {
				t.Errorf("%s\nwant %s", err, c.want)
			}
		})
	}
}

// keepalived's file is recognised by what is in it, failoverd's own isn't taken for it.
func TestKeepalivedIsRecognised(t *testing.T) {
	for text, want := range map[string]bool{
		"include /etc/keepalived/conf.d/*.conf\n": true,
		"! x\n\tvrrp_instance a\n{\n":             true,
		"vrrp_track_file load {\n":                true,
		"include: [conf.d/*.yaml]\n":              false,
		"include : [conf.d/*.yaml]\n":             false,
		"# vrrp_instance a {\nrouters:\n  - {}\n": false,
		"routers:\n  - name: vrrp_instance\n":     false,
		"routers: []\nvrrp_instance: {a: b}\n":    false,
		"includes:\n  - include conf.d\n":         false,
	} {
		f := newConfs(t)
		f.write("keepalived.conf", text)
		_, _, err := f.load()
		if got := !strings.Contains(err, "unknown key") && !strings.Contains(err, "not YAML") && !strings.Contains(err, "routers") && !strings.Contains(err, "router has no"); got != want {
			t.Errorf("%q: taken for keepalived's: %v: %s", text, got, err)
		}
	}
}
