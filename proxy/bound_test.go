package proxy_test

//lint:file-ignore SA1019 the server under test speaks x/net/http2 too.

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"padlock/config"
	"padlock/internal/servicetest"
)

// authenticate proves to a target that padlock's client is a user, in two requests on one connection.
func authenticate(t *testing.T, client *http.Client, scheme, user string) {
	t.Helper()
	first, second := servicetest.NTLMTokens(user)
	response, _ := fetch(t, client, "GET", "https://localhost/", "Authorization", scheme+" "+first)
	if response.StatusCode != 401 || !strings.HasPrefix(response.Header.Get("WWW-Authenticate"), scheme+" ") {
		t.Fatalf("%s: the first step: %s %v", user, response.Status, response.Header)
	}
	if response, got := fetch(t, client, "GET", "https://localhost/", "Authorization", scheme+" "+second); response.StatusCode != 200 || got != user+"\n" {
		t.Fatalf("%s: the second step: %s %s", user, response.Status, got)
	}
}

// A connection to a target that a client has authenticated is that client's alone, from the first step on and until either side ends it.
// Nobody else's request goes out on it, whatever protocol it comes by and however the client's connection ends.
func TestAnAuthenticatedConnectionServesNobodyElse(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"NTLM", "Negotiate"} {
		one, two := servicetest.StartNTLM(t, scheme), servicetest.StartNTLM(t, scheme)
		e := startFile(t, `
sites: [{hosts: [localhost], routes: [{to: [%q, %q]}]}]
`, one.URL, two.URL)
		strangers := e.everyClient(t)
		nobody := func(when string) {
			t.Helper()
			for name, stranger := range strangers {
				for range 4 { // at both targets, and on every connection that is kept
					if response, got := fetch(t, stranger, "GET", "https://localhost/"); response.StatusCode != 401 {
						t.Fatalf("%s: %s: a client without credentials over %s: %s %s", scheme, when, name, response.Status, got)
					}
				}
			}
		}
		nobody("before")

		users := map[string]*http.Client{}
		for _, user := range []string{"alice", "bob", "carol"} {
			users[user] = e.clients(t)["h1"]
			authenticate(t, users[user], scheme, user)
			nobody("after " + user)
		}
		for range 6 { // a proxy that balances without regard to whose connection it is would choose the other target
			for user, client := range users {
				response, got := fetch(t, client, "GET", "https://localhost/")
				if response.StatusCode != 200 || got != user+"\n" {
					t.Fatalf("%s: a later request of %s: %s %s", scheme, user, response.Status, got)
				}
			}
		}
		nobody("while they are idle")
		for _, client := range users {
			client.CloseIdleConnections()
		}
		for began := time.Now(); len(one.Users())+len(two.Users()) > 0; time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatalf("%s: %v and %v stay authenticated after their clients have gone", scheme, one.Users(), two.Users())
			}
		}
		nobody("after they have gone")
	}
}

// Streams of HTTP/2 and 3 share a connection, so a client whose credentials authenticate one is sent back to HTTP/1.1. Credentials that stand
// for themselves, as Kerberos' ticket, are forwarded on a connection that is used once.
func TestHTTP2And3FallBackWhereAConnectionIsAuthenticated(t *testing.T) {
	t.Parallel()
	target := servicetest.StartNTLM(t, "Negotiate")
	e := start(t, target.URL, nil)
	fellBack := map[string]func(error) bool{
		"h2": func(err error) bool {
			var reset http2.StreamError
			return errors.As(err, &reset) && reset.Code == http2.ErrCodeHTTP11Required
		},
		"h3": func(err error) bool {
			var reset *http3.Error
			return errors.As(err, &reset) && reset.ErrorCode == http3.ErrCodeVersionFallback
		},
	}
	first, second := servicetest.NTLMTokens("alice")
	clients := e.everyClient(t)
	for name, is := range fellBack {
		for _, credentials := range []string{"NTLM " + first, "Negotiate " + second, "negotiate  " + first} {
			request, _ := http.NewRequest("GET", "https://localhost/", nil)
			request.Header.Set("Authorization", credentials)
			if response, err := clients[name].Do(request); !is(err) {
				t.Errorf("%s: %.20s…: %v, %v", name, credentials, response, err)
			}
		}
		if response, _ := fetch(t, clients[name], "GET", "https://localhost/", "Authorization", "Negotiate YIIabc"); response.StatusCode != 401 {
			t.Errorf("%s: a ticket: %s", name, response.Status)
		}
	}
	soonIn(t, e, "authenticate a connection")
	if users := target.Users(); len(users) > 0 {
		t.Errorf("the target has authenticated %v", users)
	}
}

// A challenge of such a scheme tells the client not to come by HTTP/3 again.
func TestAChallengeToAConnectionTakesHTTP3Back(t *testing.T) {
	t.Parallel()
	e := start(t, servicetest.StartNTLM(t, "NTLM").URL, func(c *config.Config) { c.Listen.AltSvc = "always" })
	client := e.clients(t)["h1"]
	if response, _ := fetch(t, client, "GET", "https://localhost/"); response.StatusCode != 401 || response.Header.Get("Alt-Svc") != "clear" {
		t.Errorf("%s, Alt-Svc %q", response.Status, response.Header.Get("Alt-Svc"))
	}
	authenticate(t, client, "NTLM", "alice")
	if response, _ := fetch(t, client, "GET", "https://localhost/"); response.StatusCode != 200 || response.Header.Get("Alt-Svc") != "clear" {
		t.Errorf("authenticated: %s, Alt-Svc %q", response.Status, response.Header.Get("Alt-Svc"))
	}
}

// A trusted proxy may send requests of several clients on one connection, so what one of them authenticates serves none of them again.
func TestATrustedProxysConnectionIsNoClients(t *testing.T) {
	t.Parallel()
	e := start(t, servicetest.StartNTLM(t, "NTLM").URL, func(c *config.Config) {
		c.Trusted = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	})
	client := e.clients(t)["h1"]
	first, second := servicetest.NTLMTokens("alice")
	for _, token := range []string{first, second} {
		response, got := fetch(t, client, "GET", "https://localhost/", "Authorization", "NTLM "+token, "X-Forwarded-For", "192.0.2.1")
		if response.StatusCode != 401 {
			t.Errorf("%s %s", response.Status, got)
		}
	}
	if response, got := fetch(t, client, "GET", "https://localhost/", "X-Forwarded-For", "192.0.2.2"); response.StatusCode != 401 {
		t.Errorf("another client of the proxy: %s %s", response.Status, got)
	}
	soonIn(t, e, "trusted_proxies")
}
