// Package gateway answers requests: it finds what a route does with one, an Action behind Filters, and writes what that
// comes to.
//
//	g := gateway.New(gateway.Options{Routes: current.Load, Rejected: count, Log: log})
//	current.Store(g.Compile(snapshot))
//	server := http1.NewServer(http1.ServerOptions{Handler: g})
//
// The order of filters stands in chains.go, and write.go alone writes to clients.
package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/inspect"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
	"padlock/tracing"
	"padlock/traffic"
)

// Page is what a site without a target shows: the visitor's own handshake.
type Page interface {
	HTML(ctx context.Context, handshakeID uint64, host string) []byte
	ContentSecurityPolicy() string
}

// Arrival answers devices that find out by HTTPS whether their handshake comes through. It is called from many
// goroutines.
type Arrival interface {
	// Path is where a device asks. No target ever sees such a request.
	Path() string
	// Arrived is what it gets there; nil for hosts that are none of this machine's.
	Arrived(client netip.Addr, handshakeID uint64, host string) []byte
	ContentSecurityPolicy() string
}

// Options of a gateway. All but Routes, Rejected and Log may be nil, which turns them off.
type Options struct {
	Routes  func() *Routes // that is in force
	Page    Page
	Arrival Arrival
	Trust   func(http.ResponseWriter, *http.Request) bool // the trust page, on connections of plain HTTP
	// Is called when a CA was answered over plain HTTP.
	Validated func(r *message.Request, began time.Time)
	// Answers a CA's request of http-01, and reports whether it was one.
	Challenges func(http.ResponseWriter, *http.Request) bool
	Rejected   func(why traffic.Reason, client netip.Addr, what string) // is called for clients that are rejected
	Tracer     *tracing.Tracer
	Log        *slog.Logger
	Details    bool          // error pages say what was tried
	Idle       time.Duration // without a byte through a tunnel
	LateAfter  time.Duration // that an answer without a limit takes until the log says so; 0: 30s
	Buffers    int64         // bytes that all routes together may buffer
	Inspect    *inspect.Store
}

// Gateway answers every request of every front: it finds the site and the route, writes what the route's action comes
// to, and logs.
type Gateway struct {
	Options
	first     Action // of every request
	access    *AccessLog
	tunnels   tunnels
	underway  underway
	late      lateAnswers
	passwords *passwords
	rates     rates
	mirrors   mirrors
	issuers   issuers
	rooms     *rooms
	self      string // in loopField
}

func New(o Options) *Gateway {
	h := &Gateway{Options: o, passwords: newPasswords(), rooms: newRooms(o.Buffers, o.Log), self: newSelf(), rates: rates{log: o.Log}, mirrors: mirrors{log: o.Log}}
	h.late.log, h.late.after = o.Log, cmp.Or(o.LateAfter, lateAfter)
	h.first = h.entry()
	return h
}

// LogTo has requests logged. It is called before the first.
func (h *Gateway) LogTo(a *AccessLog) { h.access = a }

// Reloaded ends the requests and tunnels whose clients another configuration does not let in, returns how many, and
// forgets the passwords that it does not have.
func (h *Gateway) Reloaded(now *Routes) (ended int) {
	h.passwords.keep(now.Snapshot)
	h.rates.keep(now.Snapshot)
	h.issuers.keep(now.Snapshot)
	if h.Inspect != nil {
		h.Inspect.Keep(now.inspected())
	}
	return h.underway.follow(now) + h.tunnels.follow(now)
}

// Leave says goodbye to all tunnels, now and from now on.
func (h *Gateway) Leave() { h.tunnels.sayGoodbye() }

// Close waits for what the gateway does beside requests. None come any more.
func (h *Gateway) Close() {
	h.issuers.close()
	h.rates.close()
	h.mirrors.close()
}

// Exchange is what one request has come to. It is never used again: who still holds it when the request has ended holds
// its own.
type Exchange struct {
	request           *message.Request
	routes            *Routes // that it was let in by
	w                 countingWriter
	start             time.Time
	id                uint64
	name              string                       // canonical name of the host
	target            string                       // of the request as it came
	path              paths.Path                   // what that means, once the site is known
	user              string                       // who has proved to be here
	proof             proof                        // what proved it
	addr              netip.Addr                   // of the client
	at                atomic.Pointer[message.Conn] // a tunnel's connection, when it was looked at last; nil: at the beginning
	moved             atomic.Pointer[netip.Addr]   // where the client of a tunnel has moved to; nil: nowhere
	forwarded         forwardedFields
	site              *sites.Site
	route             *sites.Route
	attempt           upstream.Attempt
	scheme, authority string       // by which the client has come, before rules for the target's Host
	destination       *destination // nil: the request moves and copies nothing
	conditions        string       // If, as the client has sent it
	bytesIn           int64        // through a tunnel, and in the end as content
	took              time.Duration
	err               string
	broken            bool            // the target broke off its response
	trace             tracing.Context // what the target gets; zero: nothing of ours
	endsTrace         bool            // the client's traceparent goes no further
	endsState         bool            // nor does its tracestate
	spans             *tracing.Request

	fromTarget  bool           // the response is a target's
	sticky      string         // Set-Cookie that makes the client stick to the target, or ""
	sent        message.Fields // as they came, where conditions of routes depend on them
	draw        float64        // of the client; 0: it has none
	drawn       string         // Set-Cookie that keeps it, or ""
	preflighted bool           // it is padlock's answer to a browser that asks for permission
	cookies     []string       // Set-Cookie of the service that was asked
	named       bool           // the request names padlock in loopField, for its target
	varies      bool           // the response depends on Accept-Encoding
	coded       bool           // it is encoded by us, or stands for one that is
	bare        bool           // the response gets no fields of the configuration's
	limited     limitedBody
	rpc         string     // Content-Type of answers to a call of gRPC or gRPC-Web; "": it is none
	refused     int        // status of the error that a call was answered with, which is 200 on the wire; 0: none
	record      *recording // nil: nobody looks at the request
	replayOf    string     // request ID of the one that this repeats; "": it is no replay
	held        int64      // of the memory for what is buffered
	occupied    []occupied // of limits of requests at once

	group     *upstream.Group  // that it is forwarded by; guarded by underway's lock. Nil: it waits for a deploy
	ctx       *message.Context // while the request is under way; nil: it is not
	content   message.Body     // of the request then; nil: none
	place     int              // there; guarded by its lock
	dismissed atomic.Bool      // a snapshot that came meanwhile refuses it
	closing   sync.WaitGroup   // whoever ends it closes its content
}

// ids of requests begin anywhere, so that they differ between nodes and starts.
var ids = func() *atomic.Uint64 {
	last := new(atomic.Uint64)
	last.Store(rand.Uint64())
	return last
}()

// Serve implements message.Handler.
func (h *Gateway) Serve(ctx *message.Context, r *message.Request, w message.Writer) {
	x := &Exchange{request: r, routes: h.Routes(), target: r.Target, w: countingWriter{Writer: w}, start: time.Now(), id: ids.Add(1)}
	defer h.underway.remove(x)
	// Also after a panic, as a client would lack the place for ever.
	defer x.vacate()
	// As they came, whatever filters make of them.
	content := r.Body
	x.rpc = rpcKind(r)
	response, err := h.first.Answer(ctx, x)
	h.write(x, response, err)

	// The target's place is given back after the response was written: until then the target's connection is busy
	// with it.
	x.attempt.End()
	x.vacate()
	if x.held > 0 {
		h.rooms.leave(x.addr, x.held)
	}
	// Taken after the client has received everything, so that the log shows what the client saw.
	x.took = time.Since(x.start)
	if content != nil {
		x.bytesIn += content.Received()
	}
	if x.site != nil {
		x.count(traffic.OfProto(r.Proto))
	}

	x.endTrace()
	h.access.record(x)
	if x.record != nil {
		x.record.end()
	}
}

// count adds a request to the numbers of its route, or of its site if no route was found.
func (x *Exchange) count(protocol traffic.Protocol) {
	if x.route != nil {
		x.route.Counts.Request(protocol, x.status(), x.took, x.bytesIn, x.w.bytes)
		return
	}
	x.site.Counts.Request(protocol, x.status(), x.took, x.bytesIn, x.w.bytes)
}

// status is what the request was answered with: for a call, the status that other clients would have got.
func (x *Exchange) status() int {
	if x.refused != 0 {
		return x.refused
	}
	return x.w.status
}

// Interim implements message.Interim.
func (x *Exchange) Interim(status int, fields message.Fields) error {
	fields.RemoveHopByHop()
	// RFC 9110 section 8.6: no content follows, but some readers believe the field.
	fields.Del("Content-Length")
	if err := x.w.Interim(status, x.withoutOurs(fields)); err != nil {
		return &message.InterimError{Err: err}
	}
	return nil
}

// noConnect refuses to connect clients with others.
func noConnect(_ *message.Context, x *Exchange) error {
	if x.request.Method == "CONNECT" {
		return notAllowed("CONNECT is not for a reverse proxy", readOnly)
	}
	return nil
}

// dispatch has the route of a request answer it.
func (h *Gateway) dispatch(ctx *message.Context, x *Exchange) (*message.Response, error) {
	if err := x.findSite(); err != nil {
		return nil, err
	}
	// Redirects to a site's main name come before its routes, which need not know the other names.
	if other, ok := x.site.Redirects[x.name]; ok && strings.HasPrefix(x.request.Target, "/") {
		return x.toOtherName(other)
	}
	if x.site.Maintenance != nil {
		if err := x.inMaintenance(x.site.Maintenance); err != nil {
			return nil, err
		}
	}
	if err := x.findRoute(); err != nil {
		return nil, err
	}
	return x.routes.actions[x.route.Index].Answer(ctx, x)
}

// findSite finds the site of a request, and reads the target as the site does.
func (x *Exchange) findSite() error {
	r := x.request
	asked := r.Host
	found, name := x.routes.Hosts(r.Conn.Listener).Site(r.Host)
	// A connection may outlive what its client certificate has proved.
	over := !r.Conn.Until.IsZero() && x.start.After(r.Conn.Until)
	if found == nil || !reaches(r.Conn, found) || found.TCP != nil || over {
		return errMisdirected
	}

	x.site, x.name, r.Host = found, name, sites.TidyHost(r.Host)
	if found.Inspect != nil {
		x.inspect(asked)
	}
	if found.Misspelt(r.Method) {
		return errMisspelt
	}

	var err error
	if x.path, err = paths.Parse(r.Target, found.Paths); err != nil {
		return ambiguous(err)
	}

	r.Target = x.path.Text
	return nil
}

// reaches reports whether a site's requests may come by a connection: one that was made by its TLS policy or, if it is
// served over plain HTTP as well, one without TLS.
func reaches(c *message.Conn, site *sites.Site) bool {
	if c.Plain {
		return site.Plain
	}
	return site.Policy == c.Policy
}

// secure reports whether nobody else can read what the client sends: over TLS, which a trusted proxy may have ended.
func (x *Exchange) secure() bool {
	return !x.request.Conn.Plain || message.Is(x.forwarded.proto, "https")
}

var (
	// RFC 9110 section 15.5.20: the connection was not made for that host.
	errMisdirected = status(421, "This connection does not serve the host asked for")
	errMisspelt    = status(501, "Methods are written in capital letters")
)

// findRoute finds the route of a request.
func (x *Exchange) findRoute() error {
	method := x.request.Method
	if x.site.Conditional {
		// A copy, as the target may get other fields than the client has sent.
		x.sent = slices.Clone(x.request.Fields)
	}
	if x.findPreflight() {
		return nil
	}
	route, allowed := x.site.Route(method, &x.path, x)
	switch {
	case route == nil && len(allowed) > 0:
		return notAllowed("This method is not for this address", strings.Join(allowed, ", "))
	case route == nil:
		return errNothing
	}

	x.route = route
	// Looked at after the route is known, as only routes with other rules than this one matter.
	if x.site.Ambiguous(method, &x.path, route, x) {
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
