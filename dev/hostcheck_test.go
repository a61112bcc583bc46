package dev

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// Each server's refusal is recognized under the name that it refuses, with the port that browsers send; other failures are none.
func TestAServerThatRefusesAHostIsRecognized(t *testing.T) {
	for what, c := range map[string]struct {
		status     int
		body, want string
	}{
		"Vite":         {403, `Blocked request. This host ("shop.test") is not allowed.`, "Vite"},
		"Rails":        {403, "<h1>Blocked hosts: shop.test:8443</h1>", "Rails"},
		"an old Rails": {403, "<h1>Blocked host: shop.test:8443</h1>", "Rails"},
		"Django":       {400, "<title>DisallowedHost at /</title>", "Django"},
		"webpack":      {403, "Invalid Host header", "webpack"},
		"old webpack":  {200, "Invalid Host header", "webpack"},
		"Starlette":    {400, "Invalid host header", "Starlette"},
		"a page":       {200, "how to mend Blocked request. This host", ""},
		"another":      {404, "not found", ""},
		"a large page": {500, strings.Repeat(" ", 2*probeBytes) + "DisallowedHost", ""},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "shop.test:8443" {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}
		}))
		app := App{Hosts: []string{"shop.localhost", "*.shop.localhost", "shop.test"}, URL: "https://shop.localhost:8443"}
		got := refusal(t.Context(), app, netip.MustParseAddrPort(server.Listener.Addr().String()))
		server.Close()
		if (got == nil) != (c.want == "") || got != nil && *got != (Refusal{"shop.test", c.want}) {
			t.Errorf("%s: %v", what, got)
		}
	}
}
