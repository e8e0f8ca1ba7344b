// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check accepts what import writes, and the findings are apart from it.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	source := write("keepalived.conf", "vrrp_instance a {\n  interface eth0\n  virtual_router_id 51\n  track_bfd {\n    check\n  }\n  virtual_ipaddress {\n    192.0.2.10/24\n  }\n}\n")
	result := filepath.Join(dir, "failoverd.yaml")
	code, out, errs := call(t, "import", "-o", result, source)
	if code != 0 || out != "" || !strings.Contains(errs, "keepalived.conf:4: track_bfd") || !strings.Contains(errs, "1 not supported yet") {
		t.Errorf("exit code %d, output %q, findings:\n%s", code, out, errs)
	}
	if code, _, errs := call(t, "check", result); code != 0 {
		t.Errorf("check refuses the result: %s", errs)
	}
	const two = "vrrp_instance a {\n  interface eth0\n  virtual_router_id 51\n  strict_mode\n}\n" +
		"vrrp_instance b {\n  interface eth0\n  virtual_router_id 52\n  state BACKUP\n  virtual_ipaddress {\n    192.0.2.10/24\n  }\n}\n"
	shared := write("shared", "#!/bin/sh\n")
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{source, "-o", result}, exitFailure, "--force"},
		{[]string{source, "-o", result, "--force"}, 0, "not supported yet"},
		{[]string{write("balancer.conf", "virtual_server 192.0.2.10 80 {\n}\n")}, exitFailure, "nothing for failoverd in it: it has no vrrp_instance"},
		{[]string{write("strict.conf", "vrrp_instance a {\n  interface eth0\n  virtual_router_id 51\n  strict_mode\n}\n")}, exitFailure, "all of its routers are commented out"},
		{[]string{write("frr.conf", "interface eth0\n vrrp 51 version 3\n")}, exitFailure, "frr.conf:1: interface eth0\n"},
		{[]string{write("config.boot", "set high-availability vrrp group web vrid 51\n")}, exitFailure, "/run/keepalived/keepalived.conf"},
		{[]string{write("two.conf", two)}, 0, "1 of 2 routers are commented out"},
		{[]string{write("two.conf", two), "--verbose"}, 0, "state: the priority decides"},
		{[]string{write("hosts.conf", "@one vrrp_instance a {\n  interface eth0\n  virtual_router_id 51\n  state BACKUP\n  virtual_ipaddress {\n    192.0.2.10/24\n  }\n@one }\nglobal_defs {\n}\n"), "--config-id", "one"}, 0, "Not needed: state (--verbose has the reasons)\neverything translated one to one\n"},
		{[]string{write("shared.conf", "vrrp_script a {\n  script "+shared+"\n}\n"+two)}, 0, "failoverd refuses to run it: others may change it"},
		{[]string{write("secure.conf", "global_defs {\n  enable_script_security\n}\nvrrp_script a {\n  script "+shared+"\n}\n"+two)}, 0, "neither does failoverd"},
		{[]string{source, "--from", "frr"}, exitUsage, "keepalived or failover"},
		{[]string{filepath.Join(dir, "missing.conf")}, exitFailure, "missing.conf"},
		{[]string{write("open.conf", "vrrp_instance a {\n")}, exitFailure, "open.conf:1"},
	} {
		code, _, errs := call(t, append([]string{"import"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("import %v: exit code %d, want %d: %s", c.args, code, c.code, errs)
		}
	}
	rust := write("vrrp-config.json", `{"name": "web", "vrid": 51, "interface_name": "eth0", "ip_addresses": ["192.0.2.10/24"]}`)
	if code, out, errs := call(t, "import", rust); code != 0 || !strings.Contains(out, "name: web") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

// Passwords and keys go to files beside the result, which only their owner can read,
// and nowhere else.
func TestImportKeys(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "keepalived.conf")
	if err := os.WriteFile(source, []byte("vrrp_instance web {\n interface eth0\n virtual_router_id 51\n authentication {\n auth_type PASS\n auth_pass not2tell\n }\n virtual_ipaddress {\n 192.0.2.10/24\n }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	output, key := filepath.Join(dir, "failoverd.yaml"), filepath.Join(dir, "eth0-51-password")
	for n, args := range [][]string{{"import", "-o", output, source}, {"import", "--force", "-o", output, source}, {"import", source}} {
		code, out, said := call(t, args...)
		if code != 0 || strings.Contains(out+said, "not2tell") {
			t.Errorf("%v: %d\n%s%s", args, code, out, said)
		}
		if want := map[bool]string{true: "/etc/failoverd/eth0-51-password must be created", false: "wrote a secret of the file to " + key}[n == 2]; !strings.Contains(said, want) {
			t.Errorf("%v: %q isn't said: %s", args, want, said)
		}
		if n == 2 {
			break
		}
		content, err := os.ReadFile(key)
		if err != nil || string(content) != "not2tell\n" {
			t.Errorf("%v: %q, %v", args, content, err)
		}
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v: %v, %v", args, info, err)
		}
		// The next run with --force has to restrict the mode again.
		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		result, err := os.ReadFile(output)
		if err != nil || !strings.Contains(string(result), key) || strings.Contains(string(result), "not2tell") {
			t.Errorf("%v: %s, %v", args, result, err)
		}
	}
}
