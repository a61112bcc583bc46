//go:build e2e

package e2e

//lint:file-ignore SA1019 x/net's HTTP/2 is what go.mod pins.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"padlock/internal/servicetest"
)

// idUser is a client with a name, connections and, mostly, a certificate of its own.
type idUser struct {
	h           *identity
	number      int
	name        string // of the server, that it asks for
	certificate *tls.Certificate
	sessions    tls.ClientSessionCache // nil: every handshake is a whole one
	tokens      [idSelves]string       // that an issuer has given to those who share the connections
	left        sync.Map               // requests by what a limit has told them, by idLeft
	tags        sync.Map               // of its files, by size
	stuck       sync.Map               // cookies that make it stick, by route
	counted     sync.Map               // its requests that a limit counts, by idCounted

	share atomic.Pointer[string] // its number for percent

	mu     sync.Mutex
	conns  map[net.Conn]bool // of HTTP/2
	broken atomic.Int64      // connections of HTTP/2 and 3 that it has cut, requests and all
}

func (u *idUser) subject() string {
	if u.certificate == nil {
		return ""
	}
	return "CN=" + u.name
}

func (u *idUser) tls(protocol string) *tls.Config {
	c := &tls.Config{RootCAs: u.h.roots, ServerName: u.name, NextProtos: []string{protocol}, MinVersion: tls.VersionTLS13, ClientSessionCache: u.sessions}
	if u.number%5 != 0 {
		c.CurvePreferences = []tls.CurveID{tls.CurveP256} // the others cost most of a handshake's time under the race detector
	}
	if u.certificate != nil {
		c.Certificates = []tls.Certificate{*u.certificate}
	}
	return c
}

// idGot is what a client got for a request.
type idGot struct {
	status   int
	fields   http.Header
	interims []idInterim
	content  []byte
	trailers http.Header
	coded    bool  // it was compressed
	call     bool  // it was an error in gRPC's way
	err      error // at any of this
}

type idInterim struct {
	status int
	fields http.Header
}

// idPatience is how long a request may take, on a machine whose processors others use.
const idPatience = 5 * time.Minute

// Of HTTP/1.1: a connection at a time, with up to three requests in a row on their way.
type idOne struct {
	u     *idUser
	front uint8
	conn  net.Conn
	r     *bufio.Reader
	used  bool
}

func (c *idOne) dial() error {
	if c.conn != nil {
		return nil
	}
	plain := &net.Dialer{Timeout: idPatience}
	dial, address := (&tls.Dialer{Config: c.u.tls("http/1.1"), NetDialer: plain}).Dial, c.u.h.address
	if c.front == frontPlain {
		dial, address = plain.Dial, c.u.h.plain
	}
	conn, err := dial("tcp", address)
	if err != nil {
		return err
	}
	c.conn, c.r, c.used = conn, bufio.NewReader(conn), false
	return nil
}

func (c *idOne) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *idOne) run(rng *rand.Rand) {
	defer c.close()
	for !c.u.h.over() {
		var jobs []*idJob
		for range 1 + rng.IntN(3) {
			j := c.u.h.next(c.u, c.front, rng)
			if j == nil {
				break
			}
			jobs = append(jobs, j)
			if j.combo.leaves() || j.combo.does(doesSocket) || j.combo.waits() || j.up > 1<<10 {
				break
			}
		}
		if len(jobs) == 0 {
			return
		}
		if !c.batch(jobs, rng) {
			return
		}
		if rng.IntN(12) == 0 {
			c.close()
		}
	}
}

// batch sends requests in a row, and again those that a connection was closed before. It reports false where nobody listens any more.
func (c *idOne) batch(jobs []*idJob, rng *rand.Rand) bool {
	for len(jobs) > 0 {
		if err := c.dial(); err != nil {
			for _, j := range jobs {
				c.u.h.lost(j, fmt.Errorf("connecting: %w", err))
			}
			return !c.u.h.ending() || !errors.Is(err, syscall.ECONNREFUSED)
		}
		_ = c.conn.SetDeadline(time.Now().Add(idPatience))

		last := jobs[len(jobs)-1]
		switch {
		case len(jobs) > 1:
		case last.combo.leaves():
			c.leave(last, rng)
			return true
		case last.combo.does(doesSocket):
			c.socket(last, rng)
			return true
		}
		jobs = jobs[c.pipeline(jobs):]
	}
	return true
}

// pipeline returns how many requests of a batch are done with.
func (c *idOne) pipeline(jobs []*idJob) int {
	last := len(jobs) - 1
	if last > 0 && (jobs[last].combo.leaves() || jobs[last].combo.does(doesSocket)) {
		last-- // on its own, later
	}
	var text bytes.Buffer
	for _, j := range jobs[:last+1] {
		j.writeHead(&text)
		if !j.combo.waits() {
			j.writeContent(&text)
		}
	}
	fed := make(chan struct{})
	go func(conn net.Conn) {
		defer close(fed)
		_, _ = conn.Write(text.Bytes())
	}(c.conn)
	defer func() { <-fed }()

	for i, j := range jobs[:last+1] {
		got := c.read(j)
		switch {
		case got.err != nil && got.status == 0 && len(got.interims) == 0 && c.u.h.ending() && (i > 0 || c.used):
			c.close() // between two requests
			return i + 1
		}
		c.used = true
		c.u.h.done(j, got)
		unsent := j.combo.does(doesUnread) && j.up > 0
		if got.err != nil || unsent || got.fields.Get("Connection") == "close" {
			c.close()
			return i + 1
		}
	}
	return last + 1
}

// read reads the response, and sends the content when it is asked for.
func (c *idOne) read(j *idJob) (got idGot) {
	for {
		response, err := http.ReadResponse(c.r, &http.Request{Method: j.method})
		if err != nil {
			got.err = err
			return got
		}
		if response.StatusCode == 100 && j.combo.waits() && len(got.interims) == 0 {
			var text bytes.Buffer
			j.writeContent(&text)
			_, _ = c.conn.Write(text.Bytes())
		}
		if response.StatusCode < 200 {
			got.interims = append(got.interims, idInterim{response.StatusCode, response.Header})
			continue
		}
		got.status, got.fields = response.StatusCode, response.Header
		if response.Close {
			got.fields.Set("Connection", "close")
		}
		got.content, got.err = io.ReadAll(response.Body)
		got.trailers = response.Trailer
		return got
	}
}

func (j *idJob) writeHead(b *bytes.Buffer) {
	fmt.Fprintf(b, "%s %s HTTP/1.1\r\nHost: %s\r\n", j.method, j.target, j.host)
	for _, f := range j.fields {
		b.WriteString(f[0] + ": " + f[1] + "\r\n")
	}
	switch {
	case j.combo.does(doesSocket):
		b.WriteString("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + wsKey + "\r\n")
	case j.combo.does(doesTrailers), j.combo.does(doesGRPC):
		b.WriteString("Connection: te\r\n")
	}
	if j.combo.does(doesTrailers) {
		b.WriteString("Trailer: X-Trailer\r\n")
	}
	if j.combo.waits() {
		b.WriteString("Expect: 100-continue\r\n")
	}
	switch {
	case j.method != "POST":
	case j.chunked():
		b.WriteString("Transfer-Encoding: chunked\r\n")
	default:
		fmt.Fprintf(b, "Content-Length: %d\r\n", j.up)
	}
	b.WriteString("\r\n")
}

func (j *idJob) writeContent(b *bytes.Buffer) {
	content := j.content()
	switch {
	case j.method != "POST":
	case !j.chunked():
		b.Write(content)
	default:
		for len(content) > 0 {
			n := min(len(content), 1+int(j.turn>>5)%9000)
			fmt.Fprintf(b, "%x\r\n%s\r\n", n, content[:n])
			content = content[n:]
		}
		b.WriteString("0\r\n")
		if j.combo.does(doesTrailers) {
			b.WriteString("X-Trailer: " + j.marker + "\r\n")
		}
		b.WriteString("\r\n")
	}
}

// leave sends a part of a request, or all of it, reads a part of the answer or nothing, and is gone.
func (c *idOne) leave(j *idJob, rng *rand.Rand) {
	defer c.u.h.left(j)
	var text bytes.Buffer
	j.writeHead(&text)
	j.writeContent(&text)
	whole := text.Bytes()
	if rng.IntN(4) == 0 {
		whole = whole[:rng.IntN(len(whole))]
	}
	if rng.IntN(2) == 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // what is cut short is not answered
	}
	_, _ = c.conn.Write(whole)
	if rng.IntN(3) == 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = io.CopyN(io.Discard, c.r, int64(rng.IntN(5000)))
	} else {
		time.Sleep(time.Duration(rng.IntN(4000)) * time.Microsecond)
	}
	if rng.IntN(2) == 0 {
		raw := c.conn
		if secured, ok := raw.(*tls.Conn); ok {
			raw = secured.NetConn()
		}
		reset(raw)
	}
	c.close()
}

// idMany is a user's way to send many requests at once on one connection.
type idMany struct {
	u     *idUser
	front uint8
	http.RoundTripper
	socket func(ctx context.Context, j *idJob) (io.ReadWriteCloser, *idGot) // nil, and what came instead, where there is none
}

func (u *idUser) two() *idMany {
	transport := &http2.Transport{DisableCompression: true, DialTLSContext: func(_ context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
		// Not by the context: other requests wait for the connection too, and their client does not leave.
		dialer := &tls.Dialer{Config: u.tls("h2"), NetDialer: &net.Dialer{Timeout: idPatience}}
		conn, err := dialer.Dial(network, u.h.address)
		if err == nil {
			u.mu.Lock()
			u.conns[conn] = true
			u.mu.Unlock()
		}
		return conn, err
	}}
	m := &idMany{u: u, front: front2, RoundTripper: transport}
	m.socket = func(ctx context.Context, j *idJob) (io.ReadWriteCloser, *idGot) {
		body, writer := io.Pipe()
		request := j.request(ctx, body)
		// For another try on another connection: the transport closes the body of the one that did not begin.
		request.GetBody = func() (io.ReadCloser, error) {
			body, writer = io.Pipe()
			return body, nil
		}
		request.Method = "CONNECT"
		request.Header[":protocol"] = []string{"websocket"}
		request.Header.Set("Sec-WebSocket-Version", "13")
		response, err := transport.RoundTrip(request)
		if err != nil {
			return nil, &idGot{err: err}
		}
		if response.StatusCode != 200 {
			got := collect(response)
			writer.Close()
			return nil, &got
		}
		return stream{response.Body, writer, writer.Close}, &idGot{status: 101, fields: response.Header}
	}
	return m
}

// cut closes the connections of HTTP/2, whatever is open on them.
func (u *idUser) cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.broken.Add(1)
	for conn := range u.conns {
		conn.(*tls.Conn).NetConn().Close()
	}
	clear(u.conns)
	u.broken.Add(1) // also for those who came in between
}

// byItself reports whether a request has failed because of what its user has cut.
func (u *idUser) byItself(before int64, err error) bool {
	return err != nil && (u.broken.Load() != before || errors.Is(err, net.ErrClosed))
}

func (u *idUser) three() *idMany {
	transport := &http3.Transport{DisableCompression: true, TLSClientConfig: u.tls(http3.NextProtoH3), QUICConfig: servicetest.Patient(nil)}
	transport.Dial = func(_ context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return u.dialQUIC(t, servicetest.Patient(q))
	}
	m := &idMany{u: u, front: front3, RoundTripper: transport}
	var sockets idSockets
	m.socket = func(ctx context.Context, j *idJob) (io.ReadWriteCloser, *idGot) {
		s, err := sockets.open(ctx, u)
		if err != nil {
			return nil, &idGot{err: err}
		}
		_ = s.SetDeadline(time.Now().Add(idPatience))
		end := func() error {
			s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
			return s.Close()
		}
		request := j.request(ctx, nil)
		request.Method, request.Proto = "CONNECT", "websocket"
		request.Header.Set("Sec-WebSocket-Version", "13")
		var response *http.Response
		if err = s.SendRequestHeader(request); err == nil {
			response, err = s.ReadResponse()
		}
		if err != nil {
			_ = end()
			return nil, &idGot{err: err}
		}
		if response.StatusCode != 200 {
			got := collect(response)
			_ = end()
			return nil, &got
		}
		return stream{s, s, end}, &idGot{status: 101, fields: response.Header}
	}
	return m
}

// dialQUIC connects until nobody serves any more: over UDP, a client would otherwise find that out by waiting for half a minute.
func (u *idUser) dialQUIC(t *tls.Config, q *quic.Config) (*quic.Conn, error) {
	conn, err := quic.DialAddr(u.h.serving, u.h.address, t, q)
	if err == nil {
		stop := context.AfterFunc(u.h.serving, func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") })
		context.AfterFunc(conn.Context(), func() { stop() })
	}
	return conn, err
}

// idSockets is a connection of HTTP/3 for WebSockets, which http3.Transport does not know.
type idSockets struct {
	mu   sync.Mutex
	conn *quic.Conn
	over *http3.ClientConn
}

// open opens a stream, if need be on another connection.
func (s *idSockets) open(ctx context.Context, u *idUser) (*http3.RequestStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.conn.Context().Err() != nil {
		conn, err := u.dialQUIC(u.tls(http3.NextProtoH3), servicetest.Patient(nil))
		if err != nil {
			return nil, err
		}
		s.conn, s.over = conn, (&http3.Transport{}).NewClientConn(conn)
	}
	stream, err := s.over.OpenRequestStream(ctx)
	if err != nil && ctx.Err() == nil { // it has been told to go
		_ = s.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	}
	return stream, err
}

func (m *idMany) close() {
	switch transport := m.RoundTripper.(type) {
	case *http2.Transport:
		transport.CloseIdleConnections()
		m.u.cut()
	case *http3.Transport:
		transport.Close()
	}
}

func (m *idMany) run(rng *rand.Rand) {
	for !m.u.h.over() {
		j := m.u.h.next(m.u, m.front, rng)
		if j == nil {
			return
		}
		switch {
		case j.combo.leaves() && !m.u.h.ending():
			m.leave(j, rng)
		case j.combo.does(doesSocket):
			if !m.chat(j, rng) {
				return
			}
		default:
			ctx, cancel := context.WithTimeout(context.Background(), idPatience)
			before := m.u.broken.Load()
			got := m.ask(ctx, j)
			cancel()
			if m.u.h.ending() && errors.Is(got.err, syscall.ECONNREFUSED) {
				return
			}
			if m.u.byItself(before, got.err) {
				m.u.h.left(j)
				continue
			}
			m.u.h.done(j, got)
		}
	}
}

func (m *idMany) ask(ctx context.Context, j *idJob) (got idGot) {
	var mu sync.Mutex
	var interims []idInterim
	proceed := make(chan struct{})
	release := sync.OnceFunc(func() { close(proceed) })
	defer release()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			interims = append(interims, idInterim{code, http.Header(header).Clone()})
			return nil
		},
		Got100Continue: release,
	})
	var body io.Reader
	if j.method == "POST" {
		body = bytes.NewReader(j.content())
		if j.combo.waits() {
			body = (&waits{proceed: proceed}).again(body)
		}
	}
	response, err := m.RoundTrip(j.request(traced, body))
	if err != nil {
		got.err = err
	} else {
		got = collect(response)
	}
	mu.Lock()
	defer mu.Unlock()
	got.interims = interims
	return got
}

// waits is content that is only sent when it is asked for.
type waits struct {
	io.Reader
	proceed <-chan struct{}
	once    sync.Once
	over    chan struct{} // closed by Close, which ends a Read
}

// again is the same content for another try.
func (w *waits) again(content io.Reader) *waits {
	return &waits{Reader: content, proceed: w.proceed, over: make(chan struct{})}
}

func (w *waits) Read(p []byte) (int, error) {
	select {
	case <-w.proceed:
		return w.Reader.Read(p)
	case <-w.over:
		return 0, net.ErrClosed
	}
}

func (w *waits) Close() error {
	w.once.Do(func() { close(w.over) })
	return nil
}

func collect(response *http.Response) (got idGot) {
	defer response.Body.Close()
	got.status, got.fields = response.StatusCode, response.Header
	got.content, got.err = io.ReadAll(response.Body)
	got.trailers = response.Trailer
	return got
}

// request is a job for HTTP/2 and 3.
func (j *idJob) request(ctx context.Context, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, j.method, "https://"+j.user.h.address+j.target, nil)
	if err != nil {
		panic(err)
	}
	r.Host = j.host
	for _, f := range j.fields {
		r.Header.Set(f[0], f[1])
	}
	if body == nil {
		return r
	}
	if closer, ok := body.(io.ReadCloser); ok {
		r.Body = closer
	} else {
		r.Body = io.NopCloser(body)
	}
	r.ContentLength = int64(j.up)
	if j.chunked() {
		r.ContentLength = -1
	}
	switch again, ok := body.(*waits); {
	case ok: // another connection may have to take it
		r.GetBody = func() (io.ReadCloser, error) { return again.again(bytes.NewReader(j.content())), nil }
	case !j.combo.waits() && !j.combo.does(doesSocket):
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(j.content())), nil }
	}
	if j.combo.waits() {
		r.Header.Set("Expect", "100-continue")
	}
	if j.combo.does(doesTrailers) {
		r.Trailer = http.Header{"X-Trailer": {j.marker}}
	}
	return r
}

// leave asks for something and is gone at any moment; now and then with everything else that is open on its connection.
func (m *idMany) leave(j *idJob, rng *rand.Rand) {
	defer m.u.h.left(j)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(8000))*time.Microsecond)
	defer cancel()
	if j.combo.does(doesSocket) {
		if conn, _ := m.socket(ctx, j); conn != nil {
			<-ctx.Done()
			conn.Close()
		}
		return
	}
	var body io.Reader
	if j.method == "POST" {
		body = bytes.NewReader(j.content())
	}
	response, err := m.RoundTrip(j.request(ctx, body))
	if err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, response.Body, int64(rng.IntN(5000)))
	if m.front == front2 && rng.IntN(8) == 0 {
		m.u.cut()
	}
	response.Body.Close()
}

// socket is a WebSocket of HTTP/1.1, with which its connection ends.
func (c *idOne) socket(j *idJob, rng *rand.Rand) {
	defer c.close()
	var text bytes.Buffer
	j.writeHead(&text)
	early := rng.IntN(2) == 0
	if early {
		text.Write(up(fin|opText, string(stamped(j.marker, 50))))
	}
	_, _ = c.conn.Write(text.Bytes())
	response, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
	switch {
	case err != nil && c.used && c.u.h.ending():
		return
	case err != nil:
		c.u.h.done(j, idGot{err: fmt.Errorf("%w (the connection has been used: %v)", err, c.used)})
		return
	case response.StatusCode != 101:
		c.u.h.done(j, collect(response))
		return
	}
	got := idGot{status: 101, fields: response.Header}
	got.err = j.chat(c.r, c.conn, rng, early)
	c.u.h.done(j, got)
}

// chat reports false where nobody listens any more.
func (m *idMany) chat(j *idJob, rng *rand.Rand) bool {
	ctx, cancel := context.WithTimeout(context.Background(), idPatience)
	defer cancel()
	before := m.u.broken.Load()
	conn, got := m.socket(ctx, j)
	if conn != nil {
		got.err = j.chat(conn, conn, rng, false)
		conn.Close()
	}
	if m.u.byItself(before, got.err) && !errors.As(got.err, new(*idForeign)) {
		m.u.h.left(j)
		return true
	}
	m.u.h.done(j, *got)
	return !m.u.h.ending() || !errors.Is(got.err, syscall.ECONNREFUSED)
}

// idForeign is content of a WebSocket that is not its own.
type idForeign struct{ payload string }

func (e *idForeign) Error() string { return fmt.Sprintf("the client gets the frame %.80q", e.payload) }

var errGoingAway = errors.New("the WebSocket was told to go")

// chat hears hello, says some things, hears them again, and says goodbye, or is gone.
func (j *idJob) chat(r io.Reader, w io.Writer, rng *rand.Rand, early bool) error {
	expect := func(want string) error {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if f.first&15 == opClose {
			_, _ = w.Write(up(fin|opClose, string(f.payload)))
			return errGoingAway
		}
		if string(f.payload) != want {
			return &idForeign{string(f.payload)}
		}
		return nil
	}
	if err := expect("hello " + j.marker); err != nil {
		return err
	}
	if early {
		if err := expect(string(stamped(j.marker, 50))); err != nil {
			return err
		}
	}
	for range rng.IntN(5) {
		said := string(stamped(j.marker, 1+rng.IntN(j.down+200)))
		if _, err := w.Write(up(fin|opBinary, said)); err != nil {
			return err
		}
		if err := expect(said); err != nil {
			return err
		}
	}
	if rng.IntN(3) == 0 {
		return nil // without a word
	}
	if _, err := w.Write(up(fin|opClose, status(1000, ""))); err != nil {
		return err
	}
	if err := expect(""); err != nil && !errors.Is(err, errGoingAway) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// stick keeps the cookie that a response gives.
func (j *idJob) stick(fields http.Header) {
	for _, cookie := range fields["Set-Cookie"] {
		if value, ok := strings.CutPrefix(cookie, "stick="); ok {
			token, _, _ := strings.Cut(value, ";")
			j.user.stuck.Store(j.combo.route(), token)
		}
	}
}
