// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/failoverd/failoverd/tools/lab"
)

const examples = "../package/examples"

// Each file of the examples is valid: failoverctl check accepts the configurations, including
// those inside other files, YAML parses as YAML, and scripts are scripts.
func TestExamples(t *testing.T) {
	t.Parallel()
	configurations := make(map[string]string)
	err := filepath.WalkDir(examples, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(content, []byte("#!/bin/sh\n")) {
			if out, err := exec.Command("sh", "-n", path).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", path, err, out)
			}
		}
		switch {
		case d.Name() == "failoverd.yaml":
			configurations[path] = string(content)
		case strings.HasSuffix(path, ".yaml"), strings.HasSuffix(path, ".yml"):
			for where, text := range within(t, path, content) {
				configurations[where] = text
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"compose", "haproxy", "kubernetes", "nginx", "postgresql", "router"} {
		if configurations[filepath.Join(examples, name, "failoverd.yaml")] == "" {
			t.Errorf("%s has no failoverd.yaml", name)
		}
	}
	if len(configurations) != 8 {
		t.Errorf("%d configurations, want 8: six files, that of Ansible and that of the DaemonSet", len(configurations))
	}
	for where, text := range configurations {
		path := filepath.Join(t.TempDir(), "failoverd.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(failoverctl(), "check", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", where, err, out)
		}
	}
}

// within returns the configurations that another program's YAML contains: in a ConfigMap, or in a
// variable of Ansible.
func within(t *testing.T, path string, content []byte) map[string]string {
	found := make(map[string]string)
	for decoder := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var document any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return found
		}
		top, ok := document.(map[string]any)
		if !ok {
			continue // a playbook is a list
		}
		if data, ok := top["data"].(map[string]any); ok {
			found[path+" data"], _ = data["failoverd.yaml"].(string)
		}
		if variable, ok := top["failoverd"]; ok {
			text, err := yaml.Marshal(variable)
			if err != nil {
				t.Fatal(err)
			}
			found[path+" failoverd"] = string(text)
		}
	}
}

// Each of the two load balancers serves at the address, which moves away from the one whose
// program has ended.
func TestExampleBalancers(t *testing.T) {
	t.Parallel()
	for _, example := range []struct {
		name, file string
		start      func(s *site, n *lab.Node, file string) *lab.Process
	}{
		{"haproxy", "haproxy.cfg", func(s *site, n *lab.Node, file string) *lab.Process {
			p, err := n.Start("haproxy", "-db", "-f", file)
			s.ok(err)
			return p
		}},
		{"nginx", "failover.conf", func(s *site, n *lab.Node, file string) *lab.Process {
			dir := filepath.Dir(file)
			// A distribution's nginx.conf includes conf.d/ like this.
			around := fmt.Sprintf("daemon off;\npid %[1]s/pid;\nerror_log stderr;\nevents {}\nhttp {\n"+
				"access_log off;\nclient_body_temp_path %[1]s/body;\nproxy_temp_path %[1]s/proxy;\nfastcgi_temp_path %[1]s/fastcgi;\n"+
				"uwsgi_temp_path %[1]s/uwsgi;\nscgi_temp_path %[1]s/scgi;\ninclude %[2]s;\n}\n", dir, file)
			s.ok(os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(around), 0o600))
			p, err := n.Start("nginx", "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
			s.ok(err)
			return p
		}},
	} {
		t.Run(example.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			read := func(file string) string {
				content, err := os.ReadFile(filepath.Join(examples, example.name, file))
				s.ok(err)
				return strings.ReplaceAll(string(content), "192.0.2.", "198.18.0.")
			}
			// The third host runs the two servers.
			for _, address := range []string{"198.18.0.21", "198.18.0.22"} {
				s.ok(s.c.AddAddress(ifname, address+"/24"))
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })}
				l := listen(s, s.c, address+":8080")
				go func() { _ = server.Serve(l) }()
			}
			balancers := make(map[*lab.Node]*lab.Process)
			for _, n := range []*lab.Node{s.a, s.b} {
				file := filepath.Join(t.TempDir(), example.file)
				s.ok(os.WriteFile(file, []byte(read(example.file)), 0o600))
				balancers[n] = example.start(s, n, file)
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("%s on %s wrote:\n%s", example.name, n.Name, balancers[n].Output())
					}
				})
			}
			configuration := read("failoverd.yaml")
			a := s.withFile(s.a, configuration)
			a.router("web", "ipv4", inState("Active"))
			b := s.withFile(s.b, strings.Replace(configuration, "priority: 150", "priority: 100", 1))
			b.router("web", "ipv4", inState("Backup"))
			s.waitHolder("198.18.0.10", s.a)
			served(s, "198.18.0.10:80")

			_, err := balancers[s.a].Stop(s.ctx)
			s.ok(err)
			a.router("web", "ipv4", inState("Initialize"))
			s.waitHolder("198.18.0.10", s.b)
			served(s, "198.18.0.10:80")
		})
	}
}

// served requests a page at an address from the third host.
func served(s *site, address string) {
	s.t.Helper()
	var c net.Conn
	s.ok(s.c.Do(func() (err error) {
		c, err = net.Dial("tcp", address)
		return err
	}))
	defer c.Close()
	_, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	s.ok(err)
	answer, err := io.ReadAll(c)
	s.ok(err)
	if !bytes.HasPrefix(answer, []byte("HTTP/1.")) || !bytes.HasSuffix(answer, []byte("served")) {
		s.t.Errorf("%s answers %q", address, answer)
	}
}
