package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/proxy"
	"padlock/traffic"
)

// speak sends a text and returns all that comes back, until the other side ends the connection.
func speak(t *testing.T, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%.40q: %v after %q", text, err, all)
	}
	return string(all)
}

// The port of plain HTTP is as strict as the one of HTTPS, answers whoever speaks TLS there at once, and ends each connection with its response.
func TestPlainHTTPIsSpokenAsStrictlyAsHTTPS(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the app saw %s", r.URL) }), nil)
	_, port, _ := strings.Cut(e.address, ":")
	for text, want := range map[string]string{
		"GET /a?b HTTP/1.1\r\nHost: localhost\r\n\r\n":                                                           "308 Permanent Redirect",
		"GET /a?b HTTP/1.0\r\nHost: localhost\r\n\r\n":                                                           "308 Permanent Redirect",
		"GET http://localhost/a?b HTTP/1.1\r\nHost: localhost\r\n\r\n":                                           "308 Permanent Redirect",
		"POST /a?b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello":                                "308 Permanent Redirect",
		"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /b HTTP/1.1\r\nHost: localhost\r\n\r\n":                   "308 Permanent Redirect",
		"GET / HTTP/1.1\r\nHost: stranger.example\r\n\r\n":                                                       "404 Not Found",
		"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n":                                                          "404 Not Found",
		"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n":                                              "404 Not Found",
		"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n":                                                           "400 Bad Request",
		"GET / HTTP/1.1\r\n\r\n":                                                                                 "400 Bad Request",
		"GET / HTTP/1.1\nHost: localhost\n\n":                                                                    "400 Bad Request",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "400 Bad Request",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":                                                           "400 Bad Request",
	} {
		answer := speak(t, e.plain, text)
		if !strings.HasPrefix(answer, "HTTP/1.1 "+want+"\r\n") || !strings.Contains(text, "HTTP/1.0") && !strings.Contains(answer, "\r\nConnection: close\r\n") || strings.Count(answer, "HTTP/1.1 ") != 1 {
			t.Errorf("%.60q: %q", text, answer)
		}
		if location := "\r\nLocation: https://localhost:" + port + "/a"; strings.HasPrefix(want, "308") != strings.Contains(answer, location) {
			t.Errorf("%.60q leads elsewhere: %q", text, answer)
		}
		if strings.Contains(answer, "Strict-Transport-Security") || strings.Contains(answer, "Alt-Svc") {
			t.Errorf("%.60q: what is for HTTPS: %q", text, answer)
		}
	}
	e.cut(t, traffic.Malformed)
}

// A client on the port of plain HTTP that says nothing, or half of something, is waited for no longer than for the head of any request.
func TestPlainHTTPWaitsForNoClientForLong(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) { c.Timeouts.Header = 300 * time.Millisecond })
	for _, text := range []string{"", "GET / HTTP/1.1\r\nHo"} {
		began := time.Now()
		if answer := speak(t, e.plain, text); answer != "" {
			t.Errorf("%q: %q", text, answer)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%q: after %s", text, took)
		}
	}
	e.cut(t, traffic.SlowHeader)
}

// Connections of plain HTTP are among those that there may be, of one address too.
func TestPlainConnectionsCountAsOthersDo(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) { c.Limits.PerAddress = 2 })
	held := []net.Conn{from(t, "127.0.0.1", e.plain), tls.Client(from(t, "127.0.0.1", e.address), e.tls())}
	for deadline := time.Now().Add(10 * time.Second); e.server.Traffic().Connections < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are counted", e.server.Traffic().Connections)
		}
	}
	if err := held[1].(*tls.Conn).Handshake(); err != nil {
		t.Fatal(err)
	}
	gone(t, from(t, "127.0.0.1", e.plain))
	e.cut(t, traffic.PerAddress)
	_, _ = io.WriteString(held[0], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if response, err := http.ReadResponse(bufio.NewReader(held[0]), nil); err != nil || response.StatusCode != 308 {
		t.Error(response, err)
	}
}

// A proxy in front says whom it speaks for on the port of plain HTTP too: the trust page knows the client, not the proxy.
func TestAPROXYHeaderNamesTheClientOfPlainHTTP(t *testing.T) {
	t.Parallel()
	e := startWith(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) {
		c.Listen.ProxyProtocol.From = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}
	}, func(ca *localca.CA, deps *proxy.Dependencies) { trustPage(ca, deps) })
	request := "GET /trust HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	if answer := speak(t, e.plain, "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n"+request); !strings.HasPrefix(answer, "HTTP/1.1 200") || !strings.Contains(answer, "203.0.113.9") {
		t.Errorf("%.300q", answer)
	}
	c := from(t, "127.0.0.1", e.plain)
	_, _ = io.WriteString(c, request)
	if answer, _ := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("without a header: %q", answer)
	}
}
