package proxy_test

import (
	"net/http"
	"testing"
)

// A client is in a network in whatever form its address and the network are written: by its connection, and by what a trusted proxy says.
func TestADeniedNetworkIsDeniedInEveryForm(t *testing.T) {
	t.Parallel()
	status := func(e *edge, fields ...string) int {
		client := &http.Client{Transport: &http.Transport{DialContext: e.dial, TLSClientConfig: e.tls(), DisableKeepAlives: true}}
		response, _ := fetch(t, client, "GET", "https://localhost/", fields...)
		return response.StatusCode
	}
	for deny, want := range map[string]int{"127.0.0.0/8": 403, "::ffff:127.0.0.0/104": 403, "::ffff:7f00:1": 403, "::ffff:0:0/96": 403, "::/0": 200, "128.0.0.0/8": 200} {
		if got := status(startFile(t, `sites: [{hosts: [localhost], deny: [%q], routes: [{to: %q}]}]`, deny, named(t, "app"))); got != want {
			t.Errorf("%s: %d", deny, got)
		}
	}
	e := startFile(t, `
trusted_proxies: ["::ffff:127.0.0.1"]
sites: [{hosts: [localhost], deny: ["::ffff:10.0.0.0/104", "fe80::/10"], routes: [{to: %q}]}]
`, named(t, "app"))
	for address, want := range map[string]int{
		"10.1.2.3": 403, "::ffff:10.1.2.3": 403, "[::ffff:10.1.2.3]:80": 403, "::FFFF:a01:203": 403, "[::ffff:a01:203]": 403, "fe80::1%eth0": 403, "11.0.0.1": 200, "::a01:203": 200,
	} {
		if got := status(e, "X-Forwarded-For", address); got != want {
			t.Errorf("X-Forwarded-For: %s: %d", address, got)
		}
		if got := status(e, "Forwarded", `for="`+address+`"`); got != want {
			t.Errorf("Forwarded: %s: %d", address, got)
		}
	}
}
