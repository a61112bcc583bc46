package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"padlock/config"
)

// What is open when a reload changes who may come is judged by the new rules: tunnels are closed that would be refused now, and an event
// stream before its next event. What would still be let in stays.
func TestWhatIsOpenIsJudgedByTheNewRules(t *testing.T) {
	t.Parallel()
	hash := func(password string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	secret, other := hash("secret"), hash("other")
	ca := newAuthority(t)
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			socketEcho(w, r)
			return
		}
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	echo := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	// Of the site, of its route, and of the service.
	text := func(site, route, service string) string {
		return fmt.Sprintf(`
sites:
  - {hosts: [localhost], %s routes: [{to: %q, %s headers: {request: {set: {X-A: b}}}}]}
  - {hosts: [tcp.test], %s tcp: {to: %q, alpn: [echo]}}
`, site, app, route, service, echo)
	}
	const ada = `basic_auth: {users: {ada: %q}},`
	asks := fmt.Sprintf(`tls: {client_auth: {mode: require, ca: %s}},`, ca.file)
	for _, c := range []struct {
		what                        string
		before, site, route, served string
		stays, tcpStays             bool
	}{
		{what: "nothing that matters", site: "hsts: {max_age: 1h},", stays: true, tcpStays: true},
		{what: "who may come still may", site: "deny: [192.0.2.0/24], allow: [127.0.0.0/8],", served: "allow: [127.0.0.1],", stays: true, tcpStays: true},
		{what: "the site denies", site: "deny: [127.0.0.1],", tcpStays: true},
		{what: "the route denies", route: "deny: [127.0.0.0/8],", tcpStays: true},
		{what: "the site allows others", site: "allow: [192.0.2.0/24],", tcpStays: true},
		{what: "the site asks for a password", site: fmt.Sprintf(ada, secret), tcpStays: true},
		{what: "the route asks for a password", route: fmt.Sprintf(ada, secret), tcpStays: true},
		{what: "the site asks for a certificate", site: asks, tcpStays: true},
		{what: "the route is for other methods", route: "methods: [POST],", tcpStays: true},
		{what: "the same password", before: fmt.Sprintf(ada, secret), site: fmt.Sprintf(ada, secret), stays: true, tcpStays: true},
		{what: "another password", before: fmt.Sprintf(ada, secret), site: fmt.Sprintf(ada, other), tcpStays: true},
		{what: "another user", before: fmt.Sprintf(ada, secret), site: fmt.Sprintf("basic_auth: {users: {bob: %q}},", secret), tcpStays: true},
		{what: "the service denies", served: "deny: [127.0.0.1],", stays: true},
		{what: "the service asks for a certificate", served: asks, stays: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			e := startFile(t, "%s", text(c.before, "", ""))
			credentials := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ada:secret")) + "\r\n"
			socket := e.one(t, strings.TrimSuffix(upgradeHead, "\r\n")+credentials+"\r\n")
			reader := bufio.NewReader(socket)
			if response, err := http.ReadResponse(reader, nil); err != nil || response.StatusCode != 101 {
				t.Fatalf("%+v, %v", response, err)
			}
			service, err := tls.Dial("tcp", e.address, &tls.Config{RootCAs: e.roots, ServerName: "tcp.test", NextProtos: []string{"echo"}})
			if err != nil {
				t.Fatal(err)
			}
			defer service.Close()
			events := map[string]io.Reader{}
			for name, client := range e.clients(t) {
				request, _ := http.NewRequest("GET", "https://localhost/events", nil)
				request.SetBasicAuth("ada", "secret")
				response, err := client.Do(request)
				if err != nil || response.StatusCode != 200 {
					t.Fatal(name, response, err)
				}
				defer response.Body.Close()
				events[name] = response.Body
			}
			echoes := func(w io.Writer, r io.Reader) bool {
				if _, err := io.WriteString(w, "x"); err != nil {
					return false
				}
				_, err := io.ReadFull(r, make([]byte, 1))
				return err == nil
			}
			_ = socket.SetDeadline(time.Now().Add(20 * time.Second))
			_ = service.SetDeadline(time.Now().Add(20 * time.Second))
			if !echoes(socket, reader) || !echoes(service, service) {
				t.Fatal("nothing comes back before the reload")
			}

			parsed, err := config.Parse("padlock.yaml", []byte(text(c.site, c.route, c.served)))
			if err != nil {
				t.Fatal(err)
			}
			changed := *e.config
			changed.Sites = parsed.Sites
			if err := e.server.Reload(&changed, nil); err != nil {
				t.Fatal(err)
			}

			if got := echoes(service, service); got != c.tcpStays {
				t.Errorf("the connection of TCP is open: %v", got)
			}
			if c.stays {
				if !echoes(socket, reader) {
					t.Error("the WebSocket has ended")
				}
				for name, r := range events {
					if _, err := io.ReadFull(r, make([]byte, 30)); err != nil {
						t.Errorf("%s: the event stream has ended: %v", name, err)
					}
				}
				return
			}
			gone(t, socket)
			for name, r := range events {
				over := make(chan struct{})
				go func() { _, _ = io.Copy(io.Discard, r); close(over) }()
				select {
				case <-over:
				case <-time.After(20 * time.Second):
					t.Errorf("%s: the event stream is open", name)
				}
			}
		})
	}
}

// A site that is there no more has no tunnels, whereas requests are finished.
func TestTunnelsOfASiteThatIsGoneEnd(t *testing.T) {
	t.Parallel()
	target := backend(t, socketEchoOnly)
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q}]}, {hosts: [other.test], routes: [{to: %q}]}]", target, target)
	socket := e.one(t, upgradeHead)
	if response, err := http.ReadResponse(bufio.NewReader(socket), nil); err != nil || response.StatusCode != 101 {
		t.Fatalf("%+v, %v", response, err)
	}
	changed := *e.config
	changed.Sites = changed.Sites[1:]
	if err := e.server.Reload(&changed, nil); err != nil {
		t.Fatal(err)
	}
	gone(t, socket)
	soonIn(t, e, "lets this client in no more")
}

func socketEchoOnly(w http.ResponseWriter, r *http.Request) { socketEcho(w, r) }
