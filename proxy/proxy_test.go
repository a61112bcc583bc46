package proxy_test

//lint:file-ignore SA1019 the server under test speaks x/net/http2 too.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/certs"
	"padlock/certs/localca"
	"padlock/config"
	"padlock/handshake"
	"padlock/proxy"
	"padlock/tracing"
)

// edge is a running proxy in front of a backend.
type edge struct {
	address, plain string // HTTPS, and HTTP that redirects
	roots          *x509.CertPool
	server         *proxy.Server
	access         lockedBuffer
	log            lockedBuffer
	tracer         *tracing.Tracer
	flush          func() // ends tracing, once
	config         *config.Config
	stop           func() error // ends Serve gracefully, once
}

func start(t *testing.T, target string, change func(*config.Config)) *edge {
	t.Helper()
	return startWith(t, target, change, nil)
}

// startWith also gives the proxy what depends on the local CA.
func startWith(t *testing.T, target string, change func(*config.Config), give func(*localca.CA, *proxy.Dependencies)) *edge {
	t.Helper()
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Storage, cfg.ErrorDetails = t.TempDir(), true
	to, err := config.ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Sites = []config.Site{{Hosts: []string{"localhost"}, Routes: []config.Route{{Upstream: config.Upstream{To: []config.Backend{{Target: to}}}}}}}
	if change != nil {
		change(cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	source := certs.New(certs.Options{Local: ca})
	e := &edge{roots: x509.NewCertPool(), config: cfg}
	e.roots.AddCert(ca.Root())
	var told handshake.Options
	if cfg.Tracing.Endpoint != "" {
		told.Privacy = privacy(cfg)
		e.tracer, e.flush = newTracer(t, cfg)
		told.Sinks = append(told.Sinks, e.tracer)
	}
	recorder := handshake.NewRecorder(told)
	t.Cleanup(recorder.Close)
	deps := proxy.Dependencies{Certificates: source, Recorder: recorder, Log: slog.New(slog.NewTextHandler(&e.log, nil)), AccessLog: &e.access, Tracer: e.tracer}
	if cfg.Handshakes.Show == "off" {
		deps.Recorder = nil // as the daemon has none then
	}
	if give != nil {
		give(ca, &deps)
	}
	server, err := proxy.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	e.server = server
	https, plain := listen(t), listen(t)
	e.address, e.plain = https.Addr().String(), plain.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(ctx, proxy.Listener{Listener: https}, proxy.Listener{Listener: plain, Plain: true})
	}()
	e.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := e.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return e
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// sitesOf are those of a configuration.
func sitesOf(t *testing.T, text string) []config.Site {
	t.Helper()
	parsed, err := config.Parse("padlock.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Sites
}

// reload gives the edge other sites.
func (e *edge) reload(t *testing.T, sites []config.Site) {
	t.Helper()
	changed := *e.config
	changed.Sites = sites
	if err := e.server.Reload(&changed, nil); err != nil {
		t.Fatal(err)
	}
}

func (e *edge) tls() *tls.Config { return &tls.Config{RootCAs: e.roots, ServerName: "localhost"} }

func (e *edge) dial(context.Context, string, string) (net.Conn, error) {
	return net.Dial("tcp", e.address)
}

// clients speak HTTP/1.1 and HTTP/2 to the edge.
func (e *edge) clients(t *testing.T) map[string]*http.Client {
	one := &http.Transport{DialContext: e.dial, TLSClientConfig: e.tls()}
	two := &http2.Transport{TLSClientConfig: e.tls(), DialTLSContext: func(ctx context.Context, _, _ string, c *tls.Config) (net.Conn, error) {
		d := tls.Dialer{Config: c}
		return d.DialContext(ctx, "tcp", e.address)
	}}
	t.Cleanup(func() { one.CloseIdleConnections(); two.CloseIdleConnections() })
	return map[string]*http.Client{"h1": {Transport: one}, "h2": {Transport: two}}
}

func backend(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestTheBackendLearnsTheClientFromUsAndKeepsHostAndTarget(t *testing.T) {
	seen := make(chan *http.Request, 1)
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) { seen <- r }), nil)
	for name, client := range e.clients(t) {
		request, _ := http.NewRequest("GET", "https://localhost/a%2Fb/../c;d?x=1;y=%zz", nil)
		request.URL.Opaque = "//localhost/a%2Fb/../c;d"
		for _, spoof := range []string{"X-Forwarded-For", "X_Forwarded_For", "X-Real-Ip", "Forwarded", "X-Forwarded-Proto"} {
			request.Header[spoof] = []string{"6.6.6.6"}
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		response.Body.Close()
		r := <-seen
		if r.Host != "localhost" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" || r.Header.Get("X-Forwarded-Proto") != "https" || r.Header.Get("X-Forwarded-Host") != "localhost" {
			t.Errorf("%s: host %q, fields %v", name, r.Host, r.Header)
		}
		if strings.Contains(fmt.Sprint(r.Header), "6.6.6.6") {
			t.Errorf("%s: a spoofed field came through: %v", name, r.Header)
		}
		if r.RequestURI != "/a%2Fb/../c;d?x=1;y=%zz" {
			t.Errorf("%s: target %q", name, r.RequestURI)
		}
	}
}

func TestBodiesTrailersAndEventsStreamBothWays(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		n := 0
		buffer := make([]byte, 1024)
		for {
			m, err := r.Body.Read(buffer)
			n += m
			w.Write(buffer[:m])
			http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Sum", fmt.Sprint(n, r.Trailer.Get("X-Up")))
	}), nil)
	for name, client := range e.clients(t) {
		reader, writer := io.Pipe()
		request, _ := http.NewRequest("POST", "https://localhost/", reader)
		request.Trailer = http.Header{"X-Up": nil}
		go writer.Write([]byte("first"))
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != "first" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		request.Trailer.Set("X-Up", "up")
		writer.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if sum := response.Trailer.Get("X-Sum"); sum != "5 up" && sum != "5up" {
			t.Errorf("%s: trailer %q", name, sum)
		}
	}
}

func TestABackendThatBreaksOffIsNeverACompleteResponse(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("half"))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}), nil)
	for name, client := range e.clients(t) {
		response, err := client.Get("https://localhost/")
		if err != nil {
			continue
		}
		if body, err := io.ReadAll(response.Body); err == nil {
			t.Errorf("%s: %q looks complete", name, body)
		}
	}
}

// A response that its target breaks off has its head all the same, if the target had sent that: a client that gets
// nothing may take the connection for one that had ended before, and send the request again.
func TestAResponseThatIsBrokenOffAtOnceHasItsHead(t *testing.T) {
	t.Parallel()
	responses := []string{
		"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-Trailer: ",
		"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nno trailer\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
		"Content-Length: 9\r\n\r\nhalf",
	}
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				request, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				var which int
				_, _ = fmt.Sscanf(request.URL.Path, "/%d", &which)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+responses[which])
			}()
		}
	}()
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{to: "http://%s"}]}]`, l.Addr())
	clients := e.clients(t)
	clients["h3"] = e.three(t, nil)
	for name, client := range clients {
		for which := range responses {
			response, err := client.Post(fmt.Sprint("https://localhost/", which), "text/plain", strings.NewReader("content"))
			// A stream of QUIC that is reset may lose what was written before. Nobody takes that for a request that has not
			// arrived.
			if err != nil && name == "h3" {
				continue
			}
			if err != nil {
				t.Errorf("%s: %d: no response: %v", name, which, err)
				continue
			}
			if body, err := io.ReadAll(response.Body); response.StatusCode != 200 || err == nil {
				t.Errorf("%s: %d: %d, and %q looks complete", name, which, response.StatusCode, body)
			}
			response.Body.Close()
		}
	}
}

func TestAMissingTargetIsSaidAndTriedAnew(t *testing.T) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	address := l.Addr().String()
	l.Close()
	e := start(t, address, nil)
	client := e.clients(t)["h1"]
	response, err := client.Get("https://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(response.Body)
	if response.StatusCode != 502 || !strings.Contains(string(page), "connection refused") || !strings.Contains(string(page), address) {
		t.Errorf("%d %s", response.StatusCode, page)
	}
	l, err = net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "up") })}
	go app.Serve(l)
	defer app.Close()
	if response, err = client.Get("https://localhost/"); err != nil || response.StatusCode != 200 {
		t.Errorf("%v %v", response, err)
	}
}

func TestPlainHTTPOnTheTLSPortIsSentToHTTPS(t *testing.T) {
	e := start(t, "127.0.0.1:1", nil)
	for host, want := range map[string]string{"localhost:8443": "308 https://localhost:8443/x?y=1", "evil.example": "400 "} {
		conn, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /x?y=1 HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(response.StatusCode, " ", response.Header.Get("Location")); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}

func TestAHostThatIsNotServedIsMisdirected(t *testing.T) {
	e := start(t, "127.0.0.1:1", nil)
	for name, client := range e.clients(t) {
		request, _ := http.NewRequest("GET", "https://localhost/", nil)
		request.Host = "other.test"
		response, err := client.Do(request)
		if err != nil || response.StatusCode != 421 {
			t.Errorf("%s: %v %v", name, response, err)
		}
	}
}

func TestAWebSocketPassesWithTheBytesSentEarly(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, _ := http.NewResponseController(w).Hijack()
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		io.Copy(conn, buffered)
	}), nil)
	conn, err := tls.Dial("tcp", e.address, e.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nearly")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 101 || response.Header.Get("Sec-WebSocket-Accept") != "x" {
		t.Fatalf("%v %v", response, err)
	}
	io.WriteString(conn, " late")
	got := make([]byte, 10)
	if _, err := io.ReadFull(reader, got); err != nil || !bytes.Equal(got, []byte("early late")) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAClientThatGoesAwayCancelsTheBackendsRequest(t *testing.T) {
	arrived, cancelled := make(chan struct{}, 2), make(chan struct{}, 2)
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		cancelled <- struct{}{}
	}), nil)
	for name, client := range e.clients(t) {
		ctx, cancel := context.WithCancel(t.Context())
		request, _ := http.NewRequestWithContext(ctx, "GET", "https://localhost/", nil)
		go func() { <-arrived; cancel() }()
		if _, err := client.Do(request); err == nil {
			t.Errorf("%s: answered", name)
		}
		<-cancelled
	}
}

// Early hints come through before the response does; 100 (Continue) comes when the backend asks for the content.
func TestInterimResponsesPass(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		content, _ := io.ReadAll(r.Body)
		_, _ = w.Write(content)
	}), nil)
	for name, client := range e.clients(t) {
		var hints []string
		continued := false
		trace := &httptrace.ClientTrace{
			Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, " ", header.Get("Link")))
				return nil
			},
			Got100Continue: func() { continued = true },
		}
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", "https://localhost/", strings.NewReader("content"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Expect", "100-continue")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(name, err)
		}
		content, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(content) != "content" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
		if !slices.Contains(hints, "103 </style.css>; rel=preload") || !continued && name == "h1" {
			t.Errorf("%s: interim responses %q, 100 came: %v", name, hints, continued)
		}
	}
}
