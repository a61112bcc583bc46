package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/upstream"
	"padlock/tracing"
	"padlock/traffic"
)

// Page is what a site without a target shows: the visitor's own handshake.
type Page interface {
	HTML(ctx context.Context, handshakeID uint64, host string) []byte
	ContentSecurityPolicy() string
}

// Arrival answers devices that find out by HTTPS whether their handshake comes through. It is called from many goroutines.
type Arrival interface {
	// Path is where a device asks. No target ever sees such a request.
	Path() string
	// Arrived is what it gets there; nil for hosts that are none of this machine's.
	Arrived(client netip.Addr, handshakeID uint64, host string) []byte
	ContentSecurityPolicy() string
}

// options of a gateway. All but state, cut and log may be nil, which turns them off.
type options struct {
	state      func() *routing // that is in force
	page       Page
	arrival    Arrival
	challenges func(http.ResponseWriter, *http.Request) bool            // answers a CA's request of http-01, and reports whether it was one
	cut        func(why traffic.Reason, client netip.Addr, what string) // is told of clients that are cut
	tracer     *tracing.Tracer
	log        *slog.Logger
	details    bool          // error pages say what was tried
	idle       time.Duration // without a byte through a tunnel
	lateAfter  time.Duration // that an answer without a limit takes until the log says so; 0: 30s
	buffers    int64         // bytes that all routes together may buffer
}

// handler answers every request of every front: it finds the site and the route, writes what the route's action comes to, and logs.
type handler struct {
	options
	first     Action // of every request
	access    *accessLog
	tunnels   tunnels
	late      lateAnswers
	passwords *passwords
	rooms     *rooms
}

func newGateway(o options) *handler {
	h := &handler{options: o, passwords: newPasswords(), rooms: newRooms(o.buffers, o.log)}
	h.late.log, h.late.after = o.log, cmp.Or(o.lateAfter, lateAfter)
	h.first = h.entry()
	return h
}

// logTo has requests logged. It is called before the first.
func (h *handler) logTo(a *accessLog) { h.access = a }

// reloaded ends the tunnels whose clients another configuration does not let in, returns how many, and forgets the passwords that it does not have.
func (h *handler) reloaded(now *routing) (ended int) {
	h.passwords.keep(now.cfg)
	return h.tunnels.follow(now)
}

// leave says goodbye to all tunnels, now and from now on.
func (h *handler) leave() { h.tunnels.tell() }

// exchange is what one request has come to. It is never used again: who still holds it when the request has ended holds its own.
type exchange struct {
	request           *message.Request
	state             *routing // that it was let in by
	w                 countingWriter
	start             time.Time
	id                uint64
	name              string     // canonical name of the host
	target            string     // of the request as it came
	path              paths.Path // what that means, once the site is known
	user, hash        string     // who has proved to be here, and the hash of what proved it
	addr              netip.Addr // of the client
	told              told
	site              *site
	route             *route
	attempt           upstream.Attempt
	scheme, authority string       // by which the client has come, before rules for the target's Host
	destination       *destination // nil: the request moves and copies nothing
	conditions        string       // If, as the client has sent it
	bytesIn           int64        // through a tunnel, and in the end as content
	took              time.Duration
	err               string
	broken            bool            // the target broke off its response
	trace             tracing.Context // what the target is told; zero: nothing of ours
	spans             *tracing.Request

	fromTarget bool   // the response is a target's
	sticky     string // Set-Cookie that makes the client stick to the target, or ""
	bare       bool   // the response gets no fields of the configuration's
	limited    limitedBody
	held       int64 // of the memory for what is buffered
}

// ids of requests begin anywhere, so that they differ between nodes and starts.
var ids = func() *atomic.Uint64 {
	last := new(atomic.Uint64)
	last.Store(rand.Uint64())
	return last
}()

// Serve implements message.Handler.
func (h *handler) Serve(ctx *message.Context, r *message.Request, w message.Writer) {
	x := &exchange{request: r, state: h.state(), target: r.Target, w: countingWriter{Writer: w}, start: time.Now(), id: ids.Add(1)}
	response, err := h.first.Answer(ctx, x)
	h.write(x, response, err)

	x.attempt.End()
	if x.held > 0 {
		h.rooms.leave(x.addr, x.held)
	}
	x.took = time.Since(x.start)
	if r.Body != nil {
		x.bytesIn += r.Body.Received()
	}
	if x.site != nil {
		x.site.counts.Request(traffic.OfProto(r.Proto), x.w.status, x.took, x.bytesIn, x.w.bytes)
	}
	x.endTrace()
	h.access.record(x)
}

// Interim implements message.Interim.
func (x *exchange) Interim(status int, fields message.Fields) error {
	fields.RemoveHopByHop()
	fields.Del("Content-Length") // RFC 9110 section 8.6: nothing follows, and somebody may think otherwise
	return x.w.Interim(status, x.withoutOurs(fields))
}

// noConnect refuses to connect clients with others.
func noConnect(_ *message.Context, x *exchange) error {
	if x.request.Method == "CONNECT" {
		return notAllowed("CONNECT is not for a reverse proxy", readOnly)
	}
	return nil
}

// dispatch has the route of a request answer it.
func (h *handler) dispatch(ctx *message.Context, x *exchange) (*message.Response, error) {
	if err := x.findSite(); err != nil {
		return nil, err
	}
	if other, ok := x.site.redirects[x.name]; ok && strings.HasPrefix(x.request.Target, "/") {
		return x.toOtherName(other)
	}
	if err := x.findRoute(); err != nil {
		return nil, err
	}
	return x.state.actions[x.route.index].Answer(ctx, x)
}

// findSite finds the site of a request, and reads the target as the site does.
func (x *exchange) findSite() error {
	r := x.request
	found, name := x.state.table(r.Conn.Listener).site(r.Host)
	over := !r.Conn.Until.IsZero() && x.start.After(r.Conn.Until)
	if found == nil || found.policy != r.Conn.Policy || found.tcp != nil || over {
		return errMisdirected
	}
	x.site, x.name, r.Host = found, name, tidyHost(r.Host)
	if found.misspelt(r.Method) {
		return errMisspelt
	}

	var err error
	if x.path, err = paths.Parse(r.Target, found.paths); err != nil {
		return ambiguous(err)
	}
	r.Target = x.path.Text
	return nil
}

var (
	// RFC 9110 section 15.5.20: the connection was not made for that host.
	errMisdirected = status(421, "This connection does not serve the host asked for")
	errMisspelt    = status(501, "Methods are written in capital letters")
)

// findRoute finds the route of a request.
func (x *exchange) findRoute() error {
	method := x.request.Method
	route, allowed := x.site.route(method, &x.path)
	switch {
	case route == nil && len(allowed) > 0:
		return notAllowed("This method is not for this address", strings.Join(allowed, ", "))
	case route == nil:
		return errNothing
	}
	x.route = route
	if x.site.ambiguous(method, &x.path, route) {
		return errDependsOnReader
	}
	return nil
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

func (w *countingWriter) Fallback() {
	w.aborted = true
	w.Writer.Fallback()
}

func (w *countingWriter) Abort() {
	w.aborted = true
	w.Writer.Abort()
}

func (w *countingWriter) Reset(code uint32) {
	w.aborted = true
	w.Writer.Reset(code)
}
