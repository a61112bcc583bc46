package proxy_test

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// The public conformance suite of HTTP/2, its strict cases too, against a backend whose response is long enough for all of them.
func TestH2spec(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("a response of some length"))
	}), nil)
	_, port, err := net.SplitHostPort(e.address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Host: "localhost", Port: number, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true, TLS: true, Insecure: true}
	passed, all := 0, 0
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(c)
		passed += group.PassedCount
		all += group.PassedCount + group.FailedCount + group.SkippedCount
		report(t, group)
	}
	if passed < 146 || passed < all {
		t.Errorf("%d cases passed of %d, want 146", passed, all)
	}
	fmt.Printf("\nsuite: h2spec %d of %d\n", passed, all) // for make suites, which leaves out what the suite prints itself
}

func report(t *testing.T, g *spec.TestGroup) {
	for _, tc := range g.Tests {
		if r := tc.Result; r != nil && (r.Failed || r.Skipped) {
			t.Errorf("%s/%s: %s: %v", g.Key, g.Section, tc.Desc, r.Error)
		}
	}
	for _, sub := range g.Groups {
		report(t, sub)
	}
}
