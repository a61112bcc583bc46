package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// A route with conditions goes before one without, for the same path; all conditions must hold, over every protocol, and the most specific
// path goes first whatever its conditions.
func TestConditionsOfRoutes(t *testing.T) {
	t.Parallel()
	e := startFile(t, `
trusted_proxies: [127.0.0.1]
sites:
  - hosts: [localhost]
    routes:
      - {respond: {body: plain}}
      - {header: {X-Canary: "yes"}, respond: {body: header}}
      - {header: {X-Canary: "yes"}, cookie: {beta: "*"}, path: /both, respond: {body: both}}
      - {cookie: {beta: "1"}, respond: {body: cookie}}
      - {query: {version: "2 a"}, respond: {body: query}}
      - {client: [192.0.2.0/24], respond: {body: client}}
      - {match: '^/v[0-9]+/', respond: {body: match}}
      - {path: /app, respond: {body: app}}
      - {path: /app, match: '\.png$', methods: [GET], respond: {body: image}}
      - {path: /app/deep, respond: {body: deep}}
      - {path: /none, header: {X-None: "*"}, respond: {body: none}}
`)
	for name, client := range e.everyClient(t) {
		for _, c := range []struct {
			path, want string
			fields     []string
		}{
			{"/", "plain", nil}, {"/", "header", []string{"x-canary", "yes"}}, {"/", "plain", []string{"X-Canary", "no"}}, {"/", "header", []string{"X-Canary", "yes", "Cookie", "beta=1"}},
			{"/both", "header", []string{"X-Canary", "yes"}}, {"/both", "both", []string{"X-Canary", "yes", "Cookie", "a=b; beta=anything"}}, {"/both", "plain", []string{"Cookie", "beta=2"}},
			{"/", "cookie", []string{"Cookie", "beta=1"}}, {"/", "plain", []string{"Cookie", "xbeta=1"}}, {"/?version=2+a", "query", nil}, {"/?x=1&ver%73ion=2%20a", "query", nil}, {"/?version=2", "plain", nil}, {"/?version=%zz", "plain", nil},
			{"/", "client", []string{"X-Forwarded-For", "192.0.2.7"}}, {"/", "plain", []string{"X-Forwarded-For", "192.0.3.7"}},
			{"/v12/x", "match", nil}, {"/v/x", "plain", nil}, {"/%761/x", "match", nil}, {"/x/../v1/x", "match", nil}, {"/V1/x", "plain", nil},
			{"/app/a.png", "image", nil}, {"/app/a.jpg", "app", nil}, {"/app/deep/a.png", "deep", nil}, {"/app/x", "app", []string{"X-Canary", "yes"}},
			{"/none", "plain", nil}, {"/none", "none", []string{"X-None", ""}},
		} {
			response, body := fetch(t, client, "GET", "https://localhost"+c.path, c.fields...)
			if response.StatusCode != 200 || body != c.want {
				t.Errorf("%s: %s %v: %s %q, not %q", name, c.path, c.fields, response.Status, body, c.want)
			}
		}
	}
}

// Of many clients about a share goes to the canary; each keeps its side with its cookie, and nobody chooses a side by a cookie of its own making.
func TestAShareOfTheClientsStays(t *testing.T) {
	t.Parallel()
	canary := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "canary") })
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{percent: 30, to: %q, sticky: lb}, {respond: {body: stable}}]}]`, canary)
	clients := e.everyClient(t)
	client := clients["h2"]
	count := map[string]int{}
	for i := range 200 {
		response, body := fetch(t, client, "GET", "https://localhost/")
		count[body]++
		cookie := ""
		for _, c := range response.Cookies() {
			if c.Name == "padlock_share" {
				cookie = c.Value
				if !c.Secure || !c.HttpOnly {
					t.Errorf("%v", c)
				}
			}
		}
		if cookie == "" {
			t.Fatal(response.Header)
		}
		if i > 20 {
			continue
		}
		for name, other := range clients {
			response, again := fetch(t, other, "GET", "https://localhost/", "Cookie", "padlock_share="+cookie)
			if again != body || strings.Contains(strings.Join(response.Header.Values("Set-Cookie"), " "), "padlock_share") {
				t.Fatalf("%s: %s after %s: %v", name, again, body, response.Header)
			}
		}
		number, _, _ := strings.Cut(cookie, ".")
		for _, forged := range []string{"1", "1.", number + ".0000", "1." + strings.SplitN(cookie, ".", 2)[1], "-1.x", "99999.x"} {
			if forged == cookie {
				continue
			}
			response, _ := fetch(t, client, "GET", "https://localhost/", "Cookie", "padlock_share="+forged)
			if !strings.Contains(strings.Join(response.Header.Values("Set-Cookie"), " "), "padlock_share") {
				t.Errorf("%q was taken", forged)
			}
		}
	}
	if count["canary"] < 25 || count["canary"] > 100 {
		t.Errorf("%v", count)
	}
}

// On a site with rules, no spelling of a path chooses a route by its regular expression for padlock and another for the target.
func TestARegularExpressionIsNoWayAroundARule(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") })
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {to: %q}
      - {match: '^/admin(/|$)', basic_auth: {users: {ada: %q}}, to: %[1]q}
      - {match: '^/deep/inner/$', basic_auth: {users: {ada: %[2]q}}, to: %[1]q}
      - {match: '^/deep/inner/x', basic_auth: {users: {ada: %[2]q}}, to: %[1]q}
      - {match: '^/v[0-9]+/open', to: %[1]q}
`, target, hash)
	for path, want := range map[string]string{"/": "200", "/x": "200", "/v1/open": "200", "/admin": "401", "/admin/x": "401"} {
		answer, _ := io.ReadAll(e.one(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
		if !strings.HasPrefix(string(answer), "HTTP/1.1 "+want) {
			t.Errorf("%s: %.100s", path, answer)
		}
	}
	for _, path := range []string{
		"/ADMIN", "/Admin/x", "/%61dmin", "//admin", "/x/../admin", "/admin;x", "/admin%2fx", "/admin.", "/./admin", "/admin%20", "/%2561dmin", "/admin%00",
		"/;/admin", "/;a=b/admin/x", "/%20/admin", "/admin./x", "/admin%20/x", "/admin;a/x", "/%EF%BD%81dmin", "/adm%C4%B1n", "/admin%3Fx", "/admin%E3%80%80", "/admin::$DATA",
		"//host/admin", "/deep;a/inner/x", "/deep/inner;/", "/deep/inner;a/;b", "/deep//inner%20/", "/" + strings.Repeat("%EF%BD%81", 500),
	} {
		answer, _ := io.ReadAll(e.one(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
		if strings.Contains(string(answer), "secret") || strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%s: %.200s", path, answer)
		}
	}
}

// A cache between padlock and its clients must not give the response of one route to a request that another answers: the fields that decide
// are in Vary, whichever route answers, over every protocol.
func TestCachesLearnWhichFieldsChooseARoute(t *testing.T) {
	t.Parallel()
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if vary := r.URL.Query().Get("vary"); vary != "" {
			w.Header().Set("Vary", vary)
		}
		if r.URL.Path == "/same" {
			w.WriteHeader(304)
		}
	})
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {to: %[1]q}
      - {path: /two, header: {x-canary: "yes"}, cookie: {beta: "*", alpha: "*"}, to: %[1]q}
      - {path: /post, methods: [POST], header: {X-Canary: "yes"}, to: %[1]q}
      - {path: /match, match: '\.png$', header: {X-Canary: "yes"}, to: %[1]q}
      - {path: /query, query: {v: "2"}, header: {X-Canary: "yes"}, to: %[1]q}
      - {path: /share, percent: 50, to: %[1]q}
      - {path: /near, client: [127.0.0.0/8], to: %[1]q}
      - {path: /same, cookie: {beta: "1"}, to: %[1]q}
      - {path: /moved, header: {X-Canary: "yes"}, respond: {body: new}}
      - {path: /moved, redirect: {to: "https://localhost/new"}}
      - {path: /ruled, header: {X-Canary: "yes"}, to: %[1]q, headers: {response: {set: {Vary: X-Own}}}}
`, app)
	for name, client := range e.everyClient(t) {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, c := range []struct {
			path, want string
			fields     []string
		}{
			{"/", "", nil}, {"/two", "x-canary, Cookie", nil}, {"/two/deep", "x-canary, Cookie", []string{"X-Canary", "yes", "Cookie", "beta=1; alpha=1"}}, {"/two", "x-canary, Cookie", []string{"X-Canary", "no"}},
			{"/two?vary=accept,X-CANARY", "accept,X-CANARY, Cookie", nil}, {"/two?vary=*", "*", nil},
			{"/post", "", nil}, {"/match/a.jpg", "", nil}, {"/match/a.png", "X-Canary", nil}, {"/query", "", []string{"X-Canary", "yes"}}, {"/query?v=2", "X-Canary", nil},
			{"/share", "", nil}, {"/near", "", nil}, {"/same", "Cookie", []string{"Cookie", "beta=1"}}, {"/same", "Cookie", nil},
			{"/moved", "X-Canary", nil}, {"/moved", "X-Canary", []string{"X-Canary", "yes"}}, {"/ruled", "X-Own", []string{"X-Canary", "yes"}}, {"/ruled", "X-Canary", nil},
		} {
			response, _ := fetch(t, client, "GET", "https://localhost"+c.path, c.fields...)
			if got := strings.Join(response.Header.Values("Vary"), ", "); got != c.want {
				t.Errorf("%s: %s %v: %s, Vary: %q, not %q", name, c.path, c.fields, response.Status, got, c.want)
			}
		}
	}
}
