package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// gets asks under a host and returns the fields that the target got, each as a line.
func gets(t *testing.T, client *http.Client, host, path string, fields ...string) string {
	t.Helper()
	request, err := http.NewRequest("GET", "https://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	for i := 0; i < len(fields); i += 2 {
		request.Header.Add(fields[i], fields[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s%s: %v", host, path, err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		t.Fatalf("%s%s: %s", host, path, response.Status)
	}
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return "\r\n" + string(got)
}

// A target learns the port that the client has asked for and the prefix that padlock has taken off, so that it can name itself: Tomcat, Spring
// and others put them into links and redirects. What a client claims under these names is dropped.
func TestTargetsLearnPortAndPrefix(t *testing.T) {
	t.Parallel()
	target := echoFields(t)
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {to: %q}
      - {path: /app/, strip_prefix: true, to: %[1]q}
      - {path: "/über", strip_prefix: true, to: %[1]q}
      - {path: /old, replace_prefix: /new, to: %[1]q}
`, target)
	for name, client := range e.everyClient(t) {
		for _, c := range []struct{ host, path, port, prefix string }{
			{"localhost", "/", "443", ""},
			{"localhost:8443", "/", "8443", ""},
			{"localhost:0443", "/", "443", ""},
			{"localhost:8443", "/app/x?y", "8443", "/app"},
			{"localhost", "/%C3%BCber/x", "443", "/%C3%BCber"},
			{"localhost", "/old/x", "443", ""},
		} {
			got := gets(t, client, c.host, c.path, "X-Forwarded-Port", "6666", "X-Forwarded-Prefix", "/evil")
			if !strings.Contains(got, "\r\nX-Forwarded-Port: "+c.port+"\r\n") || strings.Contains(got, "6666") || strings.Contains(got, "evil") {
				t.Errorf("%s: %s%s: no port %s in%s", name, c.host, c.path, c.port, got)
			}
			if want := "\r\nX-Forwarded-Prefix: " + c.prefix + "\r\n"; strings.Contains(got, want) != (c.prefix != "") || c.prefix == "" && strings.Contains(got, "Prefix") {
				t.Errorf("%s: %s%s: no prefix %q in%s", name, c.host, c.path, c.prefix, got)
			}
		}
	}
}

// What trusted proxies say of port, prefix, protocol, user and certificate passes; of Forwarded too, where they say it there, and never from
// what a client can put into it.
func TestWhatTrustedProxiesTellPasses(t *testing.T) {
	t.Parallel()
	target := echoFields(t)
	for trusted, believed := range map[string]bool{"127.0.0.1": true, "10.0.0.0/8": false} {
		e := startFile(t, `
trusted_proxies: [%s]
sites:
  - hosts: [localhost]
    routes:
      - {to: %q}
      - {path: /app, strip_prefix: true, to: %[2]q}
`, trusted, target)
		for name, client := range e.everyClient(t) {
			for _, c := range []struct {
				fields []string
				path   string
				want   string // field: value
				not    string
			}{
				{[]string{"X-Forwarded-Port", "8443"}, "/", "X-Forwarded-Port: 8443", ""},
				{[]string{"X-Forwarded-Port", "0"}, "/", "X-Forwarded-Port: 443", ""},
				{[]string{"X-Forwarded-Proto", "http"}, "/", "X-Forwarded-Port: 80", ""},
				{[]string{"X-Forwarded-Host", "shop.example:444"}, "/", "X-Forwarded-Port: 444", ""},
				{[]string{"X-Forwarded-Prefix", "/outer/"}, "/app/x", "X-Forwarded-Prefix: /outer/app", ""},
				{[]string{"X-Forwarded-Prefix", "/outer, /inner"}, "/", "X-Forwarded-Prefix: /outer/inner", ""},
				{[]string{"X-Forwarded-Prefix", "//evil.example"}, "/app/x", "X-Forwarded-Prefix: /app", "evil"},
				{[]string{"X-Forwarded-Prefix", "/a/../evil"}, "/app/x", "X-Forwarded-Prefix: /app", "evil"},
				{[]string{"X-Forwarded-Prefix", `/\evil`}, "/app/x", "X-Forwarded-Prefix: /app", "evil"},
				{[]string{"X-Forwarded-Prefix", "https://evil"}, "/app/x", "X-Forwarded-Prefix: /app", "evil"},
				{[]string{"X-Forwarded-User", "ada"}, "/", "X-Forwarded-User: ada", ""},
				{[]string{"X-Forwarded-Email", "ada@example.com"}, "/", "X-Forwarded-Email: ada@example.com", ""},
				{[]string{"X-Forwarded-Groups", "staff"}, "/", "X-Forwarded-Groups: staff", ""},
				{[]string{"X-Forwarded-Preferred-Username", "ada"}, "/", "X-Forwarded-Preferred-Username: ada", ""},
				{[]string{"X-Auth-Request-User", "ada"}, "/", "X-Auth-Request-User: ada", ""},
				{[]string{"X-Webauth-User", "ada"}, "/", "X-Webauth-User: ada", ""},
				{[]string{"X-Forwarded-Client-Cert", "Hash=abc"}, "/", "X-Forwarded-Client-Cert: Hash=abc", ""},
				{[]string{"X_Forwarded_User", "ada"}, "/", "X-Forwarded-Port: 443", "ada"},
				{[]string{"Forwarded", "for=192.0.2.1;proto=http;host=shop.example"}, "/", "X-Forwarded-Proto: http", ""},
				{[]string{"Forwarded", `host="shop.example:444";proto=https;for="[2001:db8::1]:7"`}, "/", "X-Forwarded-Host: shop.example:444", ""},
				{[]string{"Forwarded", `host="x;proto=http;for=6.6.6.6;y";proto=https;for=192.0.2.1`}, "/", "X-Forwarded-Proto: https", ""},
				{[]string{"Forwarded", "for=6.6.6.6;proto=http, for=192.0.2.1;proto=https"}, "/", "X-Forwarded-Proto: https", ""},
				{[]string{"Forwarded", "for=192.0.2.1;proto=http, for=127.0.0.1;proto=https"}, "/", "X-Forwarded-Proto: http", ""},
				{[]string{"Forwarded", "for=unknown;proto=http"}, "/", "X-Forwarded-Proto: http", ""},
				{[]string{"Forwarded", "for=192.0.2.1;proto=gopher"}, "/", "X-Forwarded-Proto: https", ""},
				{[]string{"X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1;proto=http"}, "/", "X-Forwarded-Proto: https", ""},
				{[]string{"X-Forwarded-Proto", "https", "Forwarded", "for=192.0.2.1;proto=http"}, "/", "X-Forwarded-Proto: https", ""},
			} {
				got := gets(t, client, "localhost", c.path, c.fields...)
				ours := strings.HasSuffix(c.want, ": https") || strings.HasSuffix(c.want, ": 443") || strings.HasSuffix(c.want, ": /app") // what padlock says itself
				if has := strings.Contains(got, "\r\n"+c.want+"\r\n"); has != (believed || ours) || c.not != "" && strings.Contains(got, c.not) {
					t.Errorf("%s: trusted %s, %q at %s: %s in%s", name, trusted, c.fields, c.path, c.want, got)
				}
			}
		}
	}
}

// Where padlock asks for a name and a password itself, nobody else says who the client is.
func TestAUserOfPadlocksIsNobodyElses(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	e := startFile(t, `
trusted_proxies: [127.0.0.1]
sites: [{hosts: [localhost], routes: [{to: %q, basic_auth: {users: {ada: %q}}}]}]
`, echoFields(t), hash)
	for name, client := range e.everyClient(t) {
		got := gets(t, client, "localhost", "/", "Authorization", "Basic YWRhOnNlY3JldA==", "X-Forwarded-User", "root", "X-Forwarded-Email", "root@example.com", "X-Forwarded-Groups", "root")
		if !strings.Contains(got, "\r\nX-Forwarded-User: ada\r\n") || strings.Contains(got, "root") {
			t.Errorf("%s: the target saw%s", name, got)
		}
	}
}
