package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"padlock/internal/servicetest"
)

// everyRule uses each kind of rule that decides which route answers, and what it does with the path. Each route says in X-Route which one it is.
const everyRule = `
listen: {https: ["127.0.0.1:0"], http: []}
admin: unix:DIR/admin.sock
storage: DIR/storage
access_log: {format: "off"}
handshakes: {show: "off"}
trusted_proxies: [127.0.0.1]
sites:
  - hosts: [rules.localhost, "*.wild.localhost"]
    deny: [198.51.100.0/24]
    routes:
      - {to: ONE}
      - {path: /app, strip_prefix: true, to: ONE}
      - {path: /app/deep, methods: [GET, POST], to: ONE}
      - {path: /app, match: '\.png$', to: ONE}
      - {exact: /robots.txt, respond: {body: robots}}
      - {header: {X-Canary: "yes"}, to: ONE}
      - {path: /both, header: {X-Canary: "*"}, cookie: {beta: "*"}, to: ONE}
      - {path: /v1, replace_prefix: /v2/x, query: {version: "2 a"}, to: ONE}
      - {path: /net, client: [192.0.2.128/25], to: MOVED}
      - {path: /share, percent: 50, to: ONE}
      - {path: /share, respond: {status: 410, body: rest}}
      - {path: /admin, allow: [10.0.0.0/8, 192.0.2.0/24], basic_auth: {users: {ada: "HASH"}}, to: ONE}
      - {path: /old, redirect: {to: "https://new.example.com{uri}", status: 301}}
      - {path: /files, strip_prefix: true, files: {root: DIR/public}}
      - {path: /public, files: {root: DIR}}
      - {path: /cors, methods: [PUT, GET], cors: {origins: ["https://a.test"]}, to: ONE}
      - {path: /key, api_keys: {file: DIR/keys.txt}, respond: {status: 204}}
      - {path: /limited, rate_limit: {requests: 100000, per: 1h}, to: ONE}
  - hosts: [normal.localhost]
    paths: normalize
    ignore_case: true
    www: add
    routes:
      - {path: /App, strip_prefix: true, to: ONE}
      - {path: /app/deep, methods: [POST], to: ONE}
      - {match: '^/v[0-9]+/', to: ONE}
  - hosts: [raw.localhost]
    paths: raw
    routes:
      - {to: ONE}
      - {path: /app, to: ONE}
      - {exact: /files/a.txt, to: ONE}
  - hosts: [shut.localhost]
    maintenance: {on: true, allow: [192.0.2.0/25], paths: [/app]}
    routes:
      - {path: /app, to: ONE}
      - {path: /admin, methods: [PUT], deny: [192.0.2.0/24], respond: {status: 200}}
  - hosts: [closed.localhost]
    routes: [{to: ONE}]
`

var explained = flag.Int("explained", 400, "requests of TestWhatRouteExplainSaysIsDone")

// question is a request that is explained, and sent.
type question struct {
	host, method, target string
	fields               [][2]string
	client               string
	share                int // of the cookies that padlock has given
}

// questions makes them, each of parts that rules look at.
type questions struct {
	*rand.Rand
	shares []string // cookies that padlock has given
}

func (q *questions) of(values ...string) string { return values[q.IntN(len(values))] }

func (q *questions) next() question {
	one := question{method: q.of("GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "OPTIONS", "get"), client: q.of("192.0.2.1", "192.0.2.200", "10.1.2.3", "198.51.100.7", "2001:db8::1"), share: q.IntN(len(q.shares))}
	one.host = q.of("rules.localhost", "rules.localhost", "rules.localhost", "rules.localhost", "a.wild.localhost", "a.b.wild.localhost", "wild.localhost", "normal.localhost", "www.normal.localhost", "raw.localhost", "shut.localhost", "closed.localhost", "nobody.localhost")

	segment := func() string {
		return q.of("app", "app", "App", "deep", "both", "v1", "net", "share", "admin", "old", "files", "public", "cors", "key", "limited", "robots.txt", "a.txt", "sub", "x.png", "%61pp", "%61dmin", "..", ".", "", "app;a=b", "ad%6Din", "a%20b", "a%2Fb", "%2e%2e", "v12", "ADMIN", "é", "%C3%A9")
	}
	if q.IntN(3) == 0 {
		one.target = q.of("/app/x", "/app/deep/x", "/app/x.png", "/both/x", "/v1/y", "/files/a.txt", "/public/sub/", "/net/x", "/share", "/cors/x", "/CORS", "/cors;a=b", "/both", "/key")
	}
	for range q.IntN(4) {
		one.target += "/" + segment()
	}
	one.target = cmp.Or(one.target, "/")
	if q.IntN(4) == 0 {
		one.target += "/"
	}
	// A URL of the command line has its letters encoded, as browsers do.
	one.target = strings.ReplaceAll(one.target, "é", "%C3%A9") + q.of("", "", "", "?version=2+a", "?x=1&ver%73ion=2%20a", "?version=2", "?")

	add := func(chance int, name string, values ...string) {
		if q.IntN(chance) == 0 {
			one.fields = append(one.fields, [2]string{name, q.of(values...)})
		}
	}
	add(3, "X-Canary", "yes", "no")
	add(3, "Cookie", "beta=1", "other=2", "a=b; beta=")
	add(3, "Authorization", "Basic YWRhOnBhc3N3b3Jk", "Basic YWRhOndyb25n")
	if one.method == "OPTIONS" && q.IntN(2) == 0 {
		one.fields = append(one.fields, [2]string{"Origin", "https://a.test"}, [2]string{"Access-Control-Request-Method", q.of("PUT", "GET", "DELETE")})
	}
	return one
}

// draw is the number in a cookie, from 0 to 100.
func draw(t *testing.T, cookie string) string {
	t.Helper()
	number, _, _ := strings.Cut(strings.TrimPrefix(cookie, "padlock_share="), ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint((float64(n) + 0.5) / 100)
}

// args are the command that explains a question.
func (q *question) args(t *testing.T, file string, shares []string) []string {
	args := []string{"route", "explain", "https://" + q.host + q.target, "--config", file, "--method", q.method, "--client", q.client, "--draw", draw(t, shares[q.share])}
	for _, f := range q.fields {
		args = append(args, "--header", f[0]+": "+f[1])
	}
	return args
}

// send asks padlock. It returns nil where the host has no TLS.
func (q *question) send(t *testing.T, address string, shares []string) *http.Response {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: q.host, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))

	// Both sides get the cookies in one field.
	cookies, head := shares[q.share], ""
	for _, f := range q.fields {
		if f[0] == "Cookie" {
			cookies += "; " + f[1]
			continue
		}
		head += f[0] + ": " + f[1] + "\r\n"
	}
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: %s\r\nContent-Length: 0\r\nCookie: %s\r\n%s\r\n", q.method, q.target, q.host, q.client, cookies, head)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: q.method})
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response
}

// foretold is what an explanation says that padlock does.
type foretold struct {
	statuses []int
	route    string // S.R; "": none answers
	location string // "": any
	seen     string // path and query that the target sees, "": none does
	by       string // the target
}

var (
	toLine    = regexp.MustCompile(`(?m)^  to: \S+ (\S+) at (\S+)$`)
	filesLine = regexp.MustCompile(`(?m)^  files: (/\S*) below (.*)$`)
)

// foretell reads an explanation as a person does, from its beginning to its end.
func (q *question) foretell(said string) foretold {
	has := func(text string) bool { return strings.Contains(said, text) }
	first := func(pattern string) string {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(said); m != nil {
			return m[1]
		}
		return ""
	}
	switch {
	case has("no site has the host"):
		return foretold{statuses: []int{421}}
	case has(" gets 501"):
		return foretold{statuses: []int{501}}
	case has("the path gets 400") && !has("✓"):
		return foretold{statuses: []int{400}}
	case has("the client is redirected to"):
		return foretold{statuses: []int{301, 308}, location: "https://" + first(`the client is redirected to (\S+?),`)}
	case has(" gets 503"):
		return foretold{statuses: []int{503}}
	case has("no route matches"):
		return foretold{statuses: []int{404, 405}}
	case has("the path gets 400"):
		return foretold{statuses: []int{400}}
	}

	made := foretold{route: first(`✓ sites\[(\d+)\]`) + "." + first(`✓ sites\[\d+\]\.routes\[(\d+)\]`)}
	authorized := slices.Contains(q.fields, [2]string{"Authorization", "Basic YWRhOnBhc3N3b3Jk"})
	switch {
	case has(" gets 403"):
		made.statuses = []int{403}
	case has("preflight request for") && has("cors: preflight"):
		made.statuses = []int{204}
	case has("basic_auth:") && !authorized, has("api_keys:"):
		made.statuses = []int{401}
	case has("  redirect: "):
		made.statuses = []int{301}
		made.location = "https://new.example.com" + first(`request  \S+ (\S+)`)
	case has("  respond: "):
		status, _ := strconv.Atoi(first(`  respond: (\d+)`))
		made.statuses = []int{status}
	case has("  files: ") && has(" gets 405"):
		made.statuses = []int{405}
	case has("  files: 301"):
		made.statuses = []int{301}
	case has("  files: the path gets 400"):
		made.statuses = []int{400}
	case has("  files: "):
		made.statuses = fromFiles(filesLine.FindStringSubmatch(said))
	case has("  to: "):
		m := toLine.FindStringSubmatch(said)
		made.statuses, made.seen, made.by = []int{200}, m[1], m[2]
	}
	return made
}

// fromFiles is what a file's name comes to.
func fromFiles(m []string) []int {
	if m == nil {
		return nil
	}
	info, err := os.Stat(filepath.Join(m[2], filepath.FromSlash(path.Clean(m[1]))))
	switch {
	case err != nil, strings.HasSuffix(m[1], "/") != info.IsDir():
		return []int{404, 301}
	case info.IsDir():
		return []int{200, 404} // with an index, or without
	}
	return []int{200}
}

// target answers with what it sees.
func target(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.RequestURI)
		w.Header().Set("X-By", "http://"+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// What padlock route explain says of a request is what padlock does with it: which route answers, with which status, and which path at which target.
func TestWhatRouteExplainSaysIsDone(t *testing.T) {
	one, moved, next := target(t), target(t), target(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("ONE", one, "MOVED", moved, "HASH", string(hash)).Replace(everyRule)
	// Each route names itself.
	site, route := -1, -1
	var lines []string
	for line := range strings.Lines(text) {
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(trimmed, "- hosts:"):
			site, route = site+1, -1
		case strings.HasPrefix(trimmed, "- {"), strings.HasPrefix(trimmed, "routes: [{"):
			route++
			at := strings.Index(line, "{") + 1
			line = line[:at] + fmt.Sprintf(`headers: {response: {set: {X-Route: "%d.%d"}}}, `, site, route) + line[at:]
		}
		lines = append(lines, line)
	}
	file, dir := yaml(t, strings.Join(lines, ""))
	for name, content := range map[string]string{"public/a.txt": "a", "public/sub/index.html": "index", "keys.txt": "ci: 8dQWuoUMAzZrGcLkM2nPvHbs\n"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	var out servicetest.Buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"run", "--config", file}, strings.NewReader(""), &out, &out) }()
	t.Cleanup(func() { cancel(); <-ended })
	port := ""
	servicetest.Until(t, func() error {
		if m := regexp.MustCompile(`https://rules\.localhost:(\d+)`).FindStringSubmatch(out.String()); m != nil {
			port = m[1]
			return nil
		}
		return fmt.Errorf("it does not serve: %s", &out)
	})
	address := net.JoinHostPort("127.0.0.1", port)

	// What commands have changed counts as well.
	for _, args := range [][]string{
		{"deploy", "rules.localhost/net", "--to", strings.TrimPrefix(next, "http://"), "--health", "/", "--observe", "0s"},
		{"maintenance", "on", "closed.localhost", "--allow", "192.0.2.0/25"},
	} {
		if code, said := ends(t, append(args, "--admin", "unix:"+filepath.Join(dir, "admin.sock"))...); code != 0 {
			t.Fatalf("%v: %s", args, said)
		}
	}

	q := &questions{Rand: rand.New(rand.NewPCG(1, 2)), shares: []string{"padlock_share=0.none"}}
	var shares []string
	for range 6 {
		response := (&question{host: "rules.localhost", method: "GET", target: "/share", client: "192.0.2.1"}).send(t, address, q.shares)
		cookie, _, _ := strings.Cut(response.Header.Get("Set-Cookie"), ";")
		shares = append(shares, cookie)
	}
	q.shares = shares

	routes := map[string]int{}
	missing := func() (without []int) {
		for r := range 18 {
			if routes[fmt.Sprint("0.", r)] == 0 {
				without = append(without, r)
			}
		}
		return without
	}
	for n := 0; n < *explained || len(missing()) > 0 && n < 20**explained; n++ {
		one := q.next()
		_, said := ends(t, one.args(t, file, q.shares)...)
		want := one.foretell(said)
		response := one.send(t, address, q.shares)
		if response == nil {
			if !slices.Contains(want.statuses, 421) {
				t.Errorf("%+v: there is no TLS for it\n%s", one, said)
			}
			continue
		}

		routes[want.route]++
		problem := ""
		switch {
		case !slices.Contains(want.statuses, response.StatusCode):
			problem = fmt.Sprintf("%s, not one of %v", response.Status, want.statuses)
		case want.route != "" && response.Header.Get("X-Route") != want.route:
			problem = fmt.Sprintf("route %s, not %s", response.Header.Get("X-Route"), want.route)
		case want.location != "" && !strings.HasPrefix(response.Header.Get("Location"), strings.TrimSuffix(want.location, "?")):
			problem = fmt.Sprintf("it leads to %s, not %s", response.Header.Get("Location"), want.location)
		case response.Header.Get("X-Seen") != want.seen:
			problem = fmt.Sprintf("the target sees %q, not %q", response.Header.Get("X-Seen"), want.seen)
		case response.Header.Get("X-By") != want.by:
			problem = fmt.Sprintf("%q has it, not %q", response.Header.Get("X-By"), want.by)
		}
		if problem != "" {
			t.Errorf("%+v: %s\n%s", one, problem, said)
		}
	}
	t.Logf("%v", routes)
	if without := missing(); len(without) > 0 {
		t.Errorf("no request was for the routes %v", without)
	}
}
