// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestListenRefuses(t *testing.T) {
	taken, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		"192.0.2.1:9650":        "metrics address 192.0.2.1:9650: this host has no such address: use one of its own, or :9650 for all of them",
		taken.Addr().String():   "metrics address " + taken.Addr().String() + ": another process listens there: choose another port",
		"[fe80::1%no-such]:965": "",
		"9650":                  "",
	} {
		l, err := Listen(address)
		if err == nil {
			l.Close()
			t.Errorf("%s: no error", address)
			continue
		}
		if want != "" && err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", address, err, want)
		}
	}
}

func TestServe(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "localhost:0"} {
		l, err := Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, l, Handler(lan(), true), nil) }()
		response, err := http.Get("http://" + l.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "keepalived_up 1\n") {
			t.Errorf("%s: %v\n%s", response.Status, err, body)
		}
		response.Body.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
			conn.Close()
			t.Error("the listener is taken after the end")
		}
	}
}

// A listener that fails by itself is an error.
func TestServeFails(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, Handler(lan(), false), nil); err == nil {
		t.Error("no error")
	}
}
