// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
)

// The metrics for Prometheus are the values of the control socket.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const address = "127.0.0.1:9650"
	s.ok(s.a.SetUp("lo"))
	const routers = "routers: [{name: web, interface: eth0, vrid: 51, interval: 10s, priority: 255, addresses: [198.18.0.1/24]}]"
	c := s.withFile(s.a, routers, "--metrics", address, "--metrics-compat", "keepalived")
	c.router("web", "ipv4", func(r control.Router) bool { return r.State == "Active" })
	var text string
	s.ok(s.a.Do(func() (err error) {
		text, err = scrape(address)
		return err
	}))
	stats, err := c.client.Stats(s.ctx)
	s.ok(err)
	for _, counter := range stats.Routers[0].Counters {
		want := fmt.Sprintf("failoverd_router_%s_total{family=\"ipv4\",interface=\"eth0\",name=\"web\",vrid=\"51\"} %d\n", counter.Name, counter.Value)
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, want := range []string{
		`keepalived_vrrp_state{iname="web",intf="eth0",ip_address="198.18.0.1/24",vrid="51"} 2`,
		`keepalived_become_master_total{iname="web",intf="eth0",vrid="51"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	// A reload applies the keys of the file. A flag wins over them.
	c.write(`global: {metrics: 127.0.0.1:9651, log_level: debug}` + "\n" + routers)
	for _, change := range c.reload() {
		if strings.Contains(strings.Join(change.Details, " "), "metrics") {
			t.Errorf("the file wins over the flag: %+v", change)
		}
	}
	code, err := c.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The metrics are at the address of the file, also after a reload. They stay at the old address if
// failoverd can't listen on the new one.
func TestMetricsReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ok(s.a.SetUp("lo"))
	file := func(global string) string {
		return "global: {" + global + "}\nrouters: [{name: web, interface: eth0, vrid: 51, interval: 10s, priority: 255, addresses: [198.18.0.1/24]}]"
	}
	at := func(address string) (text string) {
		_ = s.a.Do(func() (err error) { // a refused connection is an answer too
			text, err = scrape(address)
			return err
		})
		return text
	}
	c := s.withFile(s.a, file("metrics: :9650"))
	c.router("web", "ipv4", func(r control.Router) bool { return r.State == "Active" })
	if text := at("127.0.0.1:9650"); !strings.Contains(text, "failoverd_router") || strings.Contains(text, "keepalived_") {
		t.Errorf("the port of the file answers %q", text)
	}
	c.write(file("metrics: 127.0.0.1:9650, metrics_compat: keepalived"))
	if changes := c.reload(); len(changes) != 1 || changes[0].Router != "global" || len(changes[0].Details) != 2 {
		t.Errorf("the changes of the reload are %+v", changes)
	}
	if text := at("127.0.0.1:9650"); !strings.Contains(text, "keepalived_vrrp_state") {
		t.Errorf("after a reload the port answers %q", text)
	}
	c.write(file("metrics: 192.0.2.1:9650"))
	if _, err := c.client.Reload(s.ctx, false); err == nil || !strings.Contains(err.Error(), "this host has no such address") {
		t.Errorf("a reload with an address of another host: %v", err)
	}
	if text := at("127.0.0.1:9650"); !strings.Contains(text, "keepalived_vrrp_state") {
		t.Errorf("after a failed reload the port answers %q", text)
	}
	c.write(file("metrics: off"))
	c.reload()
	if text := at("127.0.0.1:9650"); text != "" {
		t.Errorf("with the metrics off the port answers %q", text)
	}
	code, err := c.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// scrape reads the metrics in the network namespace of the thread.
func scrape(address string) (string, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	return string(b), err
}
