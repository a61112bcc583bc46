package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// A client of HTTP/1.0, which knows the end of content by that of the connection, sees that a response was broken off:
// the connection is reset, as an orderly end would make it whole.
func TestABrokenOffResponseOverPlainHTTPIsNotWhole(t *testing.T) {
	t.Parallel()
	e := startFile(t, "sites: [{hosts: [plain.test], http: serve, routes: [{to: %q}]}]", backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/half" {
			panic(http.ErrAbortHandler)
		}
	}))
	for path, whole := range map[string]bool{"/": true, "/half": false} {
		c, err := net.Dial("tcp", e.plain)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: plain.test\r\n\r\n", path)
		if text, err := io.ReadAll(c); (err == nil) != whole {
			t.Errorf("%s: %v after %q", path, err, text)
		}
	}
}

// A site over plain HTTP has the routes, rules and limits that it has over TLS, on connections that go on; others beside it lead to HTTPS or
// refuse.
func TestASiteIsServedOverPlainHTTP(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s", r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Port"), r.Header.Get("X-Forwarded-For"), r.Header.Get("Upgrade"))
	})
	e := startFile(t, `
sites:
  - hosts: [plain.test]
    http: serve
    hsts: {max_age: 24h}
    www: add
    routes:
      - {path: /denied, deny: [127.0.0.0/8], to: %q}
      - {path: /here, redirect: {to: /there}}
      - {path: /page, respond: {status: 200, body: "over {scheme}"}}
      - {to: %[1]q, sticky: lb}
  - {hosts: [off.test], http: "off", routes: [{to: %[1]q}]}
  - {hosts: [default.test], routes: [{to: %[1]q}]}
`, target)

	c, err := net.Dial("tcp", e.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	ask := func(host, path string, fields ...string) (*http.Response, string) {
		t.Helper()
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, host, strings.Join(append(fields, ""), "\r\n"))
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%s%s: %v", host, path, err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}

	for range 3 { // on one connection
		response, body := ask("www.plain.test:8080", "/x", "X-Forwarded-Proto: https", "X-Forwarded-For: 6.6.6.6", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
		cookie := response.Header.Get("Set-Cookie")
		if response.StatusCode != 200 || body != "http 8080 127.0.0.1 " || response.Close || response.Header.Get("Strict-Transport-Security") != "" || !strings.HasPrefix(cookie, "lb=") || strings.Contains(cookie, "Secure") {
			t.Errorf("%s %v: %q", response.Status, response.Header, body)
		}
	}
	if response, _ := ask("plain.test:8080", "/x"); response.StatusCode != 308 || response.Header.Get("Location") != "http://www.plain.test:8080/x" {
		t.Errorf("www: %s %v", response.Status, response.Header)
	}
	if response, _ := ask("www.plain.test", "/denied/x"); response.StatusCode != 403 {
		t.Errorf("access rules: %s", response.Status)
	}
	if response, _ := ask("www.plain.test", "/here"); response.StatusCode != 308 || !strings.HasSuffix(response.Header.Get("Location"), "/there") || strings.HasPrefix(response.Header.Get("Location"), "https:") {
		t.Errorf("a redirect: %s %v", response.Status, response.Header)
	}
	if response, _ := ask("default.test", "/x"); response.StatusCode != 308 || !response.Close || !strings.HasPrefix(response.Header.Get("Location"), "https://default.test") {
		t.Errorf("the default: %s %v", response.Status, response.Header)
	}

	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: off.test\r\n\r\n": "421 ", "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n": "404 ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "505 ",
		"GET /x HTTP/1.0\r\nHost: www.plain.test\r\n\r\n": "200 ", "GET http://default.test/ HTTP/1.1\r\nHost: www.plain.test\r\n\r\n": "400 ",
		"POST /x HTTP/1.1\r\nHost: www.plain.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "400 ",
	} {
		if answer := speak(t, e.plain, text); !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
			t.Errorf("%q: %.200q", text, answer)
		}
	}
	for limit := time.Now().Add(20 * time.Second); !strings.Contains(e.access.String(), "/denied/x"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in the access log: %s", e.access.String())
		}
	}
}

// What a proxy that ends TLS says of the scheme decides; a password is asked for only where nobody else can read it, whoever says that.
func TestATrustedProxyDecidesTheSchemeOfPlainHTTP(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	})
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	e := startFile(t, `
trusted_proxies: [127.0.0.1]
sites:
  - hosts: [plain.test]
    http: serve
    hsts: {max_age: 24h}
    routes:
      - {path: /secret, to: %q, basic_auth: {users: {ada: %q}}}
      - {to: %[1]q, sticky: lb}
`, target, hash)
	const password = "Authorization: Basic YWRhOnJpZ2h0\r\n"
	for _, c := range []struct{ path, fields, want, contains, lacks string }{
		{"/", "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n", "200", "max-age", "\r\n\r\nhttp\r"}, {"/", "X-Forwarded-For: 192.0.2.1\r\n", "200", "http", "max-age"},
		{"/", "X-Forwarded-Proto: https\r\n", "200", "; Secure", "nothing"}, {"/", "", "200", "lb=", "; Secure"},
		{"/secret", password, "403", "HTTPS only", "WWW-Authenticate"}, {"/secret", "X-Forwarded-Proto: http\r\n" + password, "403", "HTTPS only", "WWW-Authenticate"},
		{"/secret", "X-Forwarded-Proto: https\r\n" + password, "200", "https", "nothing"}, {"/secret", "X-Forwarded-Proto: https\r\n", "401", "WWW-Authenticate", "nothing"},
	} {
		answer := speak(t, e.plain, "GET "+c.path+" HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n"+c.fields+"\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 "+c.want) || !strings.Contains(answer, c.contains) || strings.Contains(answer, c.lacks) {
			t.Errorf("%s %q: %q", c.path, c.fields, answer)
		}
	}
}

// After a reload that serves a site over TLS alone, requests on its open connections of plain HTTP are led there, and what is underway ends.
func TestAReloadEndsWhatIsServedOverPlainHTTP(t *testing.T) {
	t.Parallel()
	came := make(chan struct{}, 1)
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		came <- struct{}{}
		<-r.Context().Done()
	})
	e := startFile(t, `sites: [{hosts: [plain.test], http: serve, routes: [{to: %q}]}]`, target)
	c, err := net.Dial("tcp", e.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n")
	<-came
	sites := slices.Clone(e.config.Sites)
	sites[0].HTTP = ""
	e.reload(t, sites)
	if answer, _ := io.ReadAll(c); strings.HasSuffix(string(answer), "0\r\n\r\n") {
		t.Errorf("%q", answer)
	}
	if answer := speak(t, e.plain, "GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 308") {
		t.Errorf("%q", answer)
	}
}
