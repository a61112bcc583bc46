package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// Pages of permitted origins may read responses, errors of padlock's included, and are told so before they send anything; the target sees no question, and what it says of it itself does not count.
func TestPagesOfPermittedOriginsReadResponses(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "OPTIONS" {
			asked.Add(1)
		}
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("access-control-allow-private-network", "true")
		w.Header().Set("Vary", "Accept")
		w.Header().Set("Trailer", "Access-Control-Allow-Origin")
		fmt.Fprint(w, "content")
		w.Header().Set("Access-Control-Allow-Origin", "https://evil.test")
	})
	e := startFile(t, `
sites:
  - hosts: [localhost]
    cors: {origins: ["https://app.test", "https://*.pages.test", "http://localhost:3000"], methods: [GET, PUT], headers: [X-One, Authorization], expose: [X-Total], credentials: true, max_age: 1h}
    routes:
      - {path: /private, methods: [GET, PUT], api_keys: {file: %[2]q}, to: %[1]q}
      - {path: /all, cors: {origins: "*"}, to: %[1]q}
      - {to: %[1]q}
`, app, keyFile(t))
	type fields = map[string]string
	check := func(what string, response *http.Response, status int, want fields) {
		t.Helper()
		if response.StatusCode != status {
			t.Errorf("%s: %s", what, response.Status)
		}
		for name, values := range response.Header {
			if strings.HasPrefix(name, "Access-Control-") && strings.Join(values, "|") != want[name] {
				t.Errorf("%s: %s: %q", what, name, values)
			}
		}
		for name, value := range want {
			if got := strings.Join(response.Header[name], "|"); got != value {
				t.Errorf("%s: %s: %q", what, name, got)
			}
		}
		if response.Trailer.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: the trailers %v", what, response.Trailer)
		}
	}
	for name, client := range e.everyClient(t) {
		for _, origin := range []string{"https://app.test", "https://a.pages.test", "http://localhost:3000"} {
			shared := fields{"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "X-Total"}
			response, _ := fetch(t, client, "GET", "https://localhost/", "Origin", origin)
			shared["Vary"] = "Accept|Origin"
			check(name+" "+origin, response, 200, shared)
			response, _ = fetch(t, client, "PUT", "https://localhost/private", "Origin", origin)
			shared["Vary"] = "Origin"
			check(name+" without a key "+origin, response, 401, shared)
			response, _ = fetch(t, client, "GET", "https://localhost:443/private/..%2f", "Origin", origin)
			check(name+" malformed "+origin, response, 400, shared)

			shared["Access-Control-Allow-Methods"], shared["Access-Control-Allow-Headers"], shared["Access-Control-Max-Age"] = "GET, PUT", "X-One, Authorization", "3600"
			shared["Vary"] = "Access-Control-Request-Method, Access-Control-Request-Headers|Origin"
			response, body := fetch(t, client, "OPTIONS", "https://localhost/private/x", "Origin", origin, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-one")
			if check(name+" preflight "+origin, response, 204, shared); body != "" {
				t.Errorf("%s: %q", name, body)
			}
		}
		for _, origin := range []string{"https://evil.test", "null", "https://app.test.evil.test", "https://app.test:444", "http://app.test", "https://a.b.pages.test", "https://.pages.test", "https://evil.test/.pages.test", "https://pages.test", "HTTPS://APP.TEST", "https://app.test, https://evil.test", "*"} {
			response, _ := fetch(t, client, "GET", "https://localhost/", "Origin", origin)
			check(name+" "+origin, response, 200, fields{"Vary": "Accept|Origin"})
			response, _ = fetch(t, client, "OPTIONS", "https://localhost/", "Origin", origin, "Access-Control-Request-Method", "PUT")
			check(name+" preflight "+origin, response, 403, fields{"Vary": "Origin"})
		}
		response, _ := fetch(t, client, "GET", "https://localhost/")
		check(name+" no origin", response, 200, fields{"Vary": "Accept|Origin"})
		response, _ = fetch(t, client, "GET", "https://localhost/all", "Origin", "https://any.test")
		check(name+" all", response, 200, fields{"Access-Control-Allow-Origin": "*", "Vary": "Accept"})
		response, _ = fetch(t, client, "OPTIONS", "https://localhost/all", "Origin", "https://any.test", "Access-Control-Request-Method", "POST")
		check(name+" all, preflight", response, 204, fields{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, HEAD, POST", "Access-Control-Max-Age": "600"})

		// Other requests by OPTIONS are the target's.
		before := asked.Load()
		if response, _ := fetch(t, client, "OPTIONS", "https://localhost/", "Origin", "https://app.test"); response.StatusCode != 200 || asked.Load() != before+1 {
			t.Errorf("%s: OPTIONS that asks for nothing: %s", name, response.Status)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("the target was asked %d times", n)
	}
}

// Browsers are told to be careful with all responses, of targets and of padlock, unless the target says otherwise.
func TestBrowsersAreToldToBeCareful(t *testing.T) {
	t.Parallel()
	plain := backend(t, func(http.ResponseWriter, *http.Request) {})
	own := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"X-Content-Type-Options": "own", "Referrer-Policy": "own", "Content-Security-Policy": "default-src 'none'; frame-ancestors https://own.test", "Permissions-Policy": "own"} {
			w.Header().Set(name, value)
		}
	})
	e := startFile(t, `
sites:
  - hosts: [localhost]
    security_headers: true
    routes:
      - {to: %[1]q}
      - {path: /own, to: %[2]q}
      - {path: /strict, security_headers: strict, to: %[1]q}
      - {path: /replace, security_headers: {preset: strict, replace: true, frames: [self, "https://a.test"], referrer_policy: origin, content_security_policy: "default-src 'self'"}, to: %[2]q}
      - {path: /off, security_headers: false, to: %[1]q}
      - {path: /any, security_headers: {frames: any}, to: %[1]q}
      - {path: /closed, deny: [0.0.0.0/0], to: %[1]q}
`, plain, own)
	names := []string{"X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options", "Content-Security-Policy", "Permissions-Policy", "Cross-Origin-Opener-Policy"}
	for path, want := range map[string]string{
		"/": "nosniff; strict-origin-when-cross-origin; SAMEORIGIN; frame-ancestors 'self'; ; ", "/closed": "nosniff; strict-origin-when-cross-origin; SAMEORIGIN; frame-ancestors 'self'; ; ",
		"/own":     "own; own; ; default-src 'none'; frame-ancestors https://own.test; own; ",
		"/strict":  "nosniff; no-referrer; DENY; frame-ancestors 'none'; camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(); same-origin",
		"/replace": "nosniff; origin; ; default-src 'self'|frame-ancestors 'self' https://a.test; camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(); same-origin",
		"/off":     "; ; ; ; ; ", "/any": "nosniff; strict-origin-when-cross-origin; ; ; ; ",
	} {
		for name, client := range e.everyClient(t) {
			response, _ := fetch(t, client, "GET", "https://localhost"+path)
			var got []string
			for _, field := range names {
				got = append(got, strings.Join(response.Header[field], "|"))
			}
			if all := strings.Join(got, "; "); all != want {
				t.Errorf("%s %s: %s", name, path, all)
			}
		}
	}
}
