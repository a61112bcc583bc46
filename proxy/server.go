// Package proxy accepts connections, terminates TLS, and forwards requests to upstreams.
//
//	server, err := proxy.New(cfg, proxy.Dependencies{Certificates: source, Recorder: recorder, Log: log})
//	err = server.Serve(ctx, https, http)   // until ctx ends, then drains
package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/handshake"
	"padlock/inspect"
	"padlock/internal/fair"
	"padlock/proxy/conns"
	"padlock/proxy/gateway"
	"padlock/proxy/http1"
	"padlock/proxy/http2"
	"padlock/proxy/http3"
	"padlock/proxy/message"
	"padlock/proxy/park"
	"padlock/proxy/sites"
	"padlock/proxy/socket"
	"padlock/proxy/upstream"
	"padlock/tracing"
	"padlock/traffic"
)

// CertificateSource has a certificate for a handshake. (nil, nil) refuses the name: the client sees unrecognized_name.
// It is called from many goroutines.
type CertificateSource interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// PrivateSource is a CertificateSource that knows which of its certificates no public CA has signed.
type PrivateSource interface {
	// Private reports whether a client that asks for a name, or for none and comes to an address, is shown one of the
	// local CA.
	Private(name string, to net.Addr) bool
}

// Challenges answers a CA that validates names (RFC 8555 section 8). It is called from many goroutines.
type Challenges interface {
	// AnswerHTTP answers a request of http-01, on the plain HTTP port or by HTTPS, and reports whether it was one that
	// a node has offered.
	AnswerHTTP(w http.ResponseWriter, r *http.Request) bool
	// ChallengeCertificate is for a handshake that offers acme-tls/1 and nothing else (RFC 8737).
	ChallengeCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// TrustPage gets devices nearby to trust the local CA. It is called from many goroutines.
type TrustPage interface {
	// AnswerHTTP answers a request on the plain HTTP port, and reports whether it was for the page. port is that of HTTPS.
	AnswerHTTP(w http.ResponseWriter, r *http.Request, port string) bool
	gateway.Arrival
}

// Dependencies are what the proxy is given. All but Certificates and Log may be nil, which turns them off.
type Dependencies struct {
	Certificates     CertificateSource
	Challenges       Challenges
	Recorder         *handshake.Recorder
	Page             gateway.Page
	Trust            TrustPage
	Log              *slog.Logger
	AccessLog        io.Writer
	AccessLogDropped func() uint64 // lines that AccessLog has lost by itself; nil: it loses none
	Tracer           *tracing.Tracer
	Inspect          *inspect.Store // of requests
	LateAfter        time.Duration  // that an answer without a limit takes until the log says so; 0: 30s
}

// Server is a running configuration. Serve is called once.
type Server struct {
	deps       Dependencies
	quiet      *handshake.Recorder // where handshakes are not recorded, and fingerprints are asked for
	current    atomic.Pointer[snapshot]
	targets    upstream.Targets
	book       traffic.Book
	listener   *tls.Config // what crypto/tls is handed; it owns the session-ticket keys
	access     *gateway.AccessLog
	logDropped atomic.Uint64
	abuse      *abuseLog

	gateway *gateway.Gateway

	http1  *http1.Server
	lot    *park.Lot // nil where connections cannot be parked
	http2  *http2.Server
	http3  *http3.Server
	altSvc sync.Map // address of a listener to what tells of HTTP/3 beside it

	ticketKeys atomic.Pointer[[][32]byte]
	plain      *http1.Server // on listeners of plain HTTP
	slots      *shares       // one per open connection
	pauses     *pauses
	begun      *pendingConns // connections whose handshake has not ended
	asking     *pendingConns // connections of plain HTTP
	addresses  addresses
	unread     *fair.Memory            // of what comes over HTTP/2 and 3
	heads      *fair.Memory            // of the fields of requests that wait there
	early      *conns.Set[*clientConn] // those that no front has yet, or that a front has not parked
	streams    streams                 // connections that are not HTTP
	guards     guards
	handover   atomic.Pointer[handover] // another process takes over
	serving    chan struct{}            // closed when Serve has all its listeners
	ending     chan struct{}            // closed when no more are accepted
	work       chan *clientConn
	waiting    atomic.Int32 // goroutines that wait for work

	listening sync.Mutex
	open      []Listener
	packets   []*packets // of HTTP/3
	ended     bool
	accepting sync.WaitGroup
	failed    chan error

	reloading  sync.Mutex // one reload at a time
	publishing sync.Mutex
	over       bool // guarded by publishing: no other snapshot is served any more

	waits waits // for whom, at the end
}

// headsPart of limits.buffers is for the fields of requests that wait. Clients need little of it, as each connection has
// some of its own, and what fields take is several times what they count: their text, and what the collector leaves.
const headsPart = 4

// New builds a server; it opens nothing yet.
func New(cfg *config.Config, deps Dependencies) (*Server, error) {
	s := &Server{deps: deps, quiet: handshake.NewFingerprints(), slots: newShares(cfg.Limits.Connections), serving: make(chan struct{}), ending: make(chan struct{}), work: make(chan *clientConn), early: conns.New[*clientConn](), failed: make(chan error, 1), streams: streams{conns.New[*stream]()}}
	s.abuse = newAbuseLog(deps.Log, cfg.Handshakes.Privacy.Addresses == "truncated")
	s.begun, s.asking = newPendingConns(cfg.Limits.Handshakes, s.abuse, s.ending), newPendingConns(cfg.Limits.Handshakes, s.abuse, s.ending)
	s.addresses.limit = cfg.Limits.PerAddress
	s.unread = fair.NewMemory(int64(cfg.Limits.Buffers))
	s.heads = fair.NewMemory(int64(cfg.Limits.Buffers) / headsPart)
	s.targets.Resolvers, s.targets.Log = cfg.Resolvers, deps.Log
	s.gateway = s.newGateway(cfg)

	built, err := newSnapshot(cfg, deps, &s.targets, &s.book, s.gateway, nil)
	if err != nil {
		return nil, err
	}
	// The gateway asks for the snapshot with each request, so it is there before any listener is.
	s.current.Store(built)

	// One config for all policies owns the ticket keys: crypto/tls takes the keys of the config that the listener
	// has, and a reload must not make clients start over.
	s.listener = &tls.Config{GetConfigForClient: s.configForClient, MinVersion: tls.VersionTLS12, GetCertificate: deps.Certificates.GetCertificate}
	return s, nil
}

// recorder is that of a connection which begins now; nil: it needs none.
func (s *Server) recorder() *handshake.Recorder {
	if s.deps.Recorder == nil && s.current.Load().NeedsFingerprint {
		return s.quiet
	}
	return s.deps.Recorder
}

// recorded is the ID of a handshake by which others find it; 0: it is not recorded.
func (s *Server) recorded(id uint64) uint64 {
	if s.deps.Recorder == nil {
		return 0
	}
	return id
}

// newGateway answers the requests of HTTPS.
func (s *Server) newGateway(cfg *config.Config) *gateway.Gateway {
	o := gateway.Options{
		Routes: s.routes, Page: s.deps.Page, Rejected: s.abuse.addDetail, Tracer: s.deps.Tracer, Log: s.deps.Log,
		Inspect: s.deps.Inspect,
		Details: cfg.ErrorDetails, Idle: cfg.Timeouts.Tunnel, LateAfter: s.deps.LateAfter, Buffers: int64(cfg.Limits.Buffers),
	}

	if s.deps.Trust != nil {
		o.Arrival = s.deps.Trust
		o.Trust = func(w http.ResponseWriter, r *http.Request) bool { return s.deps.Trust.AnswerHTTP(w, r, s.httpsPort()) }
	}
	if s.deps.Recorder != nil {
		o.Validated = s.recordValidation
	}
	if s.deps.Challenges != nil {
		o.Challenges = s.deps.Challenges.AnswerHTTP
	}

	return gateway.New(o)
}

// Replay answers a request that is remembered once more (gateway.Gateway.Replay).
func (s *Server) Replay(ctx context.Context, id uint64, edit inspect.Edit) (uint64, error) {
	return s.gateway.Replay(ctx, id, edit)
}

// Reload serves another configuration from the next request on, if it can be had whole: routes, targets and TLS
// policies. before is called when nothing can fail any more, and just before the new configuration is there; it may be
// nil. Limits and timeouts that the fronts were built with stay as they were. Connections keep their TLS, and requests
// that are open the targets that they have. The error is ErrEnded once Serve is over.
func (s *Server) Reload(cfg *config.Config, before func()) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	return s.reload(cfg, before)
}

// ErrEnded is the error of a reload that comes after the last request.
var ErrEnded = errors.New("proxy: the server has ended")

// reload is called with reloading locked.
func (s *Server) reload(cfg *config.Config, before func()) error {
	if s.hasEnded() {
		return ErrEnded
	}

	older := s.current.Load()
	built, err := newSnapshot(cfg, s.deps, &s.targets, &s.book, s.gateway, older)
	if err != nil {
		return err
	}

	if !s.publish(built, before) {
		built.Close()
		return ErrEnded
	}

	s.logEnded(s.guards.follow(older, built))
	if ended := s.gateway.Reloaded(built.Routes) + s.streams.follow(built); ended > 0 {
		s.deps.Log.Info("requests and tunnels were ended, as the configuration lets their clients in no more", "ended", ended)
	}
	// Open requests hold their own targets. Only what nobody uses any more is closed.
	older.Close()
	names := map[string]bool{}
	for _, site := range cfg.Sites {
		names[site.Hosts[0]] = true
	}
	// Counters of sites that are gone would stay in the metrics for good.
	s.book.Keep(names)
	return nil
}

// publish puts a snapshot in force, and reports false after the end. The end waits for nothing else of a reload: to build
// a snapshot takes as long as it takes.
func (s *Server) publish(built *snapshot, before func()) bool {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.over {
		return false
	}
	if before != nil {
		before()
	}
	s.current.Store(built)
	return true
}

// hasEnded reports whether nothing is served any more.
func (s *Server) hasEnded() bool {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return s.over
}

// config is what is served: the only configuration that a server knows. The gateway's is that of the snapshot that it
// has taken.
func (s *Server) config() *config.Config { return s.current.Load().Config }

// Traffic is what has been counted. It may be called at any time.
func (s *Server) Traffic() traffic.Counts {
	return traffic.Counts{Sites: s.book.Sites(), Targets: s.targets.Counts(), Connections: s.slots.count(), LogDropped: s.accessLogDropped(), Rejected: s.abuse.counts(), Trust: s.current.Load().Trust(time.Now())}
}

func (s *Server) accessLogDropped() uint64 {
	lost := s.logDropped.Load()
	if s.deps.AccessLogDropped != nil {
		lost += s.deps.AccessLogDropped()
	}
	return lost
}

// SetTicketKeys sets the keys of session tickets: the first encrypts, all decrypt. It may be called at any time.
func (s *Server) SetTicketKeys(keys [][32]byte) {
	s.ticketKeys.Store(&keys)
	s.listener.SetSessionTicketKeys(keys)
}

// SetStickyKey sets the key that sticky cookies are made with, which all nodes share. It may be called at any time.
func (s *Server) SetStickyKey(key [32]byte) { s.targets.SetStickyKey(key) }

// Listener is an open listener: HTTPS, or plain HTTP that leads to https://.
type Listener struct {
	net.Listener
	Address string // as the configuration has it
	Plain   bool

	Packets net.PacketConn  // UDP for HTTP/3 where it is open already; nil: it is opened when needed
	Free    <-chan struct{} // is closed when no other process reads Packets any more; nil: none does
}

// Serve accepts on the listeners until ctx ends, then finishes open requests within the shutdown timeout.
// It returns nil after a graceful end, and closes the listeners in any case.
func (s *Server) Serve(ctx context.Context, listeners ...Listener) error {
	if err := s.start(); err != nil {
		return errors.Join(err, closeAll(listeners))
	}

	s.Add(listeners...)
	close(s.serving)
	// Watching ends with the last connection, not with the context.
	watching, watched := context.WithCancel(context.WithoutCancel(ctx))
	defer watched()
	go s.watchTrust(watching)
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}

	s.listening.Lock()
	// Set under the lock, so that a reload that adds a listener now closes it instead.
	s.ended = true
	open, packets := s.open, s.packets
	s.listening.Unlock()
	// Those who wait for a slot or for a handshake's place give up before the listeners are waited for.
	close(s.ending)
	// A listener that is closed already is as good.
	_ = closeAll(open)
	s.waits.during("listeners", s.accepting.Wait)
	for _, p := range packets {
		s.waits.during("handshakes of QUIC", p.refuse)
	}

	// Open requests get timeouts.shutdown from the moment of hurry on, whatever is waited for then.
	last, end := context.WithCancel(context.Background())
	defer end()
	hurried := ctx
	hurry := sync.OnceFunc(func() {
		time.AfterFunc(ShutdownLimit(hurried, s.config().Timeouts.Shutdown), end)
	})
	if h := s.handover.Load(); h != nil {
		hurried = h.patience
		defer context.AfterFunc(h.patience, hurry)()
		left := make(chan struct{})
		go func() {
			defer close(left)
			s.leaveQUIC(last, packets)
			h.released()
		}()
		defer func() { <-left }()

		select {
		case <-left:
			s.drain(h.patience)
		case <-h.patience.Done():
		}
	}
	hurry()

	s.shutdown(last)
	s.waits.during("QUIC", func() { closePackets(packets) })
	return err
}

// Add accepts on more listeners.
func (s *Server) Add(listeners ...Listener) {
	s.listening.Lock()
	defer s.listening.Unlock()
	for _, l := range listeners {
		// Whoever adds a listener gives it away, so it is closed here even where it is of no use.
		if s.ended {
			l.Close()
			continue
		}
		s.open = append(s.open, l)
		s.addQUIC(l)
		s.accepting.Go(func() { s.listen(func() error { return s.accept(l) }) })
	}
}

// Serving is closed when Serve has all its listeners.
func (s *Server) Serving() <-chan struct{} { return s.serving }

// Listeners are those that are open, each with its UDP.
func (s *Server) Listeners() []Listener {
	s.listening.Lock()
	defer s.listening.Unlock()
	open := slices.Clone(s.open)
	for i := range open {
		// Another process takes over the UDP socket together with its listener, as no other could be opened beside
		// it.
		for _, p := range s.packets {
			if p.address == open[i].Address {
				open[i].Packets = p.socket
			}
		}
	}
	return open
}

// listen tells Serve of a listener that failed.
func (s *Server) listen(serve func() error) {
	if err := serve(); !errors.Is(err, net.ErrClosed) {
		select {
		case s.failed <- err:
		default: // one is enough
		}
	}
}

// Remove accepts no more on the listeners of these addresses. Their connections go on.
func (s *Server) Remove(addresses ...string) {
	s.listening.Lock()
	defer s.listening.Unlock()
	s.open = slices.DeleteFunc(s.open, func(l Listener) bool {
		gone := slices.Contains(addresses, l.Address)
		if gone {
			l.Close()
		}
		return gone
	})

	s.packets = slices.DeleteFunc(s.packets, func(p *packets) bool {
		gone := slices.Contains(addresses, p.address)
		if gone {
			// Clients must not be told about HTTP/3 on a port that takes no new connections.
			s.altSvc.Delete(p.address)
			// Only accepting ends; the listener's connections go on.
			_ = p.listener.Close()
		}
		return gone
	})
}

func (s *Server) start() error {
	// A reload may bring other trusted proxies, so this reads the current configuration.
	s.slots.exempt = func(from netip.Prefix) bool { return exempt(s.config())(from) }
	s.slots.full = func(from netip.Prefix) { s.abuse.add(traffic.Connections, from.Addr()) }
	var ended context.CancelFunc
	s.slots.ending, ended = context.WithCancel(context.Background())
	// Those who wait for a slot are released when no more connections are accepted.
	go func() { <-s.ending; ended() }()
	s.access = gateway.NewAccessLog(&s.config().AccessLog, s.deps.AccessLog, &s.logDropped)
	s.pauses = newPauses(s.config().Limits.Connections, s.config().Timeouts.BodyIdle, s.config().Timeouts.Send)
	h := s.gateway
	h.LogTo(s.access)
	t := s.config().Timeouts
	l := s.config().Limits
	one := http1.ServerOptions{
		Handler: h, Header: t.Header, Idle: t.Idle, BodyIdle: t.BodyIdle, Rate: l.BodyRate, Head: l.HeaderSize, Fields: l.HeaderFields, Rejected: s.abuse.addDetail, Log: s.deps.Log,
	}
	plain := one
	plain.Handler, plain.Scheme, plain.Once = s.onPlain(), "http", true
	// Most clients of plain HTTP send one request only.
	plain.First = t.Header
	plain.Keeps = func(r *message.Request) bool { return s.servesPlain(r.Host) }
	s.plain = http1.NewServer(plain)
	var err error
	if s.lot, err = park.New(); err == nil {
		one.Park = s.lot
		// Without epoll, on other systems than Linux, idle connections keep their goroutine.
	} else if !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("preparing to wait for idle connections: %w", err)
	}

	s.slots.lot = s.lot
	s.http1 = http1.NewServer(one)
	s.http2 = http2.NewServer(http2.ServerOptions{
		Handler: h, Header: t.Header, Idle: t.Idle, BodyIdle: t.BodyIdle, Rate: l.BodyRate, Head: l.HeaderSize, Fields: l.HeaderFields,
		Streams: l.Streams, Resets: l.Resets, NoopFrames: l.NoopFrames, Rejected: s.abuse.addDetail, Log: s.deps.Log, Park: s.lot, Send: t.Send, Pause: s.pauses.begin,
		Memory: s.unread, Heads: s.heads,
	})
	s.http3 = http3.NewServer(http3.ServerOptions{
		Handler: h, Header: t.Header, Idle: t.Idle, BodyIdle: t.BodyIdle, Rate: l.BodyRate, Head: l.HeaderSize, Fields: l.HeaderFields,
		Resets: l.Resets, NoopFrames: l.NoopFrames, Rejected: s.abuse.addDetail, Log: s.deps.Log, Send: t.Send, Pause: s.pauses.begin,
		Heads: s.heads,
	})
	return nil
}

// exempt tells which connections come from proxies, for many clients.
func exempt(cfg *config.Config) func(netip.Prefix) bool {
	return func(from netip.Prefix) bool {
		return sites.Contains(cfg.Trusted, from.Addr()) || sites.Contains(cfg.Listen.ProxyProtocol.From, from.Addr())
	}
}

type handover struct {
	patience context.Context // until it ends there is no hurry
	released func()
}

// HandOver makes the end of Serve, which is yet to come, one without hurry: another process has taken the listeners
// over. Connections are left to their clients for timeouts.handover, or until ctx ends, and only then are ended as at
// any other end. Released is called when UDP is not read any more, a few seconds after that end has begun.
func (s *Server) HandOver(ctx context.Context, released func()) {
	s.handover.Store(&handover{patience: ctx, released: released})
}

const beginning = time.Second // for handshakes that are on their way

// drain tells clients to go as their requests end, and waits for them.
func (s *Server) drain(ctx context.Context) {
	// Handshakes that are on their way get a moment to become connections that can be told to go.
	select {
	case <-time.After(beginning):
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, s.config().Timeouts.Handover)
	defer cancel()
	var fronts sync.WaitGroup
	for _, leave := range []func(context.Context) error{s.plain.Drain, s.http1.Drain, s.http2.Drain, s.streams.drain} {
		fronts.Go(func() { _ = leave(ctx) })
	}
	fronts.Wait()
}

// Soon, as the cause of the end of Serve's context, is how long open requests get where timeouts.shutdown is longer.
type Soon time.Duration

func (s Soon) Error() string { return "the end is asked for within " + time.Duration(s).String() }

// ShutdownLimit returns how long open requests get after the end of ctx.
func ShutdownLimit(ctx context.Context, limit time.Duration) time.Duration {
	var soon Soon
	if errors.As(context.Cause(ctx), &soon) {
		return min(limit, time.Duration(soon))
	}
	return limit
}

// leaveQUIC ends HTTP/3 and closes its sockets: a UDP port cannot be shared, so the process that takes over waits for it.
func (s *Server) leaveQUIC(ctx context.Context, sockets []*packets) {
	ctx, cancel := context.WithTimeout(ctx, quicHandover)
	defer cancel()
	_ = s.http3.Shutdown(ctx)
	closePackets(sockets)
}

// shutdown finishes what is open; when ctx ends first, it closes all.
func (s *Server) shutdown(ctx context.Context) {
	s.gateway.Leave()
	var fronts sync.WaitGroup
	early := func(ctx context.Context) error { return s.early.Shutdown(ctx, nil, (*clientConn).interrupt) }
	for of, end := range map[string]func(context.Context) error{
		"plain HTTP": s.plain.Shutdown, "HTTP/1.1": s.http1.Shutdown, "HTTP/2": s.http2.Shutdown, "HTTP/3": s.http3.Shutdown,
		"TCP": s.streams.shutdown, "connections that are new": early,
	} {
		fronts.Go(func() { s.waits.during(of, func() { _ = end(ctx) }) })
	}

	fronts.Wait()
	close(s.work)
	if s.lot != nil {
		// By now nothing is parked any more.
		_ = s.lot.Close()
	}
	s.waits.during("targets", func() { s.closeWithin(ctx) })
	s.waits.during("the access log", func() {
		if lost := s.access.Close(); lost > 0 {
			s.deps.Log.Warn("lines of the access log are lost: what reads it takes no more", "count", lost)
		}
	})

	s.waits.during("the log of rejected clients", s.abuse.close)
}

// Close lets go of the targets, for a server that is not going to serve. Serve does so at its end, and after that Close
// does nothing. Nothing of a reload that is on its way is served any more.
func (s *Server) Close() {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.over {
		return
	}
	s.over = true
	s.current.Load().Close()
	s.gateway.Close()
}

// closingGrace is what is left for Close where open requests have taken all the time that there was.
const closingGrace = 100 * time.Millisecond

// closeWithin is Close until ctx ends. What does not end by then, such as a reload that publishes its configuration, a
// health check or a question to DNS, is left behind: no request is open any more, and the process ends.
func (s *Server) closeWithin(ctx context.Context) {
	done := make(chan struct{})
	go func() { defer close(done); s.Close() }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}

	select {
	case <-done:
	case <-time.After(closingGrace):
		s.deps.Log.Warn("targets did not close within timeouts.shutdown: they are left behind")
	}
}

// accept takes connections. Nothing is waited for here, as those behind would wait too, whoever they are from.
func (s *Server) accept(l Listener) error {
	backoff := backoff{log: s.deps.Log}
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			s.abuse.add(traffic.Descriptors, netip.Addr{})
			backoff.wait(err)
			continue
		}

		backoff.reset()
		if faster, ok := socket.New(c); ok {
			c = faster
		}

		next := &clientConn{Conn: c, server: s, listener: l.Address, plain: l.Plain}
		s.early.Add(next, nil)
		from := fair.SourceOf(c.RemoteAddr())
		if next.slot = s.slots.try(from, next); next.slot != nil {
			s.begin(next)
			continue
		}

		go func() {
			if next.slot = s.slots.take(from, next, s.config().Timeouts.Handshake); next.slot == nil {
				next.Conn.Close()
				s.early.Remove(next)
				return
			}
			s.begin(next)
		}()
	}
}

func (s *Server) begin(next *clientConn) {
	select {
	case s.work <- next:
	default:
		go s.serveAll(next)
	}
}

const maxWaiting = 64

// serveAll serves a connection, and then others: a handshake needs a stack that a new goroutine would have to grow in
// four steps.
func (s *Server) serveAll(c *clientConn) {
	for ok := true; ok; {
		s.serve(c)
		s.early.Remove(c)
		if s.waiting.Add(1) <= maxWaiting {
			c, ok = <-s.work
		} else {
			ok = false
		}
		s.waiting.Add(-1)
	}
}

// clientConn is an accepted connection. It gives its slot back when it is closed,
// and keeps a first read that is not TLS, of which crypto/tls hands back five bytes only.
type clientConn struct {
	net.Conn
	server    *Server
	plain     bool
	begun     atomic.Pointer[pendingConn] // until the handshake has ended, or a request of plain HTTP is answered
	guard     atomic.Pointer[guard]
	slot      *slot
	once      sync.Once
	source    netip.Prefix // that it counts for
	listener  string       // address of the listener, as the configuration has it
	asked     *sites.Site  // that the hello named; nil: none
	service   *service     // of that, where its bytes are forwarded; else nil
	policy    *sites.Policy
	pausable  atomic.Bool // the limit of writes is that of a client that takes nothing
	remote    net.Addr    // that a PROXY header tells; nil: the connection's
	local     net.Addr
	unnamed   bool   // a PROXY header names no client, and the connection is not the proxy's own
	startTLS  bool   // TLS begins after a request for it in plaintext
	replay    []byte // was read before TLS, and is read by it again
	started   bool
	plaintext []byte

	evicted atomic.Bool // it was ended to make room, or as its client may not go on
}

// RemoteAddr implements net.Conn.
func (c *clientConn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.Conn.RemoteAddr()
}

// client is the address that rules go by; the zero Addr where a proxy does not name it.
func (c *clientConn) client() (string, netip.Addr) {
	if c.unnamed {
		return message.UnknownClient, netip.Addr{}
	}
	return message.ClientAddr(c.RemoteAddr().String())
}

// LocalAddr implements net.Conn.
func (c *clientConn) LocalAddr() net.Addr {
	if c.local != nil {
		return c.local
	}
	return c.Conn.LocalAddr()
}

const recordTypeHandshake = 22 // RFC 8446 section 5.1; what every TLS connection starts with

// Read is called by one goroutine at a time.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.next(p)
	if !c.started && n > 0 {
		c.started = true
		// Only the beginning of something that is no TLS is kept: it shows what the client speaks, and is answered
		// there.
		if p[0] != recordTypeHandshake {
			c.plaintext = bytes.Clone(p[:n])
		}
	}
	return n, err
}

func (c *clientConn) next(p []byte) (int, error) {
	if len(c.replay) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.replay)
	c.replay = c.replay[n:]
	return n, nil
}

// Write takes no notice of a limit that an earlier write has left behind. The fronts set one before each write;
// crypto/tls sets none when it answers a KeyUpdate, and what it then cannot write breaks the connection (RFC 8446
// section 4.6.3).
func (c *clientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if socket.Late(err) {
		// Nothing was written, so the attempt can be repeated without sending anything twice.
		_ = c.Conn.SetWriteDeadline(time.Now().Add(farewell))
		n, err = c.Conn.Write(p)
	}
	return n, err
}

// NetConn is the connection below, for the recorder, which asks the kernel about it.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// SetWriteDeadline implements net.Conn.
func (c *clientConn) SetWriteDeadline(at time.Time) error {
	c.pausable.Store(false)
	return c.Conn.SetWriteDeadline(at)
}

// SetDeadline implements net.Conn.
func (c *clientConn) SetDeadline(at time.Time) error {
	c.pausable.Store(false)
	return c.Conn.SetDeadline(at)
}

func (c *clientConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		// The socket is closed first: whoever gets the place may open another descriptor at once.
		c.begun.Load().leave()
		c.server.addresses.leave(c.source)
		c.server.slots.leave(c.slot)
	})
	if guarded := c.guard.Load(); guarded != nil {
		c.server.guards.remove(guarded)
	}
	return err
}

// evict implements evictable. Nobody but its owner closes a connection, which may be on its way to the lot: its socket
// is ended.
func (c *clientConn) evict(active bool) bool {
	c.evicted.Store(true)
	// A parked connection wakes in a goroutine of its own, and ends in order.
	if lot := c.server.lot; lot != nil && lot.Wake(c.Conn) {
		return true
	}
	if active {
		c.interrupt()
	}
	return active
}

// interrupt ends both directions of TCP, at which whoever has the connection, or the lot, finds its end.
func (c *clientConn) interrupt() {
	var below net.Conn = c.Conn
	if s, ok := below.(*socket.Conn); ok {
		below = s.NetConn()
	}
	if tcp, ok := below.(*net.TCPConn); ok {
		// Bytes on their way to a client that reads nothing are not waited for.
		_ = tcp.SetLinger(0)
		_ = tcp.CloseRead()
		_ = tcp.CloseWrite()
		return
	}
	_ = c.Conn.Close()
}

func (c *clientConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// backoff spaces out accept errors such as a lack of descriptors, which would otherwise spin, and says so once a
// minute.
type backoff struct {
	log   *slog.Logger
	delay time.Duration
	said  time.Time
}

func (b *backoff) wait(err error) {
	// The descriptors come back when connections end. Until then, trying without pause would take a processor.
	b.delay = min(max(2*b.delay, 5*time.Millisecond), time.Second)
	if time.Since(b.said) > time.Minute {
		b.log.Warn("cannot accept connections", "error", err)
		b.said = time.Now()
	}
	time.Sleep(b.delay)
}

func (b *backoff) reset() { b.delay = 0 }

func closeAll(listeners []Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
