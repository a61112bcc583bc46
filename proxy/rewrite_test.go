package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// A route that rewrites does so by every protocol, with any kind of target and before rules of the configuration; one that does not leaves all as
// it is.
func TestARouteRewritesURLs(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, r *http.Request) {
		own := "http://" + r.Host
		w.Header().Set("Location", own+"/login")
		w.Header().Set("Content-Location", "/x")
		w.Header().Set("Refresh", "5; url="+own+"/x")
		w.Header().Add("Set-Cookie", "id=1; Path=/; Domain="+strings.Split(r.Host, ":")[0])
		w.Header().Set("Link", "<"+own+"/style.css>; rel=preload")
		w.Header().Set("X-Destination", r.Header.Get("Destination"))
		w.Header().Set("X-If", r.Header.Get("If"))
		w.WriteHeader(201)
	}
	for scheme, target := range map[string]string{"http": backend(t, answer), "h2c": h2cBackend(t, answer)} {
		e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {path: /app, to: %q, strip_prefix: true, host: upstream, rewrite_urls: true, headers: {response: {replace: {Link: {from: "<http://", to: "<https://"}}}}}
      - {path: /plain, to: %[1]q, strip_prefix: true, host: upstream}
`, target)
		own := target[strings.Index(target, "://")+3:]
		for name, client := range e.everyClient(t) {
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			fields := []string{"Destination", "https://localhost/app/b%20c", "If", "<https://localhost/app/a> (<opaquelocktoken:1>)"}
			response, _ := fetch(t, client, "MOVE", "https://localhost/app/a", fields...)
			for field, want := range map[string]string{
				"Location": "https://localhost/app/login", "Content-Location": "/app/x", "Refresh": "5; url=https://localhost/app/x",
				"Set-Cookie": "id=1; Path=/app; Domain=localhost", "Link": "<https://" + own + "/style.css>; rel=preload",
				"X-Destination": "http://" + own + "/b%20c", "X-If": "<http://" + own + "/a> (<opaquelocktoken:1>)",
			} {
				if got := response.Header.Get(field); got != want {
					t.Errorf("%s: %s: %s: %q, not %q", scheme, name, field, got, want)
				}
			}

			fields[1], fields[3] = "https://localhost/plain/b", "<https://localhost/plain/a> (<opaquelocktoken:1>)"
			response, _ = fetch(t, client, "MOVE", "https://localhost/plain/a", fields...)
			for field, want := range map[string]string{"Location": "http://" + own + "/login", "X-Destination": fields[1], "X-If": fields[3]} {
				if got := response.Header.Get(field); got != want {
					t.Errorf("%s: %s: without rewrite_urls: %s: %q, not %q", scheme, name, field, got, want)
				}
			}
		}
	}
}

// Where a MOVE or COPY leads is a second target of the request. It is held to the rules of its own path, however it is written.
func TestADestinationIsHeldToTheRulesOfItsPath(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Destination", r.Header.Get("Destination"))
	})
	for _, rewrite := range []bool{true, false} {
		e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {to: %q, rewrite_urls: %v}
      - {path: /private, to: %[1]q, rewrite_urls: %[2]v, basic_auth: {users: {ada: %[3]q}}}
      - {path: /fixed, methods: [PUT], respond: {status: 403}}
`, target, rewrite, hash)
		for name, client := range e.everyClient(t) {
			for destination, want := range map[string]int{
				"https://localhost/open/b":           200,
				"https://localhost":                  200,
				"/open/b":                            200,
				"https://elsewhere.example/open/b":   200, // the target refuses it
				"https://localhost/private/b":        403,
				"/private/b":                         403,
				"//localhost/private":                403,
				"https://elsewhere.example/private":  403, // which some targets do not notice
				"http://localhost:1/private/b":       403,
				"https://localhost/fixed/b":          403,
				"https://localhost/PRIVATE/b":        400,
				"https://localhost/open/..;/private": 400,
				"https://localhost/%2e%2e/private":   400,
				"https://localhost/a%2fb":            400,
				"https://localhost/open#x":           400,
				"https://user@localhost/open/b":      400,
				`https://localhost\private`:          400,
				"open/b":                             400,
				"ftp://localhost/open":               400,
			} {
				for _, method := range []string{"COPY", "MOVE"} {
					response, _ := fetch(t, client, method, "https://localhost/open/a", "Destination", destination)
					if response.StatusCode != want {
						t.Errorf("%s: %s to %s: %s, not %d", name, method, destination, response.Status, want)
					}
				}
			}
			response, _ := fetch(t, client, "COPY", "https://localhost/private/a", "Destination", "https://localhost/private/b", "Authorization", "Basic YWRhOnNlY3JldA==")
			if response.StatusCode != 200 || !strings.HasSuffix(response.Header.Get("X-Destination"), "://localhost/private/b") {
				t.Errorf("%s: within the rules: %s, %s", name, response.Status, response.Header.Get("X-Destination"))
			}
			if response, _ := fetch(t, client, "GET", "https://localhost/open/a", "Destination", "anywhere"); response.StatusCode != 200 || response.Header.Get("X-Destination") != "anywhere" {
				t.Errorf("%s: a field of another method: %s, %q", name, response.Status, response.Header.Get("X-Destination"))
			}
		}
	}
}

// No field makes a MOVE of a POST whose Destination nobody has looked at; what has no Destination keeps its override.
func TestADestinationComesWithNoOtherMethod(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Other", r.Header.Get("X-HTTP-Method-Override")+r.Header.Get("X_HTTP_Method_Override"))
	})
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q}, {path: /private, to: %[1]q, deny: [0.0.0.0/0]}]}]", target)
	for name, client := range e.everyClient(t) {
		for _, field := range []string{"X-HTTP-Method-Override", "X_HTTP_Method_Override"} {
			response, _ := fetch(t, client, "POST", "https://localhost/a", "Destination", "https://localhost/private/b", field, "MOVE")
			if other := response.Header.Get("X-Other"); response.StatusCode != 200 || other != "" {
				t.Errorf("%s: %s, and %s is %q", name, response.Status, field, other)
			}
		}
		response, _ := fetch(t, client, "POST", "https://localhost/a", "X-HTTP-Method-Override", "PATCH")
		if other := response.Header.Get("X-Other"); other != "PATCH" {
			t.Errorf("%s: without a Destination the field is %q", name, other)
		}
	}
}
