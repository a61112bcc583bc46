package proxy_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// A client has one budget, by whichever protocol it comes and however it writes the path; what it may still do is in the response.
func TestAClientHasOneBudgetForEveryProtocolAndSpelling(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) {})
	text := func(requests int) string {
		return strings.NewReplacer("TARGET", target, "N", map[int]string{10: "10", 100: "100"}[requests]).Replace(`
sites:
  - hosts: [localhost]
    routes:
      - {path: /login, to: "TARGET", rate_limit: {requests: N, per: 1h}}
      - {to: "TARGET"}
`)
	}
	e := startFile(t, "%s", text(10))
	reload := func(requests int) {
		t.Helper()
		e.reload(t, sitesOf(t, text(requests)))
	}
	clients := e.everyClient(t)
	var names []string
	for name := range clients {
		names = append(names, name)
	}
	spellings := []string{"/login", "/login/x", "/%6cogin", "/login?a=b", "/login/"}
	get := func(i int, path string) *http.Response {
		t.Helper()
		response, _ := fetch(t, clients[names[i%len(names)]], "GET", "https://localhost"+path)
		return response
	}
	for i := range 10 {
		response := get(i, spellings[i%len(spellings)])
		if response.StatusCode != 200 || response.Header.Get("RateLimit-Policy") != `"default";q=10;w=3600` || !strings.HasPrefix(response.Header.Get("RateLimit"), `"default";r=`) {
			t.Fatalf("%d: %s %v", i, response.Status, response.Header)
		}
		if i == 5 {
			reload(10) // which changes nothing
		}
	}
	for i := range 10 {
		response := get(i, spellings[i%len(spellings)])
		h := response.Header
		// A request comes back every 360 s, and some of them have passed.
		if wait, err := strconv.Atoi(h.Get("Retry-After")); response.StatusCode != 429 || err != nil || wait > 360 || wait < 300 || h.Get("RateLimit") != `"default";r=0;t=`+h.Get("Retry-After") {
			t.Errorf("%d: %s %v", i, response.Status, h)
		}
	}
	if response := get(0, "/other"); response.StatusCode != 200 || response.Header.Get("RateLimit") != "" {
		t.Errorf("another route: %s %v", response.Status, response.Header)
	}
	reload(100)
	if response := get(0, "/login"); response.StatusCode != 200 {
		t.Errorf("another limit begins anew: %s", response.Status)
	}
}

// Guesses of passwords count before they are checked; users, headers and cookies have budgets of their own, and who has none of these counts by
// address.
func TestWhatCountsAsAClient(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) {})
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	e := startFile(t, `
sites:
  - hosts: [localhost]
    rate_limit: {requests: 1000, per: 1h}
    routes:
      - {path: /guess, to: %q, basic_auth: {users: {ada: %q}}, rate_limit: {requests: 3, per: 1h}}
      - {path: /user, to: %[1]q, basic_auth: {users: {ada: %[2]q, bob: %[2]q}}, rate_limit: {requests: 2, per: 1h, by: user}}
      - {path: /key, to: %[1]q, rate_limit: {requests: 2, per: 1h, by: "header:X-API-Key"}}
      - {path: /session, to: %[1]q, rate_limit: {requests: 2, per: 1h, by: "cookie:session"}}
      - {path: /php, to: %[1]q, rate_limit: {requests: 2, per: 1h, by: "cookie:app_session"}}
      - {path: /cgi, to: %[1]q, rate_limit: {requests: 2, per: 1h, by: "header:X-Customer"}}
      - {path: /burst, to: %[1]q, rate_limit: {requests: 60, per: 1h, burst: 1}}
      - {path: /answer, respond: {status: 204}, rate_limit: {requests: 1, per: 1h}}
`, target, hash)
	client := e.everyClient(t)["h2"]
	if client == nil {
		for _, client = range e.everyClient(t) {
			break
		}
	}
	expect := func(path string, want []int, fields ...string) {
		t.Helper()
		for i, status := range want {
			request, err := http.NewRequest("GET", "https://localhost"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for j := 0; j < len(fields); j += 2 {
				if fields[j] == "user" {
					name, password, _ := strings.Cut(fields[j+1], ":")
					request.SetBasicAuth(name, password)
				} else {
					request.Header.Add(fields[j], fields[j+1])
				}
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != status {
				t.Errorf("%s %v, request %d: %s, not %d", path, fields, i, response.Status, status)
			}
		}
	}
	expect("/guess", []int{401, 401, 401, 429}, "user", "ada:wrong")
	expect("/guess", []int{429}, "user", "ada:right")
	expect("/user", []int{200, 200, 429}, "user", "ada:right")
	expect("/user", []int{200, 200, 429}, "user", "bob:right")
	expect("/user", []int{401, 401, 401}, "user", "bob:wrong")
	expect("/key", []int{200, 200, 429}, "X-API-Key", "one")
	expect("/key", []int{200, 200, 429}, "X-API-Key", "two")
	expect("/key", []int{200, 200, 429})
	expect("/session", []int{200, 200, 429}, "Cookie", "a=b; session=one")
	expect("/session", []int{200, 200, 429}, "Cookie", "session=two; x=y")
	expect("/session", []int{200, 200, 429}, "Cookie", "a=b")

	// Who shows several values, or one that targets read in several ways, has not found another budget.
	expect("/key", []int{429}, "X-API-Key", "invented", "X-API-Key", "one")
	expect("/key", []int{429}, "X-API-Key", "one", "X-API-Key", "invented")
	expect("/session", []int{429}, "Cookie", "session=invented; session=one")
	expect("/session", []int{429}, "Cookie", "session=one; session=invented")
	expect("/session", []int{429}, "Cookie", `session="\157ne"`)
	// PHP reads both cookies as app_session, and takes the first; CGI makes one variable of both headers.
	expect("/php", []int{200, 200, 429}, "Cookie", "app_session=one")
	expect("/php", []int{200, 200, 429}, "Cookie", "app.session=one; app_session=invented")
	for _, name := range []string{"app.session", "app session", "app[session", "app_session[x]", "app%5fsession"} {
		expect("/php", []int{429}, "Cookie", name+"=one; app_session=also invented")
	}
	expect("/php", []int{200, 200, 429}, "Cookie", "app_session=two; app-session=other; the.app_session=other")
	expect("/cgi", []int{200, 200, 429}, "X-Customer", "one")
	expect("/cgi", []int{200, 200, 429}, "X-Customer", "invented", "X_Customer", "one")
	expect("/cgi", []int{429}, "X-Customer", "also invented", "X_Customer", "one")
	expect("/burst", []int{200, 429})
	expect("/answer", []int{204, 429})
}

// Who has a whole IPv6 network has as much as four clients, however many of its addresses are used; other networks lose nothing by it. What was
// refused to a client costs its network nothing.
func TestANetworkCountsAsFourClientsOfARateLimit(t *testing.T) {
	t.Parallel()
	e := startFile(t, "%s", `
trusted_proxies: [127.0.0.1]
sites: [{hosts: [localhost], routes: [{respond: {status: 204}, rate_limit: {requests: 5, per: 1h}}]}]
`)
	for name, client := range e.everyClient(t) {
		network := "2001:db8:" + map[string]string{"h1": "1", "h2": "2", "h3": "3"}[name]
		answered := func(address string) int {
			t.Helper()
			n := 0
			for range 8 {
				if response, _ := fetch(t, client, "GET", "https://localhost/", "X-Forwarded-For", address); response.StatusCode == 204 {
					n++
				}
			}
			return n
		}

		var got []int
		for i := range 6 {
			got = append(got, answered(fmt.Sprintf("%s:%x::1", network, i)))
		}
		if want := []int{5, 5, 5, 5, 0, 0}; !slices.Equal(got, want) {
			t.Errorf("%s: six networks of 64 bits in one of 48 had %d answers, not %d", name, got, want)
		}
		if n := answered(fmt.Sprintf("%sff::1", network)); n != 5 {
			t.Errorf("%s: another network had %d answers", name, n)
		}
	}
}

// Clients of the same software have one budget between them by: ja4, from whichever address they come, and other software has its own.
func TestClientsOfTheSameSoftwareHaveOneBudget(t *testing.T) {
	t.Parallel()
	for name, handshakes := range map[string]string{"recorded": "all", "not recorded": "\"off\""} {
		e := startFile(t, "handshakes: {show: %s}\nsites: [{hosts: [localhost], routes: [{respond: {status: 204}, rate_limit: {requests: 3, per: 1h, by: ja4}}]}]", handshakes)
		for _, front := range []string{"h1", "h2", "h3"} {
			for i, want := range []int{204, 204, 204, 429, 429} {
				response, _ := fetch(t, e.ownClient(t, front, fmt.Sprintf("127.0.0.%d", 2+i)), "GET", "https://localhost/")
				if response.StatusCode != want {
					t.Errorf("%s, %s, client %d: %s, not %d", name, front, i, response.Status, want)
				}
			}
		}

		other := e.tls()
		other.CurvePreferences, other.MaxVersion = []tls.CurveID{tls.CurveP256}, tls.VersionTLS12
		transport := &http.Transport{DialContext: e.dial, TLSClientConfig: other}
		t.Cleanup(transport.CloseIdleConnections)
		if response, _ := fetch(t, &http.Client{Transport: transport}, "GET", "https://localhost/"); response.StatusCode != 204 {
			t.Errorf("%s: another program: %s", name, response.Status)
		}
	}
}
