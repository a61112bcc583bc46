package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/certs"
	"padlock/certs/localca"
	"padlock/config"
	"padlock/internal/servicetest"
	"padlock/proxy"
)

func (e *edge) three(t *testing.T, change func(*tls.Config)) *http.Client {
	t.Helper()
	c := e.tls()
	if change != nil {
		change(c)
	}
	transport := &http3.Transport{TLSClientConfig: c, Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, e.address, c, servicetest.Patient(q))
	}}
	t.Cleanup(func() { transport.Close() })
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

// HTTP/3 joins the others at the same handler: routes, fields, bodies both ways, trailers, and error pages.
func TestHTTP3IsServedAsTheOthersAre(t *testing.T) {
	e := startFile(t, `
listen: {alt_svc: always}
sites:
  - hosts: [localhost]
    routes:
      - {to: %q}
      - {path: /plain, respond: {body: "fixed"}}
      - {path: /gone, to: "127.0.0.1:1"}
`, backend(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Seen", fmt.Sprint(r.Method, " ", r.Host, " ", r.RequestURI, " ", r.Header.Get("X-Forwarded-For"), " ", r.Header.Get("X-Forwarded-Proto"), " ", r.ContentLength, " ", r.Header.Get("Cookie")))
		w.WriteHeader(201)
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n))
	}))
	client := e.three(t, nil)
	content := make([]byte, 2<<20)
	_, _ = rand.Read(content)
	request, _ := http.NewRequest("POST", "https://localhost/a%2Fb?x=1", bytes.NewReader(content))
	request.Header["X-Forwarded-For"] = []string{"6.6.6.6"}
	request.Header["Cookie"] = []string{"a=1", "b=2"}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Equal(body, content) || response.StatusCode != 201 || response.Proto != "HTTP/3.0" {
		t.Errorf("%s %s, %d bytes, %v", response.Proto, response.Status, len(body), err)
	}
	if want := fmt.Sprintf("POST localhost /a%%2Fb?x=1 127.0.0.1 https %d a=1; b=2", len(content)); response.Header.Get("X-Seen") != want {
		t.Errorf("the target saw %q, not %q", response.Header.Get("X-Seen"), want)
	}
	if response.Trailer.Get("X-Sum") != fmt.Sprint(len(content)) {
		t.Errorf("trailers %v", response.Trailer)
	}
	for path, want := range map[string]string{"/": "201 ", "/plain": "200 fixed", "/gone": "502 "} {
		got, text := fetch(t, client, "GET", "https://localhost"+path)
		if !strings.HasPrefix(fmt.Sprint(got.StatusCode, " ", text), want) || got.Header.Get("Alt-Svc") != "" {
			t.Errorf("%s: %s %s %v", path, got.Status, text, got.Header)
		}
	}
	if got, _ := fetch(t, client, "GET", "https://localhost/"); !strings.HasPrefix(got.Header.Get("X-Seen"), "GET localhost / 127.0.0.1 https 0") {
		t.Errorf("a GET without content: %q", got.Header.Get("X-Seen"))
	}
	_, port, _ := net.SplitHostPort(e.address)
	for name, other := range e.clients(t) {
		got, _ := fetch(t, other, "GET", "https://localhost/plain")
		if want := `h3=":` + port + `"; ma=86400`; got.Header.Get("Alt-Svc") != want {
			t.Errorf("%s: Alt-Svc %q", name, got.Header.Get("Alt-Svc"))
		}
	}
	soonIn(t, e, `"proto":"HTTP/3.0"`)
}

// Browsers take HTTP/3 from public CAs alone. So it is not announced with a certificate of the local CA, on resumed connections neither,
// unless the configuration wants it; with a certificate from a file it is, unless the configuration does not.
func TestHTTP3IsAnnouncedWhereBrowsersTakeIt(t *testing.T) {
	files := pairFiles(t, "listed.test")
	for setting, want := range map[string][2]bool{"auto": {false, true}, "always": {true, true}, "never": {false, false}} {
		e := startWith(t, "127.0.0.1:1", func(c *config.Config) {
			c.Listen.AltSvc = setting
			c.Sites = []config.Site{{Hosts: []string{"localhost", "127.0.0.1", "listed.test"}, Routes: []config.Route{{Respond: &config.Respond{Status: 200, Body: "fixed"}}}}}
		}, func(ca *localca.CA, deps *proxy.Dependencies) {
			deps.Certificates = certs.New(certs.Options{Local: ca, Files: files})
		})
		for i, name := range []string{"localhost", "listed.test"} {
			c := &tls.Config{InsecureSkipVerify: true, ServerName: name, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
			for _, front := range []string{"h1", "h2"} {
				for range 2 {
					response := e.get(t, front, c, name)
					if got := response.Header.Get("Alt-Svc") != ""; got != want[i] {
						t.Errorf("%s, %s over %s, resumed %v: Alt-Svc %q", setting, name, front, response.TLS.DidResume, response.Header.Get("Alt-Svc"))
					}
				}
			}
		}
		address := &tls.Config{InsecureSkipVerify: true}                                             // Go sends no server name for an address
		if got := e.get(t, "h1", address, "127.0.0.1").Header.Get("Alt-Svc") != ""; got != want[1] { // what is listed is what those who name nothing get
			t.Errorf("%s, an address: announced %v", setting, got)
		}
	}
}

// pairFiles is a listed certificate for a name.
func pairFiles(t *testing.T, name string) *certs.Files {
	t.Helper()
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Leaf(name)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pair.pem")
	content := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := certs.NewFiles([]config.CertificateFile{{Cert: file, Key: file}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// get makes a connection and asks for a host.
func (e *edge) get(t *testing.T, front string, c *tls.Config, host string) *http.Response {
	t.Helper()
	transport := &http.Transport{DialContext: e.dial, TLSClientConfig: c, ForceAttemptHTTP2: front == "h2"}
	defer transport.CloseIdleConnections()
	request, _ := http.NewRequest("GET", "https://"+host+"/", nil)
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response
}

// Many at once, some of which are given up, leave nothing behind that hinders the others.
func TestHTTP3RequestsRunSideBySide(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	}), nil)
	client := e.three(t, nil)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if i%4 == 0 {
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				request, _ := http.NewRequestWithContext(ctx, "GET", "https://localhost/slow", nil)
				if response, err := client.Do(request); err == nil {
					t.Errorf("a request that was given up: %s", response.Status)
				}
				return
			}
			sent := strings.Repeat(fmt.Sprint(i), 10_000)
			response, err := client.Post("https://localhost/", "text/plain", strings.NewReader(sent))
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			if got, err := io.ReadAll(response.Body); err != nil || string(got) != sent {
				t.Errorf("%d bytes of %d came back: %v", len(got), len(sent), err)
			}
		})
	}
	all.Wait()
}

// A connection by QUIC serves the hosts of its TLS policy and no others, and client certificates are asked for as by TCP.
func TestHTTP3KeepsToTheTLSPolicyOfItsName(t *testing.T) {
	caFile, certificate := clientCA(t)
	e := start(t, echoFields(t), func(c *config.Config) {
		secret := c.Sites[0]
		secret.Hosts, secret.TLS = []string{"secret.test"}, config.SiteTLS{ClientAuth: &config.ClientAuth{Mode: "require", CA: caFile}}
		c.Sites = append(c.Sites, secret)
	})
	ask := func(client *http.Client, host string) (int, string) {
		request, _ := http.NewRequest("GET", "https://localhost/", nil)
		request.Host = host
		response, err := client.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	open := e.three(t, nil)
	if got, _ := ask(open, "localhost"); got != 200 {
		t.Errorf("the open site: %d", got)
	}
	if got, _ := ask(open, "secret.test"); got != 421 {
		t.Errorf("the secret site over a connection of the open one: %d", got)
	}
	secret := e.three(t, func(c *tls.Config) { c.ServerName, c.Certificates = "secret.test", []tls.Certificate{certificate} })
	if got, body := ask(secret, "secret.test"); got != 200 || !strings.Contains(body, "X-Ssl-Client-Subject: CN=alice\r\n") {
		t.Errorf("the secret site: %d %s", got, body)
	}
	if got, _ := ask(secret, "localhost"); got != 421 {
		t.Errorf("the open site over a connection of the secret one: %d", got)
	}
	if got, text := ask(e.three(t, func(c *tls.Config) { c.ServerName = "secret.test" }), "secret.test"); got != 0 {
		t.Errorf("the secret site without a certificate: %d %s", got, text)
	}
}

// Tickets of one connection resume the next.
func TestHTTP3Resumes(t *testing.T) {
	e := start(t, echoFields(t), nil)
	sessions := tls.NewLRUClientSessionCache(4)
	for i := range 2 {
		client := e.three(t, func(c *tls.Config) { c.ClientSessionCache = sessions })
		response, _ := fetch(t, client, "GET", "https://localhost/")
		if response.TLS.DidResume != (i == 1) {
			t.Errorf("connection %d: resumed %v", i, response.TLS.DidResume)
		}
		time.Sleep(100 * time.Millisecond) // for the ticket
		client.CloseIdleConnections()
	}
}

// A target's Alt-Svc names ports of the target: it gets to no client, in the head, before it or behind the content, unless a rule keeps it.
func TestATargetsAltSvcIsDroppedUnlessARuleKeepsIt(t *testing.T) {
	const theirs = `h3=":8443"; ma=60`
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Alt-Svc", theirs)
		w.WriteHeader(http.StatusEarlyHints)
		if r.URL.Query().Has("none") {
			w.Header().Del("Alt-Svc")
		}
		_, _ = io.WriteString(w, "x")
	})
	for _, quic := range []bool{true, false} {
		e := startFile(t, `
listen: {http3: %[2]v, alt_svc: always}
sites:
  - hosts: [localhost]
    routes:
      - {to: %[1]q}
      - {path: /kept, to: %[1]q, headers: {response: {keep: [Alt-Svc]}}}
      - {path: /set, to: %[1]q, headers: {response: {set: {Alt-Svc: clear}}}}
`, app, quic)
		_, port, _ := net.SplitHostPort(e.address)
		clients := e.clients(t)
		if quic {
			clients["h3"] = e.three(t, nil)
		}
		for name, client := range clients {
			ours := ""
			if quic && name != "h3" {
				ours = `h3=":` + port + `"; ma=86400`
			}
			for path, want := range map[string][2]string{
				"/": {ours, ""}, "/kept": {theirs, theirs}, "/kept?none": {ours, theirs}, "/set": {"clear", ""},
			} {
				hint := ""
				request, _ := http.NewRequest("GET", "https://localhost"+path, nil)
				request = request.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
					hint = h.Get("Alt-Svc")
					return nil
				}}))
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if got := strings.Join(response.Header.Values("Alt-Svc"), "|"); got != want[0] {
					t.Errorf("%s %s: Alt-Svc %q, not %q", name, path, got, want[0])
				}
				if hint != want[1] {
					t.Errorf("%s %s: Alt-Svc %q in an interim response, not %q", name, path, hint, want[1])
				}
			}
		}
	}
}

// What a client may send before it is read is bounded over HTTP/3 as it is over HTTP/2, however fast its content was read before.
func TestAConnectionOfHTTP3HoldsLittleThatIsNotRead(t *testing.T) {
	t.Parallel()
	hold, held := make(chan struct{}), make(chan struct{})
	target := serveTCP(t, func(c *net.TCPConn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.URL.Path == "/hold" {
				close(held)
				<-hold
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q, circuit: {requests: 1, pending: 100, wait: 1m}}]}]", target)
	t.Cleanup(func() { close(hold) }) // before the others, which wait for the target
	conn := e.dialHTTP3(t)
	post := func(path string) *quic.Stream {
		stream, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetWriteDeadline(time.Now().Add(time.Minute))
		if path == "/wait" {
			_ = stream.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		}
		_, _ = stream.Write(frameHTTP3(nil, frameHeaders, fieldSection([]string{":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", path})))
		return stream
	}
	content := frameHTTP3(nil, frameData, make([]byte, 64<<10))

	fast := post("/fast")
	for range 512 {
		if _, err := fast.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	_ = fast.Close()
	if _, err := io.ReadAll(fast); err != nil {
		t.Fatal(err)
	}

	_ = post("/hold").Close()
	<-held
	sent := 0
	for range 8 {
		stream := post("/wait") // in line, so that nobody reads it
		for {
			n, err := stream.Write(content)
			if sent += n; err != nil {
				break
			}
		}
	}
	t.Logf("%d KiB were taken of 8 streams that nobody reads", sent>>10)
	if sent > 1<<20+8<<10 { // a connection's window goes on by the heads that were read
		t.Errorf("%d bytes were taken", sent)
	}
}
