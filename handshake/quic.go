package handshake

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"

	"padlock/handshake/wire"
)

// QUIC records a handshake that travels inside QUIC (RFC 9001). Its messages never pass padlock in the open, so all
// its stages are inferred: from crypto/tls's callbacks, and from how QUIC says that the connection ended. It is safe
// for use from many goroutines.
type QUIC struct {
	recorder *Recorder

	mu       sync.Mutex
	trace    traceData
	hello    *wire.ClientHello
	reported bool
}

// QUICEnd is how a connection ended before its first request.
type QUICEnd struct {
	Err     error
	By      Side
	Alert   int // of TLS, -1 if none
	Timeout bool
}

// QUIC starts the record of a connection on which padlock is the server.
func (r *Recorder) QUIC(remote, local net.Addr) *QUIC {
	return &QUIC{recorder: r, trace: traceData{id: r.last.Add(1), side: Server, conn: ends{remote: remote, local: local}, start: time.Now()}}
}

// ends stands for a connection of which only the addresses count.
type ends struct {
	net.Conn
	remote, local net.Addr
}

func (e ends) RemoteAddr() net.Addr { return e.remote }
func (e ends) LocalAddr() net.Addr  { return e.local }

// ID counts connections from 1 in this process.
func (q *QUIC) ID() uint64 { return q.trace.id }

// Hello notes the client's hello, and the policy that it gets.
func (q *QUIC) Hello(info *tls.ClientHelloInfo, policy *tls.Config) {
	// The info belongs to crypto/tls and is used again, so its slices are copied.
	h := &wire.ClientHello{
		LegacyVersion: tls.VersionTLS12, CipherSuites: slices.Clone(info.CipherSuites), Extensions: slices.Clone(info.Extensions),
		ServerName: info.ServerName, Versions: slices.Clone(info.SupportedVersions), ALPN: slices.Clone(info.SupportedProtos),
	}
	for _, group := range info.SupportedCurves {
		h.Groups = append(h.Groups, uint16(group))
	}

	for _, scheme := range info.SignatureSchemes {
		h.SignatureAlgorithms = append(h.SignatureAlgorithms, uint16(scheme))
	}

	h.PSK, h.ECH = slices.Contains(h.Extensions, preSharedKey), slices.Contains(h.Extensions, encryptedHello)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hello, q.trace.policy, q.trace.marks.hello = h, policy, time.Since(q.trace.start)
}

const (
	preSharedKey   = 41     // RFC 8446 section 4.2
	encryptedHello = 0xfe0d // RFC 9849
)

// JA4 is the client's fingerprint, with q for QUIC; "" before its hello.
func (q *QUIC) JA4() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hello == nil {
		return ""
	}
	return q.hello.JA4('q')
}

// Certificate notes what GetCertificate chose; nil means that the name was refused.
func (q *QUIC) Certificate(certificate *tls.Certificate) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trace.certificate, q.trace.marks.certificate = certificate, time.Since(q.trace.start)
}

// Done notes that the handshake is complete.
func (q *QUIC) Done(state tls.ConnectionState) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trace.state, q.trace.done = state, time.Since(q.trace.start)
}

// FirstByte says that the first request has come; the record is complete. Further calls do nothing.
func (q *QUIC) FirstByte() { q.report(true, QUICEnd{Alert: noAlert}) }

// End says that the connection has ended.
func (q *QUIC) End(end QUICEnd) { q.report(false, end) }

func (q *QUIC) report(firstByte bool, end QUICEnd) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reported {
		return
	}

	q.reported = true
	q.trace.frozen, q.trace.firstByte, q.trace.end = true, firstByte, time.Since(q.trace.start)
	if q.trace.done == 0 {
		// An error after a complete handshake is the end of the connection, and no failure.
		q.trace.err = end.Err
	}
	event := q.event(end)
	for _, sink := range q.recorder.sinks {
		sink.Handshake(event)
	}
}

// event is called with the lock held.
func (q *QUIC) event(end QUICEnd) *Event {
	t := &trace{traceData: q.trace}
	d := &dissector{trace: t, recorder: q.recorder, verdictClock: t.start, event: &Event{ID: t.id, Start: t.start, QUIC: true}}
	d.addresses()
	d.summary()
	d.inferred(q.hello)
	d.judgeUnusedQUIC(q.hello, end)
	e := d.event
	switch {
	case e.Unused && end.Alert < 0:
		d.stage(Stage{Name: "close", From: Client, At: t.end, Label: Inferred, Text: "closed unused"})
	case e.Outcome == Complete:
		d.stage(Stage{Name: "first_byte", From: Client, At: t.end, Label: Inferred, Text: "the padlock is closed"})
	// In QUIC an alert travels in CONNECTION_CLOSE (RFC 9001 section 4.8), so it is known though nothing was
	// decrypted.
	case end.Alert >= 0:
		name := wire.AlertName(byte(end.Alert))
		d.stage(Stage{Name: "alert", From: end.By, At: t.end, Label: Inferred, Text: "alert " + name})
	default:
		d.stage(Stage{Name: "close", From: end.By, At: t.end, Label: Inferred, Text: "closed the connection"})
	}

	d.afterthoughts()
	d.timings()
	d.verdict()
	d.trusted = browser(d.hello) && q.recorder.rejections.trusted(e)
	if e.Outcome != Complete && e.Outcome != Unused {
		e.Failure = d.quicFailure(end)
	}

	switch {
	case e.Outcome == Silent && d.spare():
		e.Noise = spareNoise
	case e.Outcome == Failed && d.browsersOnly(end) && browser(d.hello):
		e.Noise = privateNoise
	}

	e.Notes = notes(d)
	e.After = q.recorder.rejections.relate(e)
	return e
}

// inferred adds the stages that must have happened for crypto/tls to have come as far as it has.
func (d *dissector) inferred(hello *wire.ClientHello) {
	if hello == nil {
		return
	}

	add := func(name string, from Side, at time.Duration, text string) *Stage {
		d.stage(Stage{Name: name, From: from, At: at, Label: Inferred, Text: text})
		return &d.event.Stages[len(d.event.Stages)-1]
	}

	d.helloStage(add("client_hello", Client, d.marks.hello, ""), hello, 1, 'q')
	e, answered := d.event, max(d.marks.certificate, d.marks.hello)
	if d.done == 0 {
		if c := e.Certificate; c != nil {
			add("certificate", Server, answered, c.text).fields = c.fields
		}
		return
	}

	text := "TLS " + wire.VersionName(e.Version) + " with " + e.CipherSuite
	if e.Group != "" {
		text += "; keys agreed by " + e.Group
	}
	if e.Resumed {
		text += "; your ticket is good, so no certificate is needed"
	}

	add("server_hello", Server, answered, text)
	add("encrypted_extensions", Server, answered, "we will talk "+e.ALPN)
	if c := e.Certificate; c != nil {
		s := add("certificate", Server, answered, c.text)
		s.fields = c.fields
		add("certificate_verify", Server, answered, "here is the proof that I hold its private key")
	}

	add("finished", Server, answered, "")
	if c := e.ClientCertificate; c != nil {
		add("certificate", Client, d.done, certificateText(c))
	}

	add("finished", Client, d.done, "")
}

// browsersOnly reports whether a browser has rejected a certificate of a private CA in QUIC, as they do whether they
// trust it or not. Those of Chrome's family say certificate_unknown for it.
func (d *dissector) browsersOnly(end QUICEnd) bool {
	c := d.event.Certificate
	rejected := end.Alert == 46 || (end.Alert == 42 || end.Alert == 48) && browser(d.hello)
	return end.By == Client && rejected && c != nil && c.local() && !faulty(d)
}

func (d *dissector) quicFailure(end QUICEnd) *Failure {
	f := &Failure{Stage: d.lastStage(), Alert: noAlert, By: end.By, Confidence: "likely"}
	defer f.classify()
	if end.Err != nil {
		f.GoError = Escape(end.Err.Error())
	}

	switch {
	// Looked at first, as the general rule for this alert would send people to install a CA that is installed
	// already.
	case d.browsersOnly(end):
		d.apply(f, rules, end.By, end.Alert)
		f.conclude(Client, "likely", "browsers use HTTP/3 only with certificates of public CAs; the page is served over HTTP/2 instead", issuer(d),
			"nothing; to keep browsers from trying: listen.http3: false. If the page itself fails: "+trustRemedy(d))
		f.Encrypted = true
	case end.Alert >= 0:
		d.apply(f, rules, end.By, end.Alert)
		f.Encrypted = true
	case d.event.Outcome == Silent && end.By == Server:
		f.conclude(Server, "likely", "the client sent nothing after a complete handshake, and padlock closed the connection (timeouts.idle, or its own end)", "", "nothing: browsers connect in advance")
	case d.afterwards(f):
	case end.Timeout && d.hello == nil:
		f.Cause, f.Remedy = "the client sent no whole hello within the handshake timeout", "nothing; many of these from one address are an attack: limit it"
	case end.Timeout:
		f.Cause, f.Remedy = "the client did not answer within the handshake timeout: packets are lost, or a firewall lets UDP through in one direction only", "check that UDP passes both ways; clients fall back to TCP"
	case end.By == Client && d.event.Certificate != nil:
		f.conclude(Client, "possible", "the client closed the connection during the handshake, without an alert: it gave up or was stopped, or "+distrust(d), doubt(d),
			"see the client's own error (padlock explain \"TEXT\"); "+distrustRemedy(d))
	case end.By == Client:
		f.conclude(Client, "possible", "the client closed the connection during the handshake, without an alert: it gave up or was stopped", "", clientLog(d))
	default:
		f.conclude(Server, "possible", "padlock closed the connection during the handshake", f.GoError, "read the error; clients fall back to TCP")
	}

	return f
}
