package proxy_test

//lint:file-ignore SA1019 the server under test speaks x/net/http2 too.

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/config"
)

// authority signs client certificates; its own stands in file.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "clients.pem")}
	a.replace(t)
	return a
}

// replace gives the authority another key, and its file another content.
func (a *authority) replace(t *testing.T) {
	t.Helper()
	a.cert, a.key = nil, nil
	root := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	made := ofPair(t, root)
	a.cert, a.key = made.cert, made.key
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ofPair(t *testing.T, pair tls.Certificate) *authority {
	t.Helper()
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: pair.PrivateKey.(*ecdsa.PrivateKey)}
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client signs a certificate for a client of this serial number.
func (a *authority) client(t *testing.T, serial int64, name pkix.Name, dnsNames ...string) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: name, DNSNames: dnsNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// clientCA signs a client certificate and writes the CA's own to a file.
func clientCA(t *testing.T) (caFile string, client tls.Certificate) {
	t.Helper()
	a := newAuthority(t)
	return a.file, a.client(t, 2, pkix.Name{CommonName: "alice"})
}

// ask makes one handshake for sni, asks for host, and tells the status; 0 if the connection failed.
func (e *edge) ask(t *testing.T, config *tls.Config, sni, host string) (status int, resumed bool) {
	t.Helper()
	config.ServerName = sni
	conn, err := tls.Dial("tcp", e.address, config)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	request, _ := http.NewRequest("GET", "https://"+host+"/", nil)
	transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, false
	}
	_, _ = io.Copy(io.Discard, response.Body) // and with it the session tickets
	response.Body.Close()
	return response.StatusCode, conn.ConnectionState().DidResume
}

// A site that requires client certificates is reached with one only: not without, not over a connection made for another
// site, and not by a ticket from elsewhere.
func TestASiteWithClientCertificatesIsReachedWithOneOnly(t *testing.T) {
	caFile, certificate := clientCA(t)
	_, stranger := clientCA(t)
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {}), func(c *config.Config) {
		c.Sites = append(c.Sites, config.Site{Hosts: []string{"secret.test"}, Routes: c.Sites[0].Routes, TLS: config.SiteTLS{ClientAuth: &config.ClientAuth{Mode: "require", CA: caFile}}})
	})
	for version := uint16(tls.VersionTLS12); version <= tls.VersionTLS13; version++ {
		base := &tls.Config{RootCAs: e.roots, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
		with := func(c ...tls.Certificate) *tls.Config { b := base.Clone(); b.Certificates = c; return b }
		for _, c := range []struct {
			what      string
			config    *tls.Config
			sni, host string
			want      int
		}{
			{"open site", with(), "localhost", "localhost", 200},
			{"no certificate", with(), "secret.test", "secret.test", 0},
			{"a stranger's certificate", with(stranger), "secret.test", "secret.test", 0},
			{"a good certificate", with(certificate), "secret.test", "secret.test", 200},
			{"fronted by the open site", with(certificate), "localhost", "secret.test", 421},
			{"the open site from the secret one", with(certificate), "secret.test", "localhost", 421},
		} {
			if got, _ := e.ask(t, c.config, c.sni, c.host); got != c.want {
				t.Errorf("TLS %x, %s: %d, not %d", version, c.what, got, c.want)
			}
		}
		if _, resumed := e.ask(t, with(), "localhost", "localhost"); !resumed {
			t.Errorf("TLS %x: the open site does not resume", version)
		}
		if _, resumed := e.ask(t, with(certificate), "secret.test", "secret.test"); resumed {
			t.Errorf("TLS %x: a ticket stood in for a certificate", version)
		}
		// A ticket of the open site, shown under the secret site's name.
		moved := with()
		moved.ClientSessionCache = anyName{base.ClientSessionCache}
		if got, _ := e.ask(t, moved, "secret.test", "secret.test"); got != 0 {
			t.Errorf("TLS %x: a ticket from elsewhere opened the secret site: %d", version, got)
		}
	}
}

// Whoever is refused learns why: our alert arrives, although the client's bytes are still on their way.
func TestOurAlertArrivesEveryTime(t *testing.T) {
	caFile, _ := clientCA(t)
	_, stranger := clientCA(t)
	e := start(t, "127.0.0.1:1", func(c *config.Config) {
		c.Timeouts.Handshake = time.Minute // however slow the machine is
		c.Sites[0].TLS.ClientAuth = &config.ClientAuth{Mode: "require", CA: caFile}
	})
	for range 30 {
		config := e.tls()
		config.Certificates = []tls.Certificate{stranger}
		conn, err := tls.Dial("tcp", e.address, config)
		if err == nil {
			_, _ = conn.Write(make([]byte, 30_000))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "remote error: tls:") {
			t.Fatalf("the client saw %v", err)
		}
	}
}

// anyName offers localhost's session whatever the server.
type anyName struct{ tls.ClientSessionCache }

func (a anyName) Get(string) (*tls.ClientSessionState, bool) {
	return a.ClientSessionCache.Get("localhost")
}

// A requested certificate may be left out, but a bad one is refused.
func TestARequestedClientCertificateIsVerifiedIfGiven(t *testing.T) {
	caFile, certificate := clientCA(t)
	_, stranger := clientCA(t)
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {}), func(c *config.Config) {
		c.Sites[0].TLS.ClientAuth = &config.ClientAuth{Mode: "optional-verify", CA: caFile}
	})
	for want, certificates := range map[int][][]tls.Certificate{200: {nil, {certificate}}, 0: {{stranger}}} {
		for _, c := range certificates {
			if got, _ := e.ask(t, &tls.Config{RootCAs: e.roots, Certificates: c}, "localhost", "localhost"); got != want {
				t.Errorf("%d certificates: %d, not %d", len(c), got, want)
			}
		}
	}
}

func TestHTTPSTargetsAreVerifiedUnlessToldOtherwise(t *testing.T) {
	app := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	defer app.Close()
	bundle := filepath.Join(t.TempDir(), "app.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: app.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*config.Route)
		want   int
	}{
		{func(*config.Route) {}, 502},
		{func(r *config.Route) { r.CA = bundle }, 200},
		{func(r *config.Route) { r.Insecure = true }, 200},
	} {
		e := start(t, app.URL, func(cfg *config.Config) { c.change(&cfg.Sites[0].Routes[0]) })
		response, err := e.clients(t)["h1"].Get("https://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != c.want || c.want == 502 && !strings.Contains(string(body), "unknown authority") {
			t.Errorf("%d, not %d: %s", response.StatusCode, c.want, body)
		}
	}
}

func TestAUnixSocketIsATarget(t *testing.T) {
	dir, err := os.MkdirTemp("", "padlock") // t.TempDir may be longer than a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "app")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })}
	go app.Serve(l)
	defer app.Close()
	e := start(t, "unix:"+socket, nil)
	for name, client := range e.clients(t) {
		response, err := client.Get("https://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(response.Body); string(body) != "localhost" {
			t.Errorf("%s: the app saw the host %q", name, body)
		}
	}
}

// Each request is one JSON line whose text cannot break out of it, and Forwarded is sent where it is asked for.
func TestTheAccessLogIsOneJSONLineARequest(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Forwarded"))
	}), func(c *config.Config) { c.Sites[0].Routes[0].Forwarded = true })
	request, _ := http.NewRequest("POST", "https://localhost/a?b=%0a", strings.NewReader("four"))
	request.Header.Set("User-Agent", "\u202e\"}")
	response, err := e.clients(t)["h1"].Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	if want := `for=127.0.0.1;host="localhost";proto=https`; string(body) != want {
		t.Errorf("Forwarded: %s", body)
	}
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	var line struct {
		Host, Method, Target, Proto, Remote, Upstream string
		UserAgent                                     string `json:"user_agent"`
		Status, BytesIn                               int
		BytesOut                                      int     `json:"bytes_out"`
		Duration                                      float64 `json:"duration_ms"`
	}
	if err := json.Unmarshal([]byte(e.access.String()), &line); err != nil {
		t.Fatalf("%v in %q", err, e.access.String())
	}
	if line.Host != "localhost" || line.Method != "POST" || line.Target != "/a?b=%0a" || line.Status != 200 || line.BytesOut != len(body) || line.Duration <= 0 || line.Upstream == "" {
		t.Errorf("%+v", line)
	}
}

// A target learns of the handshake where it is asked for, and from padlock alone.
func TestATargetIsToldOfTheHandshake(t *testing.T) {
	t.Run("recorded", func(t *testing.T) { aTargetIsToldOfTheHandshake(t, "all", `[1-9]\d*`) })
	t.Run("not recorded", func(t *testing.T) { aTargetIsToldOfTheHandshake(t, "off", "0") })
}

func aTargetIsToldOfTheHandshake(t *testing.T, show, id string) {
	caFile, certificate := clientCA(t)
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header["Padlock-Handshake"], "|"))
	}), func(c *config.Config) {
		c.Handshakes.Show = show
		c.Sites[0].Routes[0].Handshake = true
		c.Sites[0].TLS.ClientAuth = &config.ClientAuth{Mode: "optional-verify", CA: caFile}
	})
	for name, client := range e.clients(t) {
		switch transport := client.Transport.(type) {
		case *http.Transport:
			transport.TLSClientConfig.Certificates = []tls.Certificate{certificate}
		case *http2.Transport:
			transport.TLSClientConfig.Certificates = []tls.Certificate{certificate}
		}
		request, _ := http.NewRequest("GET", "https://localhost/", nil)
		request.Header.Set("Padlock-Handshake", "id=666")
		request.Header.Set("Padlock_handshake", "id=666")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		want := regexp.MustCompile(`^id=` + id + `, version="TLS 1.3", cipher="TLS_AES_128_GCM_SHA256", group="X25519MLKEM768", ja4="t13d[0-9a-z]+_[0-9a-f]{12}_[0-9a-f]{12}", client="CN=alice"$`)
		if !want.Match(body) {
			t.Errorf("%s: the target was told %q", name, body)
		}
	}
}

// A graceful end lets the open request finish, and takes no new connection meanwhile.
func TestAnOpenRequestFinishesDuringShutdown(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "finished")
	}), nil)
	for _, client := range e.clients(t) {
		got := make(chan string, 2)
		go func() {
			response, err := client.Get("https://localhost/")
			if err != nil {
				got <- err.Error()
				return
			}
			body, _ := io.ReadAll(response.Body)
			got <- string(body)
		}()
		<-arrived
		defer func() {
			if body := <-got; body != "finished" {
				t.Errorf("the open request got %q", body)
			}
		}()
	}
	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	untilRefused(t, e.address)
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A WebSocket has no end that could be waited for: at a graceful end its client is told, between two frames, and has the shutdown
// timeout to go.
func TestAWebSocketIsToldOfTheEnd(t *testing.T) {
	t.Parallel()
	for _, obeys := range []bool{true, false} {
		endWithWebSocket(t, obeys)
	}
}

func endWithWebSocket(t *testing.T, obeys bool) {
	limit := 3 * time.Second
	if obeys {
		limit = time.Minute
	}
	ending := make(chan struct{})
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x04half")
		_, _ = conn.Write([]byte{0x81, 5, 'w', 'h'}) // a frame that is open
		<-ending
		_, _ = conn.Write([]byte("ole\x81\x04more"))
		_, _ = io.Copy(io.Discard, conn)
	}), func(c *config.Config) { c.Timeouts.Shutdown = limit })
	conn, err := tls.Dial("tcp", e.address, e.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(conn)
	if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != 101 {
		t.Fatal(response, err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	untilRefused(t, e.address)
	close(ending)
	told := make([]byte, 3, 13)
	_, err = io.ReadFull(r, told)
	for frame := []byte{0}; err == nil && frame[0] != 0x88; { // what the target sends first, if it does, comes whole
		frame = make([]byte, 2)
		if _, err = io.ReadFull(r, frame); err == nil {
			frame = append(frame, make([]byte, frame[1])...)
			_, err = io.ReadFull(r, frame[2:])
		}
		told = append(told, frame...)
	}
	if text := string(told); err != nil || text != "ole\x88\x02\x03\xe9" && text != "ole\x81\x04more\x88\x02\x03\xe9" {
		t.Errorf("the client was told %q, %v", told, err)
	}
	if obeys {
		conn.Close()
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); obeys && took > limit || took > limit+5*time.Second || !obeys && took < limit {
		t.Errorf("the end took %v", took)
	}
}

// A client that has nothing more to say (close_notify) still gets its answer; one that is gone ends the backend's request.
func TestAHalfClosedClientGetsItsAnswer(t *testing.T) {
	cancelled := make(chan bool, 2)
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			cancelled <- true
		case <-time.After(300 * time.Millisecond):
			cancelled <- false
			_, _ = io.WriteString(w, "answer")
		}
	}), nil)
	for _, gone := range []bool{false, true} {
		conn, err := tls.Dial("tcp", e.address, e.tls())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		time.Sleep(50 * time.Millisecond)
		if gone {
			conn.Close()
		} else {
			_ = conn.CloseWrite()
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(response.Body); string(body) != "answer" {
				t.Errorf("%q", body)
			}
			conn.Close()
		}
		if was := <-cancelled; was != gone {
			t.Errorf("gone %v: the backend's request was cancelled: %v", gone, was)
		}
	}
}

func TestThePlainPortRedirectsToTheNamesThatAreServed(t *testing.T) {
	e := start(t, "127.0.0.1:1", nil)
	_, port, _ := net.SplitHostPort(e.address)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for host, want := range map[string]string{"localhost": "https://localhost:" + port + "/a?b", "evil.example": ""} {
		request, _ := http.NewRequest("GET", "http://"+e.plain+"/a?b", nil)
		request.Host = host
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Header.Get("Location"); got != want || want != "" && response.StatusCode != 308 {
			t.Errorf("%s: %d %q", host, response.StatusCode, got)
		}
	}
}
