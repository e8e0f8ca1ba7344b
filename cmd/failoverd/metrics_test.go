// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
)

// What Prometheus is shown is what the control socket says.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const address = "127.0.0.1:9650"
	s.ok(s.a.SetUp("lo"))
	c := s.withFile(s.a, "routers: [{name: web, interface: eth0, vrid: 51, interval: 10s, priority: 255, addresses: [198.18.0.1/24]}]",
		"--metrics", address, "--metrics-compat", "keepalived")
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
			t.Errorf("not among the metrics: %s", want)
		}
	}
	for _, want := range []string{
		`keepalived_vrrp_state{iname="web",intf="eth0",ip_address="198.18.0.1/24",vrid="51"} 2`,
		`keepalived_become_master_total{iname="web",intf="eth0",vrid="51"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not among the metrics: %s in\n%s", want, text)
		}
	}
	code, err := c.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// scrape reads the metrics in the thread's network namespace.
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
