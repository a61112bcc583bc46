package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/upstream"
)

// handler answers every request of every front: it finds the site, forwards, and logs.
type handler struct {
	state   func() *state
	page    Page
	access  *accessLog
	details bool // error pages say what was tried
}

// exchange is what one request has come to.
type exchange struct {
	request  *message.Request
	w        countingWriter
	start    time.Time
	bytesIn  int64 // through a tunnel
	upstream *upstream.Upstream
	err      string
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (h *handler) Serve(ctx *message.Context, r *message.Request, w message.Writer) {
	x := exchanges.Get().(*exchange)
	x.request, x.w.Writer, x.start = r, w, time.Now()
	h.serve(ctx, x)
	h.access.record(x)
	*x = exchange{}
	exchanges.Put(x)
}

// Interim implements message.Interim.
func (x *exchange) Interim(status int, fields message.Fields) error {
	fields.RemoveHopByHop()
	return x.w.Interim(status, fields)
}

func (h *handler) serve(ctx *message.Context, x *exchange) {
	r := x.request
	if r.Method == "CONNECT" {
		fail(x, 405, "CONNECT is not for a reverse proxy", "")
		return
	}
	site, ok := h.state().site(r.Host)
	if !ok || r.Conn == nil || site.policy != r.Conn.Policy {
		// RFC 9110 section 15.5.20: this connection was not made for that host.
		fail(x, 421, "This connection does not serve the host asked for", "")
		return
	}
	switch {
	case site.upstream != nil:
		h.forward(ctx, x, site)
	case h.page != nil:
		h.servePage(ctx, x)
	default:
		fail(x, 404, "There is nothing here", "")
	}
}

func (h *handler) servePage(ctx *message.Context, x *exchange) {
	if x.request.Method != "GET" && x.request.Method != "HEAD" {
		fail(x, 405, "This page can only be read", "")
		return
	}
	if path, _, _ := strings.Cut(x.request.Target, "?"); path != "/" {
		fail(x, 404, "There is nothing here", "")
		return
	}
	html := h.page.HTML(ctx, x.request.Conn.Handshake, x.request.Host)
	fields := message.Fields{
		{Name: "Content-Type", Value: "text/html; charset=utf-8"},
		{Name: "Content-Security-Policy", Value: h.page.ContentSecurityPolicy()},
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
		{Name: "Referrer-Policy", Value: "no-referrer"},
	}
	if x.w.Head(200, fields, int64(len(html))) == nil && x.request.Method == "GET" {
		_, _ = x.w.Write(html)
	}
}

func (h *handler) forward(ctx *message.Context, x *exchange, site *site) {
	x.upstream = site.upstream
	if !prepare(x.request, site) {
		fail(x, 400, "This upgrade cannot be forwarded: only WebSocket, by GET without a body", "")
		return
	}
	response, err := site.upstream.RoundTrip(ctx, x.request, x)
	var unread *message.BodyError
	switch {
	case err != nil && ctx.Err() != nil:
		x.err = "client went away"
		x.w.Abort()
	case errors.As(err, &unread):
		failBody(x, unread)
	case err != nil:
		h.failUpstream(x, err)
	case response.Tunnel != nil:
		tunnel(x, response)
	default:
		relay(x, response)
	}
}

// failBody answers a request whose content did not come as it was announced.
func failBody(x *exchange, err *message.BodyError) {
	x.err = "client: " + err.Error()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		fail(x, 408, "The request's content did not come in time", "")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		x.w.Abort()
	default:
		fail(x, 400, "The request's content is malformed", "")
	}
}

func (h *handler) failUpstream(x *exchange, err error) {
	status, text, detail := 502, "The application behind this address did not answer", ""
	var failure *upstream.Error
	if errors.As(err, &failure) {
		x.err = failure.Error()
		if failure.Timeout() {
			status, text = 504, "The application behind this address took too long to answer"
		}
		if h.details {
			detail = "padlock tried " + failure.Target.String() + ": " + failure.Reason() + "."
		}
	}
	fail(x, status, text, detail)
}

// relay passes a response on as it comes. What was read is sent at once, unless more is sure to follow without waiting:
// the reader of an event stream wants every byte, and of a slow download as well.
func relay(x *exchange, response *message.Response) {
	defer response.Body.Close()
	response.Fields.RemoveHopByHop()
	if x.w.Head(response.Status, response.Fields, response.ContentLength) != nil {
		return
	}
	if response.ContentLength != 0 && response.Body.Buffered() == 0 {
		_ = x.w.Flush() // the content may be long in coming
	}
	for {
		room := x.w.Room()
		n, err := response.Body.Read(room)
		if n > 0 {
			if _, werr := x.w.Write(room[:n]); werr != nil {
				x.err = "client: " + werr.Error()
				x.w.Abort()
				return
			}
			if err == nil && n < len(room) && response.Body.Buffered() == 0 {
				_ = x.w.Flush()
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			x.w.Trailers(response.Body.Trailers())
			if x.request.Body != nil {
				_ = x.w.Flush() // before Close waits for the rest of it: the client may be waiting for us
			}
			return
		default:
			x.err = "target broke off its response: " + err.Error()
			x.w.Abort()
			return
		}
	}
}

// tunnel joins the client and the target after a WebSocket handshake, until both have ended or either has failed.
func tunnel(x *exchange, response *message.Response) {
	defer response.Tunnel.Close()
	response.Fields.RemoveHopByHop()
	client, err := x.w.Tunnel(response.Fields)
	if x.request.Proto == "HTTP/2.0" {
		x.w.status = 200 // RFC 8441 section 5
	}
	if err != nil {
		x.err = "client: " + err.Error()
		return
	}
	defer client.Close()
	up := make(chan int64, 1)
	go func() {
		n, err := pipe(response.Tunnel, client)
		if err != nil {
			client.Close()
			response.Tunnel.Close()
		}
		up <- n
	}()
	n, err := pipe(client, response.Tunnel)
	x.w.bytes += n
	if err != nil {
		client.Close()
	}
	// The target has ended; a client that does not end within this time is cut, so that no half-open tunnel stays.
	timer := time.AfterFunc(tunnelLinger, func() { client.Close(); response.Tunnel.Close() })
	defer timer.Stop()
	x.bytesIn = <-up
}

const tunnelLinger = 10 * time.Second

// buffers are for tunnels.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// pipe copies until src ends, and passes the end on.
func pipe(dst io.WriteCloser, src io.Reader) (int64, error) {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buffer[:])
	if err != nil {
		return n, err
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		return n, half.CloseWrite()
	}
	return n, dst.Close()
}

// hostname is the canonical name of a Host or :authority value; its port does not matter for routing.
func hostname(host string) (string, bool) {
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 && (host[0] == '[') == strings.HasSuffix(host[:colon], "]") {
		if host[0] != '[' && strings.IndexByte(host, ':') != colon {
			return config.CanonicalHost(host) // a bare IPv6 address
		}
		if strings.Trim(host[colon+1:], "0123456789") != "" {
			return "", false
		}
		host = host[:colon]
	}
	return config.CanonicalHost(host)
}

type countingWriter struct {
	message.Writer
	status  int
	bytes   int64
	aborted bool
}

func (w *countingWriter) Head(status int, fields message.Fields, length int64) error {
	w.status = status
	return w.Writer.Head(status, fields, length)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *countingWriter) Tunnel(fields message.Fields) (message.Tunnel, error) {
	w.status = 101
	return w.Writer.Tunnel(fields)
}

func (w *countingWriter) Abort() {
	w.aborted = true
	w.Writer.Abort()
}
