//go:build e2e

package e2e

//lint:file-ignore SA1019 x/net's HTTP/2 is what go.mod pins.

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"padlock/internal/servicetest"
)

// wsFront opens WebSockets at an address, by one version of HTTP.
type wsFront struct {
	address string
	roots   *x509.CertPool
	version string
}

// wsRequest is what is asked for, beyond what every handshake says.
type wsRequest struct {
	path     string
	host     string   // localhost
	protocol string   // of an extended CONNECT: websocket
	fields   []string // names and values
	early    []byte   // sent with the request, before an answer
}

// wsClient is a client that has asked for a WebSocket, and below its frames.
type wsClient struct {
	t      *testing.T
	status int
	fields http.Header
	io.Reader
	io.Writer
	end   func() error // nothing more comes from the client
	reset func()       // the client is gone
	close func()
}

const (
	wsPatience = time.Minute
	wsKey      = "dGhlIHNhbXBsZSBub25jZQ=="
)

func (f wsFront) tls(protocol string) *tls.Config {
	return &tls.Config{RootCAs: f.roots, ServerName: "localhost", NextProtos: []string{protocol}}
}

func (f wsFront) open(t *testing.T, r wsRequest) *wsClient {
	t.Helper()
	r.host, r.protocol = cmp.Or(r.host, "localhost"), cmp.Or(r.protocol, "websocket")
	v, err := map[string]func(*testing.T, wsRequest) (*wsClient, error){"h1": f.one, "h2": f.two, "h3": f.three}[f.version](t, r)
	if err != nil {
		t.Fatal(err)
	}
	v.t = t
	return v
}

// accepted reports whether there is a WebSocket.
func (v *wsClient) accepted(version string) bool {
	return v.status == 101 && version == "h1" || v.status == 200 && version != "h1"
}

func (v *wsClient) say(b []byte) {
	if _, err := v.Write(b); err != nil {
		v.t.Errorf("the client cannot write: %v", err)
	}
}

func (v *wsClient) hear(want []byte) { v.t.Helper(); hears(v.t, "the client", v.Reader, want) }

// ended expects that nothing more comes. How a connection ends that was cut differs.
func (v *wsClient) ended() {
	v.t.Helper()
	rest, err := io.ReadAll(v.Reader)
	if len(rest) > 0 {
		v.t.Errorf("after all, the client got %d bytes %.40x: %v", len(rest), rest, err)
	}
	if err != nil && (strings.Contains(err.Error(), "timeout") || strings.Contains(err.Error(), "deadline")) {
		v.t.Errorf("nothing has ended: %v", err)
	}
}

// properly expects an end that was said.
func (v *wsClient) properly() {
	v.t.Helper()
	if rest, err := io.ReadAll(v.Reader); len(rest) > 0 || err != nil {
		v.t.Errorf("at a proper end, the client got %d bytes %.40x: %v", len(rest), rest, err)
	}
}

// inTurn is written to only after what went before.
type inTurn struct {
	io.Writer
	before <-chan struct{}
}

func (w inTurn) Write(p []byte) (int, error) {
	<-w.before
	return w.Writer.Write(p)
}

// ahead writes without anybody waiting for it, but for the next who writes.
func ahead(w io.Writer, b []byte) io.Writer {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if len(b) > 0 {
			_, _ = w.Write(b)
		}
	}()
	return inTurn{w, done}
}

func (f wsFront) one(t *testing.T, r wsRequest) (*wsClient, error) {
	conn, err := tls.Dial("tcp", f.address, f.tls("http/1.1"))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(wsPatience))
	_ = conn.NetConn().(*net.TCPConn).SetReadBuffer(64 << 10)
	head := "GET " + r.path + " HTTP/1.1\r\nHost: " + r.host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + wsKey + "\r\n"
	for i := 0; i < len(r.fields); i += 2 {
		head += r.fields[i] + ": " + r.fields[i+1] + "\r\n"
	}
	w := ahead(conn, append([]byte(head+"\r\n"), r.early...))
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, err
	}
	v := &wsClient{
		status: response.StatusCode, fields: response.Header, Reader: reader, Writer: w, end: conn.CloseWrite,
		reset: func() { _ = conn.NetConn().(*net.TCPConn).SetLinger(0); conn.NetConn().Close() }, close: func() { conn.Close() },
	}
	if response.StatusCode != 101 {
		v.Reader = response.Body
	}
	return v, nil
}

func (f wsFront) two(t *testing.T, r wsRequest) (*wsClient, error) {
	transport := &http2.Transport{TLSClientConfig: f.tls("h2")}
	t.Cleanup(transport.CloseIdleConnections)
	body, writer := io.Pipe()
	ctx, cancel := context.WithTimeout(context.Background(), wsPatience)
	t.Cleanup(cancel)
	request, _ := http.NewRequestWithContext(ctx, "CONNECT", "https://"+f.address+r.path, body)
	request.Host = r.host
	request.Header = http.Header{":protocol": {r.protocol}, "Sec-WebSocket-Version": {"13"}}
	for i := 0; i < len(r.fields); i += 2 {
		request.Header.Add(r.fields[i], r.fields[i+1])
	}
	w := ahead(writer, r.early)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	return &wsClient{
		status: response.StatusCode, fields: response.Header, Reader: response.Body, Writer: w, end: writer.Close, reset: cancel,
		close: func() { writer.Close(); response.Body.Close() },
	}, nil
}

func (f wsFront) three(t *testing.T, r wsRequest) (*wsClient, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wsPatience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, f.address, f.tls(http3.NextProtoH3), servicetest.Patient(nil))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") })
	s, err := (&http3.Transport{}).NewClientConn(conn).OpenRequestStream(ctx)
	if err != nil {
		return nil, err
	}
	_ = s.SetDeadline(time.Now().Add(wsPatience))
	request, _ := http.NewRequest("CONNECT", "https://"+f.address+r.path, nil)
	request.Host, request.Proto = r.host, r.protocol
	request.Header = http.Header{"Sec-WebSocket-Version": {"13"}}
	for i := 0; i < len(r.fields); i += 2 {
		request.Header.Add(r.fields[i], r.fields[i+1])
	}
	if err := s.SendRequestHeader(request); err != nil {
		return nil, err
	}
	w := ahead(s, r.early)
	response, err := s.ReadResponse()
	if err != nil {
		return nil, err
	}
	return &wsClient{
		status: response.StatusCode, fields: response.Header, Reader: s, Writer: w, end: s.Close,
		reset: func() {
			s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
			s.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		},
		close: func() { s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError)); s.Close() },
	}, nil
}
