//go:build e2e

package e2e

//lint:file-ignore SA1019 x/net's HTTP/2 is what go.mod pins.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"padlock/internal/servicetest"
	"padlock/proxy/message"
)

// idApp is a target of the harness. It holds every request against what its marker stands for, and sends back what it saw.
type idApp struct {
	h      *identity
	name   string
	scheme string
	dying  bool // it goes away in the middle of requests
	copies bool // it gets copies of requests
}

// startApps starts the targets; what the map holds stands behind to: in a route.
func (h *identity) startApps(t *testing.T) map[string]string {
	at := map[string]string{}
	sockets := t.TempDir()
	for _, scheme := range idMembers[idTarget][:targetFiles] {
		for _, name := range []string{"first", "second", "dying", "dead", "copies"} {
			network, address := "tcp", "127.0.0.1:0"
			if scheme == "unix" {
				network, address = "unix", filepath.Join(sockets, name)
			}
			if name == "dead" && network == "tcp" { // no other process's server gets its port
				address = fmt.Sprintf("127.0.0.1:%d", servicetest.FreePort(t))
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			switch at[scheme+" "+name] = scheme + "://" + l.Addr().String(); scheme {
			case "unix":
				at[scheme+" "+name] = "unix:" + address
			case "h2":
				at[scheme+" "+name] = "https://" + l.Addr().String()
			}
			if name == "dead" { // nobody listens there
				l.Close()
				continue
			}
			h.serveApp(t, l, &idApp{h, scheme + " " + name, scheme, name == "dying", name == "copies"})
		}
	}
	return at
}

func (h *identity) serveApp(t *testing.T, l net.Listener, app *idApp) {
	server := &http.Server{Handler: app, ErrorLog: stdlog.New(io.Discard, "", 0)}
	switch app.scheme {
	case "h2c":
		h.serveH2(t, l, app, nil)
		return
	case "h2":
		other := &negotiated{Listener: l, conns: make(chan net.Conn), over: make(chan struct{})}
		h.serveH2(t, l, app, other)
		l = other
	}
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, heardKey{}, c) }
	if app.scheme == "https" {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{h.certificate}, NextProtos: []string{"http/1.1"}})
	}
	go func() { _ = server.Serve(hearing{l}) }()
	t.Cleanup(func() { server.Close() })
}

// negotiated are the connections over which a server of HTTP/2 was asked for HTTP/1.1.
type negotiated struct {
	net.Listener
	conns chan net.Conn
	once  sync.Once
	over  chan struct{}
}

func (l *negotiated) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *negotiated) Close() error {
	l.once.Do(func() { close(l.over) })
	return l.Listener.Close()
}

// hearing keeps of each connection the bytes that came last: net/http writes names of fields in one way, however they came.
type hearing struct{ net.Listener }

func (l hearing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &idHeard{Conn: c}, err
}

type heardKey struct{}

type idHeard struct {
	net.Conn
	mu   sync.Mutex
	last []byte
}

func (c *idHeard) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	const enough = 64 << 10
	if c.last = append(c.last, p[:n]...); len(c.last) > 2*enough {
		c.last = append(c.last[:0], c.last[len(c.last)-enough:]...)
	}
	return n, err
}

// head is that of a request, as it came.
func (c *idHeard) head(r *http.Request) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := string(c.last)
	at := strings.LastIndex(text, r.Method+" "+r.RequestURI+" HTTP/1.1\r\n")
	if at < 0 {
		return ""
	}
	head, _, _ := strings.Cut(text[at:], "\r\n\r\n")
	return head
}

// serveH2 is HTTP/2 with prior knowledge or, with a server of HTTP/1.1 beside it, as TLS agrees on it.
func (h *identity) serveH2(t *testing.T, l net.Listener, app *idApp, other *negotiated) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go h.serveH2Conn(conn, app, other)
		}
	}()
}

// serveH2Conn serves a connection. A handler finds it, to cut it.
func (h *identity) serveH2Conn(conn net.Conn, app *idApp, other *negotiated) {
	raw := conn
	cut := func() { raw.Close() }
	if other != nil {
		secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{h.certificate}, NextProtos: []string{"h2", "http/1.1"}})
		if err := secured.Handshake(); err != nil {
			cut()
			return
		}
		if conn = secured; secured.ConnectionState().NegotiatedProtocol != "h2" {
			select {
			case other.conns <- conn:
			case <-other.over:
				cut()
			}
			return
		}
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { app.serve(w, r, cut) })
	base := &http.Server{ErrorLog: stdlog.New(io.Discard, "", 0)}
	(&http2.Server{}).ServeConn(conn, &http2.ServeConnOpts{Handler: handler, BaseConfig: base})
}

func (a *idApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, func() {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			conn.Close()
		}
	})
}

func (a *idApp) serve(w http.ResponseWriter, r *http.Request, cut func()) {
	j := a.admit(r)
	switch {
	case j == nil:
		w.WriteHeader(http.StatusTeapot)
		return
	case a.copies:
		a.copied(w, r, j)
		return
	}

	try := j.tries.Add(1)
	dies := 0
	if a.dying {
		dies = int(j.turn>>4) % 5
	}
	if dies == 1 {
		cut()
		return
	}
	if dies == 2 && j.turn&8 == 0 {
		panic(http.ErrAbortHandler)
	}

	switch {
	case !a.interims(w, r, j):
		return
	case j.combo.does(doesSocket):
		a.socket(w, r, j)
		return
	case !j.combo.does(doesEarly) && !j.combo.does(doesUnread) && !a.content(r, j):
		return // its client has gone
	}
	a.answer(w, r, j, dies, try, cut)
}

// admit finds what a request should be, and reports what it is not.
func (a *idApp) admit(r *http.Request) *idJob {
	m := firstMarker(r.RequestURI)
	j := a.h.find(m)
	if j == nil {
		a.h.mixed(nil, a.name, "a request without a marker that was given out, in its path", m, dump(r))
		return nil
	}
	if j.forgotten() {
		return nil
	}
	for part, text := range headTexts(r) {
		if theirs := stranger(text, m); theirs != "" {
			a.h.mixed(j, a.name, "the target sees another's "+part, theirs, dump(r))
			return j
		}
	}
	what := a.check(r, j)
	if what == "" && !a.copies {
		what = a.spelled(r, j)
	}
	if what != "" {
		a.h.mixed(j, a.name, "the target sees what was not sent: "+what, m, dump(r))
	}
	return j
}

// headTexts yields all texts of a request's head.
func headTexts(r *http.Request) func(func(string, string) bool) {
	return func(yield func(string, string) bool) {
		if !yield("target", r.RequestURI) || !yield("host", r.Host) {
			return
		}
		for name, values := range r.Header {
			for _, value := range values {
				if !yield(name, name+": "+value) {
					return
				}
			}
		}
	}
}

// check holds a request against what was sent.
func (a *idApp) check(r *http.Request, j *idJob) string {
	host := j.host
	if j.combo[idTells] == tellsHost {
		host = "inner.test"
	}
	if r.RequestURI != j.path() || r.Host != host || r.Method != j.method {
		return fmt.Sprintf("%s %s of %s, not %s %s of %s", r.Method, r.RequestURI, r.Host, j.method, j.path(), host)
	}
	vouched := j.vouched()
	for _, f := range j.fields {
		want := j.spent(f[0], f[1])
		if _, ours := vouched[http.CanonicalHeaderKey(f[0])]; ours {
			continue
		}
		switch {
		case f[0] == "x-taken-away", f[0] == "accept" && j.translated(), a.copies && j.kept(f[0]):
			want = ""
		case f[0] == "content-type" && j.translated():
			want = "application/grpc+" + j.marker
		}
		if what := j.checkField(r.Header, f[0], want); what != "" {
			return what
		}
	}
	if what := j.checkVouched(r.Header); what != "" {
		return what
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": j.host, "X-Forwarded-Proto": j.scheme(), "X-Ssl-Client-Subject": j.subject(),
	} {
		if got := r.Header.Get(name); got != want {
			return fmt.Sprintf("%s: %q, not %q", name, got, want)
		}
	}
	if mirrored := r.Header.Get("X-Mirrored"); j.rebuffed || j.preflighted() || (mirrored != "") != a.copies {
		return fmt.Sprintf("a request with X-Mirrored: %q; its credentials are wrong: %v", mirrored, j.rebuffed)
	}
	if told := r.Header.Get("Padlock-Handshake"); j.combo[idTells] == tellsHandshake && !j.combo.plain() && !strings.HasPrefix(told, "id=") {
		return fmt.Sprintf("Padlock-Handshake: %q", told)
	}
	if told := r.Header.Get("Forwarded"); j.combo[idTells] == tellsForwarded && !strings.Contains(told, `host="`+j.host+`"`) {
		return fmt.Sprintf("Forwarded: %q", told)
	}
	return j.checkVaried("Request", r.Header)
}

// spelled holds the names of fields, as they came, against how the front's are written, and Expect against what the client has said.
func (a *idApp) spelled(r *http.Request, j *idJob) string {
	heard, ok := r.Context().Value(heardKey{}).(*idHeard)
	if !ok {
		return "" // by HTTP/2, names have no capitals
	}
	head := heard.head(r)
	if head == "" {
		return "its head is not among the bytes that came"
	}
	for line := range strings.SplitSeq(head, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		for _, f := range j.fields {
			want := f[0]
			switch {
			case slices.Contains(idForged, want) || want == "content-type" && j.translated() || want == "te" || want == "traceparent" || want == "tracestate" || want == "baggage" || !strings.EqualFold(name, want):
				continue
			case !j.combo.one():
				want = http.CanonicalHeaderKey(want)
			}
			if name != want {
				return fmt.Sprintf("the field %q is called %q", want, name)
			}
		}
	}
	if expects := r.Header.Get("Expect"); expects != "" && (expects != "100-continue" || !j.combo.waits()) {
		return fmt.Sprintf("Expect: %q", expects)
	} else if expects == "" && j.combo.waits() && j.up > 0 && j.combo[idBuffer]&1 == 0 && !j.combo.leaves() {
		return "no Expect"
	}
	return ""
}

// content reads a request's content and trailers, and reports whether all has come.
func (a *idApp) content(r *http.Request, j *idJob) bool {
	content, err := io.ReadAll(r.Body)
	want := j.passed()
	if at := differs(content, want); at >= 0 {
		theirs := firstMarker(string(content[at:min(at+3*markerLength, len(content))]))
		a.h.mixed(j, a.name, fmt.Sprintf("the target gets content that is not its user's after %d bytes: %q", at, pieceAt(content, at)), theirs, dump(r))
		return false
	}
	if err != nil {
		return false
	}
	if len(content) != len(want) && !j.combo.leaves() {
		a.h.mixed(j, a.name, fmt.Sprintf("the target gets %d bytes of content, not %d", len(content), len(want)), j.marker, dump(r))
	}
	if got := r.Trailer.Get("X-Trailer"); j.combo.does(doesTrailers) && !a.copies && got != j.marker && len(content) == j.up {
		a.h.mixed(j, a.name, fmt.Sprintf("the target gets the trailers %v", r.Trailer), firstMarker(got), dump(r))
	}
	return true
}

// differs is where content is not the beginning of what it should be, or -1.
func differs(content, want []byte) int {
	if bytes.HasPrefix(want, content) {
		return -1
	}
	for at := range min(len(content), len(want)) {
		if content[at] != want[at] {
			return at
		}
	}
	return len(want)
}

func pieceAt(b []byte, at int) []byte { return b[at:min(at+2*markerLength, len(b))] }

// interims reports false where the client has gone: then x/net's server may still read the fields that would be changed next.
func (a *idApp) interims(w http.ResponseWriter, r *http.Request, j *idJob) bool {
	switch {
	case j.combo.does(does103):
		w.Header().Set("Link", "</"+j.marker+".css>; rel=preload")
		for range 1 + j.turn>>8%3 {
			w.WriteHeader(http.StatusEarlyHints)
		}
	case j.combo.does(does100):
		w.Header().Set("X-Interim", j.marker)
		w.WriteHeader(http.StatusContinue)
		w.WriteHeader(http.StatusProcessing)
	}
	return r.Context().Err() == nil
}

const idTrail, idStatus = "X-Trail", "Grpc-Status"

// answer sends back the head that was seen, an empty line, and content that is full of the marker.
func (a *idApp) answer(w http.ResponseWriter, r *http.Request, j *idJob, dies int, try int32, cut func()) {
	m, head := j.marker, w.Header()
	a.fields(head, r, j)
	head.Set("X-Try", strconv.Itoa(int(try)))
	if j.combo.does(doesTrailers) || j.combo.does(doesGRPC) || j.combo.does(doesWeb) {
		head.Set("Trailer", idTrail+", "+idStatus)
	}

	var content bytes.Buffer
	for _, text := range headTexts(r) {
		content.WriteString(text + "\n")
	}
	content.WriteString("\n")
	content.Write(stamped(m, j.down))
	if j.turn&2 != 0 && head.Get("Trailer") == "" {
		head.Set("Content-Length", strconv.Itoa(content.Len()))
	}
	if status := j.failure(); status != 0 {
		head.Set("Www-Authenticate", j.challenge()) // stays with the page that stands for this
		w.WriteHeader(status)
	}
	if dies == 3 {
		_, _ = w.Write(content.Next(content.Len() / 2))
		_ = http.NewResponseController(w).Flush()
		if j.combo.does(doesUnread) {
			cut() // net/http's server would wait for content that nobody sends
		}
		panic(http.ErrAbortHandler)
	}

	// Some hundred pieces at most: each waits for a processor.
	few := content.Len() / 400
	for content.Len() > 0 {
		n := content.Len()
		if j.turn&4 != 0 {
			n = max(few, 1+int(j.turn>>3)%20_000)
		}
		if _, err := w.Write(content.Next(n)); err != nil {
			return
		}
		if j.turn&4 != 0 {
			_ = http.NewResponseController(w).Flush()
		}
	}
	if head.Get("Trailer") != "" {
		head.Set(idTrail, m)
		head.Set(idStatus, "0")
	}
}

func (a *idApp) fields(head http.Header, r *http.Request, j *idJob) {
	m := j.marker
	head.Set("X-Echo", m)
	head["Set-Cookie"] = []string{"id=" + m + "; Path=/", "other=" + m + "; HttpOnly"}
	head.Set("X-Long-Echo", strings.Repeat(m, 1+int(j.turn>>8)%60))
	head.Set("X-"+m, m)
	head.Set("Etag", `"`+m+`"`)
	head.Set("X-Target", a.name)
	head.Set("X-Saw-Id", r.Header.Get(varied("Request", "request_id")))
	head.Set("X-Removed", m)
	head.Set("Content-Location", j.location(false))
	head.Set("Content-Type", "text/"+m)
	head.Set(idShares, j.shares())
	if j.translated() {
		head.Set("Content-Type", "application/grpc+"+m)
	}
}

// failure is the status of an error that the target answers with; 0: it does not.
func (j *idJob) failure() int {
	if !j.combo.does(doesError) || j.combo.files() {
		return 0
	}
	return []int{404, 409, 500}[j.turn>>18%3]
}

// intercepted reports whether a page of the site stands for the target's error.
func (j *idJob) intercepted() bool { return j.failure() == 404 || j.failure() == 500 }

func (j *idJob) challenge() string { return "Bearer realm=" + j.marker }

// socket takes a WebSocket, says hello, and sends back what comes.
func (a *idApp) socket(w http.ResponseWriter, r *http.Request, j *idJob) {
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		a.h.mixed(j, a.name, "a WebSocket came by HTTP/2: "+err.Error(), j.marker, dump(r))
		return
	}
	defer conn.Close()
	head := http.Header{}
	a.fields(head, r, j)
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
	b.WriteString("Sec-WebSocket-Accept: " + message.WebSocketAccept(r.Header.Get("Sec-Websocket-Key")) + "\r\n")
	_ = head.Write(&b)
	b.WriteString("\r\n")
	b.Write(down(fin|opText, "hello "+j.marker))
	if _, err := conn.Write(b.Bytes()); err != nil {
		return
	}
	a.frames(conn, rw.Reader, j, r)
}

func (a *idApp) frames(conn net.Conn, r *bufio.Reader, j *idJob, request *http.Request) {
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		if f.first&15 == opClose {
			_, _ = conn.Write(down(fin|opClose, string(f.payload)))
			return
		}
		if unstamped(f.payload, j.marker) >= 0 {
			a.h.mixed(j, a.name, fmt.Sprintf("the target gets the frame %.60q", f.payload), firstMarker(string(f.payload)), dump(request))
			return
		}
		if _, err := conn.Write(down(f.first, string(f.payload))); err != nil {
			return
		}
	}
}

// dump is a request as the target sees it.
func dump(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\nhost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			fmt.Fprintf(&b, "%s: %s\n", name, shortened(value))
		}
	}
	return b.String()
}
