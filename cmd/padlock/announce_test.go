package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"padlock/config"
)

// A target that says nothing, or whose name nobody looks up, does not keep the others from being served.
func TestTheStartDoesNotWaitForASilentTarget(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg, err := config.Parse("padlock.yaml", fmt.Appendf(nil, `resolvers: [%q]
timeouts: {connect: 20s}
sites: [{hosts: [app.test], routes: [{to: "http://silent.internal:8080"}]}]
`, silent.LocalAddr()))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	text := destination(cfg, &cfg.Sites[0])
	if took := time.Since(began); took > 2*time.Second || !strings.HasSuffix(text, "(no answer yet)") {
		t.Errorf("%q after %s", text, took)
	}
}
