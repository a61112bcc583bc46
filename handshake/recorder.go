// Package handshake records TLS handshakes below crypto/tls, stage by stage.
//
//	conn := recorder.Wrap(accepted)
//	tlsConn := tls.Server(conn, config)   // config.GetConfigForClient returns conn.Hello(policy); policy.KeyLogWriter is the recorder
//	err := tlsConn.HandshakeContext(ctx)
//	conn.Done(tlsConn.ConnectionState(), err)
//	conn.FirstByte()                      // when the first application byte has been read
//
// What passes is captured on the connection's path, and dissected off it.
package handshake

import (
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Recorder. Zero numbers mean the defaults.
type Options struct {
	Log     *slog.Logger
	Sinks   []Sink
	Workers int // goroutines that dissect; 2
	Queue   int // records that may wait; 1,024
	Privacy Privacy
	Capture *Capture // exports handshakes with their secrets; nil: nothing is exported
	Packets *Packets // remembers them so; nil: nothing is

	Dropped func() uint64 // records that sinks dropped; nil: none
}

// Recorder delivers the handshakes of connections to sinks. It is safe for use from many goroutines.
// As an io.Writer it is the KeyLogWriter of server configs.
type Recorder struct {
	log          *slog.Logger
	sinks        []Sink
	privacy      Privacy
	capture      *Capture
	packets      *Packets
	queue        chan *trace
	workers      sync.WaitGroup
	last         atomic.Uint64
	dropped      atomic.Uint64
	lost         func() uint64
	keys         keyLogs
	certificates describer
	rejections   rejections
	knowledge    knowledge

	mu     sync.RWMutex // guards closed against a send on the closed queue
	closed bool
}

// NewRecorder starts the workers; Close ends them.
func NewRecorder(o Options) *Recorder {
	if o.Workers == 0 {
		o.Workers = 2
	}
	if o.Queue == 0 {
		o.Queue = 1024
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dropped == nil {
		o.Dropped = func() uint64 { return 0 }
	}

	r := &Recorder{
		log: o.Log, sinks: o.Sinks, privacy: o.Privacy.prepare(), capture: o.Capture, packets: o.Packets, queue: make(chan *trace, o.Queue),
		keys: keyLogs{open: map[[32]byte]keyLogEntry{}}, lost: o.Dropped,
	}
	for range o.Workers {
		r.workers.Go(r.work)
	}

	return r
}

// NewFingerprints makes a Recorder whose records tell the client's fingerprint (JA4) and are dropped at their end. It has
// no workers, and need not be closed.
func NewFingerprints() *Recorder {
	return &Recorder{log: slog.New(slog.DiscardHandler), keys: keyLogs{open: map[[32]byte]keyLogEntry{}}, closed: true}
}

// Wrap starts the record of a connection on which padlock is the server.
func (r *Recorder) Wrap(c net.Conn) *Conn { return r.wrap(c, Server) }

// WrapClient starts the record of a connection on which padlock is the client.
func (r *Recorder) WrapClient(c net.Conn) *Conn { return r.wrap(c, Client) }

func (r *Recorder) wrap(c net.Conn, side Side) *Conn {
	wrapped := &Conn{Conn: c, recorder: r, id: r.last.Add(1)}
	wrapped.trace.Store(newTrace(traceData{id: wrapped.id, side: side, conn: c, start: time.Now()}))
	return wrapped
}

// Validation records that a CA validated our control of a name over plain HTTP (http-01, RFC 8555 section 8.3), which
// makes no handshake.
func (r *Recorder) Validation(remote, local, name string, start time.Time) {
	took := time.Since(start)
	event := &Event{
		ID: r.last.Add(1), Start: start, Remote: r.privacy.address(remote), Local: Escape(local), Outcome: Complete, Duration: took,
		SNI: r.privacy.name(name), Validation: true,
		Stages: []Stage{
			{Name: "http_request", From: Client, Label: Observed, Text: "asks for the answer to our challenge, without TLS"},
			{Name: "http_response", From: Server, At: took, Label: Observed, Text: "the CA has got our answer"},
		},
		Notes: []string{"this was the CA, validating that we control the name (HTTP-01)"},
	}
	for _, sink := range r.sinks {
		sink.Handshake(event)
	}
}

// TLSOnPlain records a client that speaks TLS on a listener of plain HTTP, by its first bytes. httpsPort is where it
// would be right; "" if that is not known. Nothing is done to the connection.
func (r *Recorder) TLSOnPlain(c net.Conn, head []byte, httpsPort string) {
	wrapped := r.wrap(c, Server)
	if t := wrapped.trace.Load(); t != nil {
		t.read(wrapped.id, head, nil)
	}
	wrapped.note(func(t *trace) { t.kind, t.httpsPort = "tls_on_plain", httpsPort })
	wrapped.freeze(false)
}

// UnknownQUIC records a client that speaks a version of QUIC that the server does not know. Nothing more is known of
// it.
func (r *Recorder) UnknownQUIC(local net.Addr) {
	cause := "a client spoke a version of QUIC that padlock does not know; it was told those that padlock does"
	event := &Event{
		ID: r.last.Add(1), Start: time.Now(), Local: Escape(local.String()), Outcome: NotTLS, QUIC: true, Noise: "quic_version",
		Stages: []Stage{{Name: "close", From: Server, Label: Inferred, Text: "a version of QUIC that is not known here"}},
		Failure: &Failure{
			By: Server, Stage: "udp_packet", Alert: noAlert, Cause: cause, Kind: cause, Confidence: "certain",
			Remedy: "nothing: it comes back with another version, or uses HTTP/2; it may be a scanner",
		},
	}
	for _, sink := range r.sinks {
		sink.Handshake(event)
	}
}

// Dropped counts the records that were lost because the queue was full, their dissection failed, or a sink dropped
// them.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() + r.lost() }

// Close waits until every record that was handed over has reached the sinks. Later records are dropped.
func (r *Recorder) Close() {
	r.mu.Lock()
	already := r.closed
	r.closed = true
	r.mu.Unlock()
	if !already {
		close(r.queue)
	}
	// Every caller waits, and not only the first.
	r.workers.Wait()
}

// hand gives a frozen trace to the workers, or drops it: no connection ever waits for its record.
func (r *Recorder) hand(t *trace) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.closed {
		select {
		case r.queue <- t:
			return
		default:
		}
	}
	r.dropped.Add(1)
	t.release()
}

func (r *Recorder) work() {
	for t := range r.queue {
		r.deliver(t)
	}
}

// deliver dissects and delivers a record. Hostile bytes or a faulty sink may cost a record, never the program.
func (r *Recorder) deliver(t *trace) {
	id, released := t.id, false
	defer func() {
		if cause := recover(); cause != nil {
			r.dropped.Add(1)
			r.log.Error("handshake record lost", "id", id, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		}
		if !released {
			t.release()
		}
	}()

	event := r.dissect(t)
	// Both need the bytes of the trace, which is released behind them.
	if r.capture != nil {
		r.capture.add(t, event)
	}
	if r.packets != nil {
		r.packets.add(t, event)
	}

	t.release()
	released = true
	for _, sink := range r.sinks {
		sink.Handshake(event)
	}
}
