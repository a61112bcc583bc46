package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The console answers to the one name that was printed, to whoever has the key; its cookie is that name's alone, and goes no further.
func TestTheConsolesCookieIsItsOwn(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}
	host := consoleHost(at)
	if host == consoleHost(at) || !strings.HasSuffix(host, ".localhost:4711") {
		t.Fatalf("the name is %s", host)
	}
	passed := 0
	handler := keyed(host, "KEY", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed++ }))
	ask := func(host, path, cookie string) *http.Response {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		if cookie != "" {
			r.Header.Set("Cookie", keyCookie+"="+cookie)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Result()
	}
	first := ask(host, "/?key=KEY", "")
	cookies := first.Cookies()
	if first.StatusCode != http.StatusSeeOther || len(cookies) != 1 || cookies[0].Domain != "" || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("%d, %v", first.StatusCode, cookies)
	}
	if r := ask(host, "/", "KEY"); r.StatusCode != http.StatusOK || passed != 1 {
		t.Errorf("with the cookie: %d", r.StatusCode)
	}
	for _, refused := range [][3]string{
		{host, "/", ""}, {host, "/", "OTHER"}, {host, "/?key=OTHER", ""}, {"127.0.0.1:4711", "/", "KEY"}, {"localhost:4711", "/", "KEY"}, {"127.0.0.1:4711", "/?key=KEY", ""},
		{"console.localhost:4711", "/", "KEY"}, {"rebound.example:4711", "/", "KEY"}, {strings.TrimSuffix(host, "4711") + "4712", "/", "KEY"}, {"", "/", "KEY"},
	} {
		if r := ask(refused[0], refused[1], refused[2]); r.StatusCode != http.StatusForbidden || len(r.Cookies()) > 0 {
			t.Errorf("%v: %d", refused, r.StatusCode)
		}
	}
	if passed != 1 {
		t.Errorf("%d requests passed", passed)
	}
}
