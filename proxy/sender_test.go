package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// A client that cannot be told is never taken for the proxy that speaks for it: where addresses decide, it is refused, whatever it writes
// to the left of what the proxy adds, and however much.
func TestAClientThatAProxyDoesNotNameIsNotTheProxy(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1.2.3.4, ", 1200) // 10 KiB
	hops := strings.Repeat("10.0.0.1, ", 40)
	quoted := strings.Repeat(`for="_,;", `, 1000)
	cases := []struct {
		field, value string
		who          string
	}{
		{"X-Forwarded-For", long + "127.0.0.2", "127.0.0.2"},
		{"X-Forwarded-For", long + "127.0.0.2, 10.0.0.1", "127.0.0.2"},
		{"X-Forwarded-For", strings.Repeat("7", 9<<10) + ",127.0.0.2", "127.0.0.2"},
		{"X-Forwarded-For", strings.Repeat("127.0.0.1,", 1000) + "127.0.0.1", "unknown"},
		{"X-Forwarded-For", hops + "127.0.0.1", "unknown"},
		{"X-Forwarded-For", "x" + strings.Repeat(" ", 8<<10) + ",10.0.0.1", "unknown"},
		{"X-Forwarded-For", strings.Repeat("1", 9<<10), "unknown"},
		{"X-Forwarded-For", strings.Repeat("1", 9<<10) + "127.0.0.1", "unknown"},
		{"X-Forwarded-For", "127.0.0.1, unknown", "unknown"},
		{"X-Forwarded-For", "127.0.0.1, unix:", "unknown"},
		{"X-Forwarded-For", "127.0.0.1, 10.1.2.3%eth0", "unknown"},
		{"X-Forwarded-For", "127.0.0.1, 127.0.0.1;x", "unknown"},
		{"X-Forwarded-For", "127.0.0.1, 127.0.0.1:99999", "unknown"},
		{"X-Forwarded-For", "unknown, 10.0.0.1", "unknown"},
		{"X-Forwarded-For", "", "unknown"},
		{"X-Forwarded-For", ",", "unknown"},
		{"Forwarded", quoted + "for=127.0.0.2", "127.0.0.2"},
		{"Forwarded", quoted + `for="127.0.0.2:4711";by=x, for=10.0.0.1`, "127.0.0.2"},
		{"Forwarded", `for="` + strings.Repeat("1,", 5<<10), "unknown"},
		{"Forwarded", "for=127.0.0.1, for=unknown", "unknown"},
		{"Forwarded", "for=127.0.0.1, for=_hidden", "unknown"},
		{"Forwarded", "for=127.0.0.1, by=127.0.0.1", "unknown"},
		{"Forwarded", "", "unknown"},
	}

	app := echoFields(t)
	e := startFile(t, `
trusted_proxies: [127.0.0.1, 10.0.0.0/8]
sites:
  - hosts: [localhost]
    routes:
      - {to: %[1]q, headers: {request: {set: {X-Who: "{client_ip}"}}}}
      - {path: /allow, to: %[1]q, allow: [127.0.0.1, 10.0.0.0/8]}
      - {path: /deny, to: %[1]q, deny: [127.0.0.2]}
`, app)
	for name, client := range e.everyClient(t) {
		for _, c := range cases {
			shown := fmt.Sprintf("%s: %s: %.20s… of %d bytes", name, c.field, c.value, len(c.value))
			if _, got := fetch(t, client, "GET", "https://localhost/", c.field, c.value); !strings.Contains(got, "X-Who: "+c.who+"\r\n") {
				t.Errorf("%s: the client is not %s", shown, c.who)
			}
			for _, path := range []string{"allow", "deny"} {
				if response, _ := fetch(t, client, "GET", "https://localhost/"+path, c.field, c.value); response.StatusCode != 403 {
					t.Errorf("%s: /%s: %d", shown, path, response.StatusCode)
				}
			}
		}
		// The proxy that speaks for itself, and clients in its own network, are named.
		for _, fields := range [][]string{nil, {"X-Forwarded-For", long + "127.0.0.3, 127.0.0.1"}, {"X-Forwarded-For", "10.1.2.3, 10.0.0.1"}} {
			if response, _ := fetch(t, client, "GET", "https://localhost/deny", fields...); response.StatusCode != 200 {
				t.Errorf("%s: %.40q: %d", name, fields, response.StatusCode)
			}
		}
	}
}

// The same for the PROXY protocol: only a version 2 header with the command LOCAL is the proxy's own connection.
func TestAProxyHeaderWithoutAnAddressIsNotTheProxy(t *testing.T) {
	t.Parallel()
	e := startFile(t, `
listen: {proxy_protocol: {from: [127.0.0.1]}}
sites: [{hosts: [localhost], allow: [127.0.0.1], routes: [{respond: {status: 200}}]}]
`)
	format := func(source, destination net.Addr) string {
		header := proxyproto.HeaderProxyFromAddrs(2, source, destination)
		header.Command = proxyproto.PROXY
		b, err := header.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	udp := &net.UDPAddr{IP: net.ParseIP("127.0.0.1"), Port: 1}
	socket := &net.UnixAddr{Net: "unix", Name: "/socket"}
	const v2 = "\r\n\r\n\x00\r\nQUIT\n"
	for what, c := range map[string]struct{ header, status string }{ // no status: the connection is closed
		"version 1, unknown":            {"PROXY UNKNOWN\r\n", "403"},
		"version 1, unknown with more":  {"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 2\r\n", "403"},
		"version 2, no family":          {v2 + "\x21\x00\x00\x00", "403"},
		"version 2, no family but more": {v2 + "\x21\x00\x00\x03\xea\x00\x00", "403"},
		"version 2, no such command":    {v2 + "\x22\x00\x00\x00", ""},
		"version 2, a Unix socket":      {format(socket, socket), "403"},
		"version 2, UDP":                {format(udp, udp), "403"},
		"version 2, local":              {v2 + "\x20\x00\x00\x00", "200"},
	} {
		raw, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(raw, c.header)
		conn := tls.Client(raw, e.tls())
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if status, _ := strings.CutPrefix(string(answer), "HTTP/1.1 "); !strings.HasPrefix(status, c.status) || c.status == "" && status != "" {
			t.Errorf("%s: %v, %.40q", what, err, answer)
		}
	}
}

// A port is one, or the host is none: what is not a port gets to no target, and what is one gets there in one form.
func TestAHostHasAPortOrNone(t *testing.T) {
	t.Parallel()
	e := startFile(t, `
sites: [{hosts: [localhost, "::1"], routes: [{to: %q}]}]
`, backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" "+r.Header.Get("X-Forwarded-Host")+"\n")
	}))
	const refused = "421"
	fronts := e.fronts(t)
	for _, host := range []string{"localhost", "[::1]"} {
		for port, want := range map[string]string{
			"": "", ":": "", ":1": ":1", ":443": ":443", ":00443": ":443", ":65535": ":65535",
			":0": refused, ":00000": refused, ":000443": refused, ":65536": refused, ":99999": refused, ":+443": refused, ":4_4": refused, ":-1": refused,
			":18446744073709551617": refused, "::": refused, ":1:": refused, ":1:1": refused,
		} {
			status, body := "200", host+want+" "+host+want+"\n"
			if want == refused {
				status, body = refused, ""
			}
			answer := e.say(t, "GET / HTTP/1.1\r\nHost: "+host+port+"\r\nConnection: close\r\n\r\n")
			if !strings.HasPrefix(answer, "HTTP/1.1 "+status+" ") || !strings.HasSuffix(answer, body) {
				t.Errorf("h1: %s: %q", host+port, answer)
			}
			for front, send := range fronts {
				if o := send(forged{fields: set(":authority", host+port)}); o.status != status || !strings.HasSuffix(o.body, body) {
					t.Errorf("%s: %s: %+v", front, host+port, o)
				}
			}
		}
	}
}
