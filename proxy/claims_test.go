package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"testing"

	"padlock/config"
)

// whatOnlyAProxyTells are fields by which targets learn who a client is.
var whatOnlyAProxyTells = []string{
	"Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-By", "X-Forwarded-Prefix",
	"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info", "X-Forwarded-Anything", "Forwarded-For", "X-Original-Forwarded-For", "X-Original-Host",
	"X-Real-Ip", "True-Client-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Remote-Ip", "X-Remote-Addr", "Proxy-Client-Ip", "Wl-Proxy-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip", "X-Azure-Clientip", "X-Envoy-External-Address",
	"X-Ssl-Cert", "X-Ssl-Client-Cert", "X-Ssl-Client-Verify", "X-Ssl-Client-Subject", "X-Ssl-Client-San", "X-Ssl-Client-S-Dn", "Ssl-Client-Cert", "Ssl-Client-Verify", "X-Client-Cert", "X-Client-Verify", "Client-Cert", "Client-Cert-Chain",
	"X-Remote-User", "X-Remote-Group", "Remote-Groups", "X-Webauth-User", "X-Auth-Request-Email", "X-Authentik-Username", "X-Remote-Extra-Scopes", "X-Ms-Client-Principal-Name", "Tailscale-User-Login", "Cf-Access-Authenticated-User-Email",
	"X-Scheme", "X-Originating-Ip", "Client-Ip",
	"X-Arr-Clientcert", "Front-End-Https", "X-Url-Scheme", "Padlock-Handshake", "Proxy", "X-Original-Url", "X-Original-Uri", "X-Rewrite-Url",
}

// sayFields sends a GET with fields as they are written.
func (e *edge) sayFields(t *testing.T, lines ...string) string {
	t.Helper()
	return e.say(t, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n")
}

// Who the client is, a target hears from padlock and from proxies that are trusted; from nobody else, by whatever protocol, in a head or behind the content.
func TestClaimsOfAClientDoNotReachATarget(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	for name, client := range e.everyClient(t) {
		request, _ := http.NewRequest("POST", "https://localhost/", strings.NewReader("content"))
		request.ContentLength = -1
		request.Trailer = http.Header{"X-Sum": {"7"}}
		for _, field := range whatOnlyAProxyTells {
			for _, alias := range []string{field, strings.ReplaceAll(field, "-", "_"), strings.ReplaceAll(field, "-", "."), strings.ReplaceAll(field, "-", "~"), strings.Replace(field, "-", "_", 1)} {
				request.Header[alias] = []string{"FORGED"}
			}
			if !strings.HasPrefix(field, "Proxy") {
				request.Trailer[field] = []string{"FORGED"}
			}
		}
		for alias := range request.Header { // 200 fields at most
			if len(request.Header) <= 150 {
				break
			}
			if !slices.Contains(whatOnlyAProxyTells, alias) {
				delete(request.Header, alias)
			}
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(name, err)
		}
		response.Body.Close()
		got := r.take()
		if response.StatusCode != 200 || !strings.Contains(got, "\r\nTrailer: X-Sum\r\n") || !strings.HasSuffix(strings.ToLower(got), "\r\n0\r\nx-sum: 7\r\n\r\n") || strings.Contains(got, "FORGED") || !strings.Contains(got, "\r\nX-Forwarded-For: 127.0.0.1\r\n") {
			t.Errorf("%s: %s, and the backend saw\n%s", name, response.Status, got)
		}
	}
}

// What a trusted proxy tells of the client's address stays; what it cannot know does not.
func TestATrustedProxysWordStays(t *testing.T) {
	r := record(t)
	for trusted, want := range map[string]bool{"127.0.0.1": true, "10.0.0.0/8": false} {
		e := startFile(t, "trusted_proxies: [%s]\nsites: [{hosts: [localhost], routes: [{to: %q}]}]", trusted, r.url())
		for _, field := range []string{"X-Real-IP", "True-Client-IP", "CF-Connecting-IP"} {
			e.sayFields(t, field+": 6.6.6.6", "X-Forwarded-Port: 8443", "X-SSL-Client-Verify: SUCCESS", strings.ReplaceAll(field, "-", "_")+": 7.7.7.7")
			got := r.take()
			if strings.Contains(got, field+": 6.6.6.6\r\n") != want || strings.Contains(got, "X-Forwarded-Port: 8443") != want || strings.Contains(got, "SUCCESS") || strings.Contains(got, "7.7.7.7") {
				t.Errorf("trusted %s: the backend saw\n%s", trusted, got)
			}
		}
	}
}

// Fields that CGI and its like take for others are dropped where the others mean something to padlock; all of them, or none, where it is told so.
func TestAliasesOfFieldsAreDroppedAsConfigured(t *testing.T) {
	r := record(t)
	ours := []string{"Transfer_Encoding: chunked", "Transfer.Encoding: chunked", "Content_Length: 46", "content.length: 46", "X_Forwarded_For: 6.6.6.6", "X.Forwarded.For: 6.6.6.6", "X-Forwarded_For: 6.6.6.6", "x_real_ip: 6.6.6.6",
		"X_Tenant: 6", "X.Tenant: 6", "X!Tenant: 6", "X_Secret: 6", "Proxy_Authorization: 6", "Keep_Alive: 6", "HTTP2_Settings: 6"}
	others := []string{"api_key: 1", "X_Custom.Name: 2"}
	for _, test := range []struct {
		drop                 string
		oursKept, othersKept bool
	}{{"", false, true}, {"underscores_in_headers: drop_known", false, true}, {"underscores_in_headers: drop", false, false}, {"underscores_in_headers: keep", true, true}} {
		e := startFile(t, test.drop+`
sites:
  - hosts: [localhost]
    headers: {request: {set: {X-Tenant: blue}}}
    routes: [{to: %q, headers: {request: {remove: [X-Secret]}}}]
`, r.url())
		answer := e.sayFields(t, append(append([]string{"X-Tenant: forged"}, ours...), others...)...)
		got := r.take()
		if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.Contains(got, "\r\nX-Tenant: blue\r\n") || strings.Contains(got, "forged") {
			t.Errorf("%q: %s\nthe backend saw\n%s", test.drop, answer, got)
		}
		for kept, lines := range map[*bool][]string{&test.oursKept: ours, &test.othersKept: others} {
			for _, line := range lines {
				if strings.Contains(got, "\r\n"+line+"\r\n") != *kept {
					t.Errorf("%q: %s: kept is not %v:\n%s", test.drop, line, *kept, got)
				}
			}
		}
	}
	if _, err := config.Parse("padlock.yaml", []byte("underscores_in_headers: some\nsites: [{hosts: [localhost]}]\n")); err == nil || !strings.Contains(err.Error(), "underscores_in_headers") {
		t.Errorf("an unknown word: %v", err)
	}
}

// Connection can nominate a field to be dropped, but none that padlock sets: those come afterwards.
func TestFieldsThatConnectionNominatesAreDroppedAndOursSetAfterwards(t *testing.T) {
	r := record(t)
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{to: %q, forwarded: true, handshake_header: true, headers: {request: {set: {X-Tenant: blue}}}}]}]`, r.url())
	for _, nominated := range []string{
		"close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Forwarded, Padlock-Handshake, X-Tenant, Host, X-Gone", "X-Gone\r\nConnection: close, x-forwarded-for, x-tenant, host,, padlock-handshake, forwarded, X-Forwarded-Proto,X-Forwarded-Host",
		"close,\tx-gone\t,X-FORWARDED-FOR ,x-forwarded-proto,x-forwarded-host,content-length,transfer-encoding,connection,te",
	} {
		e.say(t, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Gone: 1\r\nX-Kept: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Tenant: red\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nConnection: "+nominated+"\r\n\r\n")
		got := r.take()
		for _, want := range []string{"Host: localhost", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: localhost", `Forwarded: for=127.0.0.1;host="localhost";proto=https`, "Padlock-Handshake: id=", "X-Tenant: blue", "X-Kept: 1"} {
			if !strings.Contains(got, "\r\n"+want) {
				t.Errorf("Connection: %s: the backend saw no %s:\n%s", nominated, want, got)
			}
		}
		for _, gone := range []string{"X-Gone", "6.6.6.6", "red", "Keep-Alive", "Proxy-Connection", "TE:", "Connection:"} {
			if strings.Contains(got, gone) {
				t.Errorf("Connection: %s: the backend saw %s:\n%s", nominated, gone, got)
			}
		}
	}
	app := script(t, "HTTP/1.1 200 OK\r\nConnection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTrailer: X\r\nContent-Length: 0\r\n\r\n")
	e = start(t, "http://"+app.Addr().String(), nil)
	for name, client := range e.everyClient(t) {
		response, _ := fetch(t, client, "GET", "https://localhost/0")
		for _, gone := range []string{"X-Gone", "Keep-Alive", "Proxy-Authenticate", "Upgrade", "Connection"} {
			if response.Header.Get(gone) != "" {
				t.Errorf("%s: the client saw %s: %s", name, gone, fmt.Sprint(response.Header))
			}
		}
	}
}

// What rules for fields take away or say holds for trailers too, as some readers make one list of both: for those of clients, by any protocol
// and to either kind of target, and for those of targets; and for what comes before a response.
func TestRulesForFieldsHoldForTrailersToo(t *testing.T) {
	seen := make(chan http.Header, 1)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- r.Trailer
		w.Header().Set("X-Powered-By", "FORGED")
		w.Header().Set("X-Frame-Options", "FORGED")
		w.Header().Set("Link", "</x>")
		w.WriteHeader(103)
		for _, name := range []string{"X-Powered-By", "X-Frame-Options", "X-Sum"} {
			w.Header().Set(http.TrailerPrefix+name, "FORGED")
		}
		w.Header().Set(http.TrailerPrefix+"X-Sum", "8")
		w.WriteHeader(200)
		_, _ = io.WriteString(w, "content")
		_ = http.NewResponseController(w).Flush()
	})
	for backend, to := range map[string]string{"HTTP/1.1": backend(t, answer), "h2c": h2cBackend(t, answer)} {
		for _, drop := range []string{"drop_known", "drop"} {
			e := startFile(t, `
underscores_in_headers: %s
sites:
  - hosts: [localhost]
    headers: {request: {remove: [X-Debug]}, response: {remove: [X-Powered-By]}}
    routes:
      - to: %q
        headers: {request: {set: {X-Tenant: "7"}, add: {X-Sum: "1"}}, response: {set: {X-Frame-Options: DENY}}}
`, drop, to)
			for front, client := range e.everyClient(t) {
				request, _ := http.NewRequest("POST", "https://localhost/", strings.NewReader("content"))
				request.ContentLength = -1
				request.Trailer = http.Header{"X-Sum": {"7"}}
				for _, name := range []string{"X-Debug", "X-Tenant", "X_tenant", "X.debug", "X_custom", "Traceparent", "X-Original-Url"} {
					request.Trailer[name] = []string{"FORGED"}
				}
				early := http.Header{}
				trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, header textproto.MIMEHeader) error { early = http.Header(header); return nil }}
				response, err := client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
				if err != nil {
					t.Fatal(front, err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				got := <-seen
				custom := got["X_custom"]
				delete(got, "X_custom")
				if want := (http.Header{"X-Sum": {"7"}}); !reflect.DeepEqual(got, want) || (custom == nil) != (drop == "drop") {
					t.Errorf("%s to %s, %s: the target got %v, %v behind the content", front, backend, drop, got, custom)
				}
				if got := response.Trailer; got.Get("X-Sum") != "8" || got.Get("X-Powered-By") != "" || got.Get("X-Frame-Options") != "" {
					t.Errorf("%s to %s: the client got %v behind the content", front, backend, got)
				}
				if early.Get("X-Powered-By") != "" || early.Get("X-Frame-Options") != "" || early.Get("Link") == "" && front != "h3" {
					t.Errorf("%s to %s: the client got %v before the response", front, backend, early)
				}
				if got := response.Header; got.Get("X-Powered-By") != "" || got.Get("X-Frame-Options") != "DENY" {
					t.Errorf("%s to %s: %v", front, backend, got)
				}
			}
		}
	}
}

// A Location that a rule makes leads to no host that a client chooses.
func TestARulesLocationLeadsToNoOtherHost(t *testing.T) {
	e := startFile(t, `
sites:
  - hosts: [localhost]
    headers: {response: {set: {Location: "{uri}"}}}
    routes: [{respond: {status: 302}}, {path: /there, headers: {response: {set: {Location: "https://there.test{path}"}}}, respond: {status: 302}}]
`)
	for target, want := range map[string]string{`//evil.example/`: "/evil.example/", `/\evil.example`: "/evil.example", "/a?b": "/a?b", `/there\@evil`: "/there%5C@evil", "/there/x": "https://there.test/there/x"} {
		if answer := e.say(t, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(answer, "\r\nLocation: "+want+"\r\n") {
			t.Errorf("%s: %q", target, answer)
		}
	}
}
