// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

var update = flag.Bool("update", false, "write what is said of bad files to their golden files")

// What is said of bad files names the place, the cause and the remedy.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse("failoverd.yaml", content)
			var mistakes *Mistakes
			if !errors.As(err, &mistakes) {
				t.Fatalf("no mistake found: %v", err)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A file that has only comments is no mistake: it counts as no file.
func TestNothingConfigured(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "a blank line": "\n", "comments": "# routers:\n  # to be written\n", "a document": "---\n# x\n", "a byte order mark": byteOrderMark + "# x\n",
	} {
		f, err := Parse("failoverd.yaml", []byte(content))
		if f != nil || !errors.Is(err, ErrNothing) || err.Error() != "failoverd.yaml: nothing is configured yet: describe a router below `routers:`; failoverctl reference prints every key" {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	for name, content := range map[string]string{"no routers": "routers:\n", "other keys": "global: {log_level: debug}\n", "a word": "x\n"} {
		if _, err := Parse("failoverd.yaml", []byte(content)); err == nil || errors.Is(err, ErrNothing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	web := defaultRouter()
	web.Name, web.Interface, web.VRID, web.XDPMode, web.Unchanged = "eth0-51", "eth0", 51, "auto", "pass"
	web.Addresses = prefixes("192.0.2.10/24", "2001:db8::10/64")
	web.Hooks.Timeout = DefaultNotifyTimeout
	all := Router{
		Name: "all", Interface: "br0.7", VRID: 255, Version: 3, Priority: 254, Interval: 40950 * time.Millisecond, MaxInterval: 41 * time.Second,
		Addresses: prefixes("192.0.2.11/32"), Checksum: vrrp.ChecksumOnlyRFC5798, Dual: true,
		Tolerate: Tolerance{AddressList: true}, VirtualMAC: VirtualMACOff, XDPMode: "off", Unchanged: "pass", DownAfter: 5, Announcements: 2, Refresh: time.Minute,
		Hooks: Hooks{
			Any: Command{"/etc/failoverd/notify", "two words"}, Active: Command{"/bin/a"}, Backup: Command{"/bin/b", "1"},
			Fault: Command{"/bin/f"}, Stop: Command{"/bin/s"}, LowerPriority: Command{"/bin/l"}, Timeout: 5 * time.Second,
		},
	}
	for _, c := range []struct{ name, content string }{
		{"block", "routers:\n- interface: eth0\n  vrid: 51\n  addresses:\n  - 192.0.2.10/24\n  - 2001:db8::10/64\n"},
		{"flow", "routers: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24, 2001:db8::10/64]}]"},
		{"JSON", `{"routers":[{"interface":"eth0","vrid":51,"addresses":["192.0.2.10/24","2001:db8::10/64"]}]}`},
		{"anchors", "routers:\n- &x\n  interface: eth0\n  vrid: 50\n  addresses: [192.0.2.9]\n- <<: *x\n  vrid: 51\n  addresses: [192.0.2.10/24, 2001:db8::10/64]\n"},
		{"carriage returns", "routers:\r\n- interface: eth0\r\n  vrid: 51\r\n  addresses:\r\n  - 192.0.2.10/24\r\n  - 2001:db8::10/64\r\n"},
	} {
		f, err := Parse("x", []byte(c.content))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(web, f.Routers[len(f.Routers)-1], cmpopts.EquateComparable(web.Addresses[0])); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	f, err := Parse("x", []byte(`
global: {xdp_mode: tc, unchanged: drop, log_format: json, log_level: debug, metrics: "127.0.0.1:9650", metrics_compat: keepalived, startup_delay: 10s, delay_after_boot: 20s, realtime: true,
  notify: [/bin/n], notify_timeout: 1m, notify_fifo: /run/f, notify_priority_changes: true, script_user: "nobody:nogroup", allow_insecure_scripts: true}
routers:
  - name: all
    interface: br0.7
    vrid: 255
    priority: 254
    interval: 40.95s
    max_interval: 41s
    preempt: false
    accept: false
    addresses: [192.0.2.11]
    checksum: rfc5798
    dual: true
    tolerate: [address-list]
    virtual_mac: off
    announce_again: 0s
    announce_count: 2
    announce_refresh: 1m
    down_after: 5
    families_together: false
    xdp_mode: off
    unchanged: pass
    notify: /etc/failoverd/notify 'two words'
    notify_active: /bin/a
    notify_backup: [/bin/b, 1]
    notify_fault:
      - /bin/f
    notify_stop: "/bin/s"
    notify_lower_priority: /bin/l
    notify_timeout: 5s
`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, f.Routers[0], cmpopts.EquateComparable(all.Addresses[0])); diff != "" {
		t.Error(diff)
	}
	global := Global{
		XDPMode: "tc", Unchanged: Drop, LogFormat: "json", LogLevel: "debug", Metrics: "127.0.0.1:9650", MetricsCompat: "keepalived", StartupDelay: 10 * time.Second, DelayAfterBoot: 20 * time.Second, Realtime: RealtimeAll,
		Notify: Command{"/bin/n"}, NotifyTimeout: time.Minute, NotifyFIFO: "/run/f", NotifyPriorityChanges: true, ScriptUser: "nobody:nogroup", AllowInsecureScripts: true,
	}
	if diff := cmp.Diff(global, f.Global); diff != "" {
		t.Error(diff)
	}
}

// What the host has found is placed in the file.
func TestPlacedLater(t *testing.T) {
	f, err := Parse("x", []byte("routers:\n  - interface: eth0\n    vrid: 51\n    addresses:\n      - 192.0.2.10/24\n      - 192.0.2.11/24\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = f.Mistakes(map[int][]Problem{0: {{Key: "addresses", Item: 1, Text: "is elsewhere"}, {Key: "priority", Text: "no owner"}}})
	want := "x:2:5: no owner\n    2 |   - interface: eth0\n      |     ^^^^^^^^^\nx:6:9: is elsewhere\n    6 |       - 192.0.2.11/24\n      |         ^^^^^^^^^^^^^"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if err := f.Mistakes(nil); err != nil {
		t.Error(err)
	}
}

// The reference is what the tables of keys make, a valid file, and has the defaults.
func TestReference(t *testing.T) {
	made := makeReference()
	if *update {
		if err := os.WriteFile("reference.yaml", made, 0o644); err != nil {
			t.Fatal(err)
		}
		Reference = made
	}
	if diff := cmp.Diff(string(made), string(Reference)); diff != "" {
		t.Errorf("reference.yaml isn't what the keys make it; run make manual: %s", diff)
	}
	f, err := Parse("reference.yaml", Reference)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultRouter()
	want.Name, want.Interface, want.VRID, want.XDPMode, want.Unchanged = "eth0-51", "eth0", 51, "auto", "pass"
	want.Addresses, want.Group = prefixes("192.0.2.10/24", "2001:db8::10/64"), "gateway"
	want.Hooks.Timeout = DefaultNotifyTimeout
	if diff := cmp.Diff(want, f.Routers[0], cmpopts.EquateComparable(want.Addresses[0])); diff != "" {
		t.Errorf("its defaults are others: %s", diff)
	}
	if diff := cmp.Diff(defaultGlobal(), f.Global); diff != "" {
		t.Errorf("its defaults are others: %s", diff)
	}
	var schema struct {
		Properties map[string]struct {
			Properties map[string]any
			Items      struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	has := func(indent, key string) bool {
		return regexp.MustCompile(`(?m)^` + indent + key + `:`).Match(Reference)
	}
	for key := range schema.Properties["global"].Properties {
		if !has("  ", key) {
			t.Errorf("it has no %s in global", key)
		}
	}
	for key := range schema.Properties["routers"].Items.Properties {
		if !has("  (?:  |- )", key) {
			t.Errorf("it has no %s", key)
		}
	}
	for key := range schema.Properties["tracks"].Items.Properties {
		if !has("  (?:  |- )", key) {
			t.Errorf("it has no %s in tracks", key)
		}
	}
	if n := len(schema.Properties["routers"].Items.Properties); n != len(routerKeys) {
		t.Errorf("the schema has %d keys, the file %d", n, len(routerKeys))
	}
}
