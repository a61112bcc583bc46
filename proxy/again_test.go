package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// What is open when a reload changes who may come is judged by the new rules: tunnels and event streams are closed that would be refused now.
// What would still be let in stays.
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

			e.reload(t, sitesOf(t, text(c.site, c.route, c.served)))

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

// A request is judged as well while nothing comes or goes: an event stream without an event, an answer that is long in coming, and content that
// the client still sends, before its answer and beside it. It ends on both sides, over every protocol. Content that padlock collects first
// never reaches the target.
func TestRequestsThatWaitAreJudgedByTheNewRules(t *testing.T) {
	t.Parallel()
	paths := []string{"/events", "/late", "/upload", "/both"}
	begun, ended := make(chan string, 100), make(chan string, 100)
	app := func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		begun <- r.URL.Path
		if r.URL.Path == "/events" || r.URL.Path == "/both" {
			_, _ = io.WriteString(w, "x")
			_ = control.Flush()
		}
		if r.Method == "POST" {
			_, _ = io.Copy(io.Discard, r.Body)
		} else {
			<-r.Context().Done()
		}
		ended <- r.URL.Path
	}
	for name, target := range map[string]string{"http": backend(t, app), "h2c": h2cBackend(t, app)} {
		text := func(rule string) string {
			return fmt.Sprintf("sites: [{hosts: [localhost], %s routes: [{to: %q}, {path: /kept, to: %[2]q, buffer: {request: 64KiB}}]}]", rule, target)
		}
		e := startFile(t, "%s", text(""))
		clients := e.clients(t)
		clients["h3"] = e.three(t, nil)
		answered := make(chan string, 100)
		var contents []io.Closer
		for front, client := range clients {
			for _, path := range append(paths, "/kept") {
				request, _ := http.NewRequestWithContext(t.Context(), "GET", "https://localhost"+path, nil)
				if path != "/events" && path != "/late" {
					r, w := io.Pipe()
					contents = append(contents, w)
					request, _ = http.NewRequestWithContext(t.Context(), "POST", "https://localhost"+path, r)
					go func() { _, _ = io.WriteString(w, "x") }()
				}
				go func() {
					defer func() { answered <- path }()
					response, err := client.Do(request)
					if err != nil {
						return
					}
					defer response.Body.Close()
					content, err := io.ReadAll(response.Body)
					if path == "/kept" && response.StatusCode == 403 { // nobody waits until padlock has got its head, so that it may come after the reload
						return
					}
					if err == nil {
						t.Errorf("%s to %s: %s is answered: %s %s", front, name, path, response.Status, content)
					}
				}()
			}
		}
		each(t, "the target has not got all requests", begun, len(clients), paths)

		e.reload(t, sitesOf(t, text("deny: [127.0.0.1],")))

		each(t, "the target has not heard of the end of all", ended, len(clients), paths)
		for _, w := range contents { // Go's client of HTTP/1.1 waits for the end of what it sends before it reports an error
			w.Close()
		}
		each(t, "clients have not heard of the end of all", answered, len(clients), append(paths, "/kept"))
		if len(begun) > 0 {
			t.Errorf("%s: the target has got %s", name, <-begun)
		}
		soonIn(t, e, "lets this client in no more")
	}
}

// each waits until every path has come a number of times.
func each(t *testing.T, otherwise string, came <-chan string, times int, paths []string) {
	t.Helper()
	missing := map[string]int{}
	for _, path := range paths {
		missing[path] = times
	}
	late := time.After(20 * time.Second)
	for range times * len(paths) {
		select {
		case path := <-came:
			missing[path]--
		case <-late:
			t.Fatalf("%s: these are missing: %v", otherwise, missing)
		}
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
	e.reload(t, e.config.Sites[1:])
	gone(t, socket)
	soonIn(t, e, "lets this client in no more")
}

func socketEchoOnly(w http.ResponseWriter, r *http.Request) { socketEcho(w, r) }

// A download of a file is judged by the new rules as what comes from a target is: whoever may not have the file any more gets no more of it.
func TestADownloadOfAFileIsJudgedByTheNewRules(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	const size = 24 << 20 // more than lies between padlock and a client that does not read
	dir := folder(t, map[string]string{"large": ""})
	if err := os.Truncate(filepath.Join(dir, "large"), size); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, rule string
		stays      bool
	}{
		{"the route denies", "deny: [127.0.0.0/8],", false},
		{"the route asks for a password", fmt.Sprintf("basic_auth: {users: {ada: %q}},", hash), false},
		{"who may come still may", "allow: [127.0.0.0/8],", true},
	} {
		text := func(rule string) string {
			return fmt.Sprintf(`sites: [{hosts: [localhost], routes: [{path: /d, strip_prefix: true, %s files: {root: %q}}]}]`, rule, dir)
		}
		e := startFile(t, "%s", text(""))
		downloads := map[string]*http.Response{}
		for name, client := range e.everyClient(t) {
			response, err := client.Get("https://localhost/d/large")
			if err != nil || response.StatusCode != 200 {
				t.Fatal(name, response, err)
			}
			defer response.Body.Close()
			downloads[name] = response
		}
		e.reload(t, sitesOf(t, text(c.rule)))
		for name, response := range downloads {
			n, err := io.Copy(io.Discard, response.Body)
			if whole := err == nil && n == size; whole != c.stays {
				t.Errorf("%s: %s: %d of %d bytes came, %v", c.what, name, n, size, err)
			}
		}
	}
}

// Whoever has drawn no number when a reload brings a route for a share of the clients is not one of them: what is open stays open, and
// not by chance.
func TestAReloadDrawsNoNumberForWhatIsOpen(t *testing.T) {
	t.Parallel()
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{to: %q}]}]`, app)
	client := e.everyClient(t)["h2"]
	var streams []io.Reader
	for range 20 {
		response, err := client.Get("https://localhost/")
		if err != nil || response.StatusCode != 200 {
			t.Fatal(response, err)
		}
		defer response.Body.Close()
		streams = append(streams, response.Body)
	}
	e.reload(t, sitesOf(t, fmt.Sprintf(`sites: [{hosts: [localhost], routes: [{percent: 50, deny: [127.0.0.0/8], to: %q}, {to: %[1]q}]}]`, app)))
	for i, r := range streams {
		if _, err := io.ReadFull(r, make([]byte, 30)); err != nil {
			t.Errorf("stream %d has ended: %v", i, err)
		}
	}
}

// A request that waits in line for a target is judged when its turn comes, by the rules that hold then: it goes to no target whose site or
// route is gone by then, or in maintenance.
func TestARequestInLineIsJudgedWhenItsTurnComes(t *testing.T) {
	t.Parallel()
	const line = `circuit: {requests: 1, pending: 1, wait: 30s}`
	for _, c := range []struct {
		what, after string
		status      int // 0: the connection, or the stream, ends
		says        string
	}{
		{"nothing that matters", `{hosts: [localhost], hsts: {max_age: 1h}, routes: [{to: %q, ` + line + `}]}`, 200, "app"},
		{"the site is gone", `{hosts: [other.test], routes: [{to: %q}]}`, 421, "does not serve the host"},
		{"the route is gone", `{hosts: [localhost], routes: [{path: /other, to: %q}]}`, 503, "has changed in the meantime"},
		{"the route leads elsewhere", `{hosts: [localhost], routes: [{redirect: {to: "https://else.test/"}}, {path: /x, to: %q}]}`, 503, "has changed in the meantime"},
		{"maintenance", `{hosts: [localhost], maintenance: {on: true, message: "Back at six"}, routes: [{to: %q, ` + line + `}]}`, 503, "Back at six"},
		{"others may come", `{hosts: [localhost], allow: [192.0.2.0/24], routes: [{to: %q, ` + line + `}]}`, 0, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			for _, front := range []string{"h1", "h2", "h3"} {
				var asked atomic.Int64
				begun, release := make(chan bool, 10), make(chan bool)
				app := backend(t, func(w http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					begun <- true
					select {
					case <-release:
					case <-r.Context().Done():
					}
					_, _ = io.WriteString(w, "app")
				})
				e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q, "+line+"}]}]", app)
				client := e.everyClient(t)[front]
				type answer struct {
					status int
					text   string
				}
				ask := func(to chan answer) {
					response, err := client.Get("https://localhost/")
					if err != nil {
						to <- answer{}
						return
					}
					defer response.Body.Close()
					text, _ := io.ReadAll(response.Body)
					to <- answer{response.StatusCode, string(text)}
				}
				first, others := make(chan answer, 1), make(chan answer, 2)
				go ask(first)
				<-begun
				go ask(others)
				go ask(others)
				// The line has room for one: when the other was refused, that one is in it.
				if got := <-others; got.status != 503 || !strings.Contains(got.text, "is busy") {
					t.Fatalf("%s: %v", front, got)
				}

				e.reload(t, sitesOf(t, "sites: ["+fmt.Sprintf(c.after, app)+"]"))
				close(release)

				got := <-others
				if got.status != c.status || !strings.Contains(got.text, c.says) {
					t.Errorf("%s: %d %s", front, got.status, got.text)
				}
				want := int64(1)
				if c.status == 200 {
					want = 2
				}
				if n := asked.Load(); n != want {
					t.Errorf("%s: the target has got %d requests", front, n)
				}
				<-first
			}
		})
	}
}
