package handshake

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"padlock/handshake/wire"
	"padlock/internal/pool"
)

// dissector turns one trace into an event. It runs on a worker, after the trace was frozen.
type dissector struct {
	*trace
	recorder *Recorder
	event    *Event

	hello        *wire.ClientHello // the last one
	chosen       *wire.ServerHello // not a retry
	tls13        bool
	requested    bool // the server asked for a client certificate
	clientDone   bool // a Finished was seen, or its ciphertext
	clientData   bool // more than an alert was seen behind it: the client went on, and so has accepted our certificate
	serverDone   bool
	alerts       []seenAlert
	authorities  [][]byte // distinguished names of the CAs that clients' certificates may be from
	trusted      bool     // a client with the same fingerprint and name completed a handshake shortly before
	undecrypted  bool     // a record did not open under the handshake keys
	plaintext    []byte
	verdictClock time.Time
}

// plaintexts are room for what one dissection decrypts; what does not fit is allocated. Nothing of an event is a part
// of it.
var plaintexts = pool.Of(func(b *[16 << 10]byte) []byte { return b[:] })

type seenAlert struct {
	from      Side
	alert     wire.Alert
	encrypted bool
}

func (r *Recorder) dissect(t *trace) *Event {
	d := &dissector{trace: t, recorder: r, verdictClock: t.start, event: &Event{
		ID: t.id, Start: t.start, Truncated: t.truncated, BytesIn: len(t.in), BytesOut: len(t.out),
		Stages: make([]Stage, 0, 12),
	}}
	room := plaintexts.Get()
	defer plaintexts.Put(room)
	d.plaintext = room[:0]
	// The order matters: each step uses what those before it have found.
	d.notRecords()
	d.addresses()
	d.summary()
	if t.kind == "" || t.kind == "tls_on_plain" {
		// The hello decides how the server's side is read, and the server's answer how the rest of the client's is.
		client, _ := wire.Records(make([]wire.Record, 0, 8), t.in)
		server, _ := wire.Records(make([]wire.Record, 0, 8), t.out)
		// A retry has two hellos, both in plaintext, and what follows is encrypted.
		hellos := plaintextHellos(client)
		d.records(Client, client[:hellos], nil)
		d.records(Server, server, t.secrets.server[:t.secrets.serverLength])
		d.records(Client, client[hellos:], t.secrets.client[:t.secrets.clientLength])
	}

	d.judgeUnused()
	d.end()
	// The two directions were read one after the other. The story is in the order of time.
	slices.SortStableFunc(d.event.Stages, func(a, b Stage) int { return cmp.Compare(a.At, b.At) })
	d.afterthoughts()
	d.timings()
	d.verdict()
	// Looked up before the diagnosis, and recorded after it, so that a connection does not testify for itself.
	d.trusted = browser(d.hello) && r.rejections.trusted(d.event)
	d.event.Failure = diagnose(d)
	d.event.Noise = cmp.Or(d.event.Noise, noise(d))
	d.event.Notes = notes(d)
	d.event.After = r.rejections.relate(d.event)
	return d.event
}

// notRecords sees what crypto/tls has seen: that the first bytes are no record of TLS, though the first of all could
// be.
func (d *dissector) notRecords() {
	var header tls.RecordHeaderError
	if d.side == Server && d.kind == "" && len(d.out) == 0 && errors.As(d.err, &header) {
		d.kind = Recognise(d.in)
	}
}

func (d *dissector) addresses() {
	client, server := d.conn.RemoteAddr().String(), d.conn.LocalAddr().String()
	// Events speak of client and server, whichever of them padlock is.
	if d.side == Client {
		client, server = server, client
	}
	d.event.Remote, d.event.Local = d.recorder.privacy.address(client), server
}

// summary takes what crypto/tls says; the wire may add to it.
func (d *dissector) summary() {
	e, s := d.event, &d.state
	e.SNI, e.ALPN = d.recorder.privacy.name(s.ServerName), Escape(s.NegotiatedProtocol)
	e.Resumed, e.Retried, e.ECH = s.DidResume, s.HelloRetryRequest, s.ECHAccepted
	e.Duration = d.done
	if d.done == 0 {
		e.Duration = d.trace.end
	}

	switch {
	case d.kind != "":
		e.Outcome = NotTLS
	case d.done == 0 || d.err != nil:
		e.Outcome = Failed
	// A validating CA closes without a byte of data, and a client of ours has nothing to prove.
	case d.firstByte || s.NegotiatedProtocol == acmeProtocol || d.side == Client:
		e.Outcome = Complete
	default:
		e.Outcome = Silent
	}

	if e.Outcome == Complete || e.Outcome == Silent {
		e.Version, e.CipherSuite = s.Version, wire.SuiteName(s.CipherSuite)
		if s.CurveID != 0 {
			e.Group = wire.GroupName(uint16(s.CurveID))
		}
	}

	e.Validation = s.NegotiatedProtocol == acmeProtocol
	d.tls13 = s.Version == tls.VersionTLS13
	// In a resumed session no certificate is sent, even if GetCertificate was asked.
	if d.certificate != nil && !s.DidResume {
		e.Certificate = d.recorder.certificates.describe(d.certificate, &d.recorder.knowledge)
	}

	if peers := s.PeerCertificates; len(peers) > 0 && d.side == Server {
		e.ClientCertificate = describePeer(peers)
	}
}

func describePeer(chain []*x509.Certificate) *Certificate {
	c := describeLeaf(chain[0])
	c.ChainLength = len(chain)
	for _, p := range chain {
		c.ChainBytes += len(p.Raw)
	}
	return c
}

const acmeProtocol = "acme-tls/1" // RFC 8737 section 6.2

// plaintextHellos counts the client's leading handshake records: everything up to its answer to the server's flight
// when TLS 1.3 encrypts that answer.
func plaintextHellos(records []wire.Record) int {
	for i, r := range records {
		if r.Type != wire.TypeHandshake {
			return i
		}
	}
	return len(records)
}

// records walks one direction in order. TLS 1.3's handshake records open with the secret.
func (d *dissector) records(from Side, records []wire.Record, secret []byte) {
	w := walker{d: d, from: from, secret: secret}
	for _, r := range records {
		if !w.record(r, d.at(from, r)) {
			return
		}
	}
}

// walker is the state of one direction.
type walker struct {
	d        *dissector
	from     Side
	secret   []byte
	messages wire.Assembler
	opener   *wire.Decrypter
	changed  bool // ChangeCipherSpec has passed: in TLS 1.2 the rest is encrypted
	given    bool // a ticket that we cannot read has a stage already
}

// record reports false when the rest cannot be read.
func (w *walker) record(r wire.Record, at time.Duration) bool {
	d := w.d
	switch r.Type {
	// In TLS 1.3 the record is a decoy for middleboxes (RFC 8446 appendix D.4), and means nothing.
	case wire.TypeChangeCipherSpec:
		w.changed = true
		if !d.tls13 {
			d.stage(Stage{Name: "change_cipher_spec", From: w.from, At: at, Size: len(r.Fragment), Label: Observed, Text: "what I send from here on is encrypted"})
		}
	case wire.TypeAlert:
		if w.changed && !d.tls13 {
			d.stage(Stage{Name: "alert", From: w.from, At: at, Size: len(r.Fragment), Label: Observed, Text: "an encrypted alert"})
		} else if a, ok := wire.ParseAlert(r.Fragment); ok {
			d.alert(w.from, at, a, false)
		}
	case wire.TypeHandshake:
		if !d.tls13 && w.changed {
			d.finishedUnseen(w.from, at, r)
			// Finished of TLS 1.2 is under keys that are never kept, so its presence is all that can be shown.
			return true
		}
		return w.plaintext(r.Fragment, r, at, Observed)
	case wire.TypeApplicationData:
		if d.tls13 {
			return w.ciphertext(r, at)
		}
		d.clientData = d.clientData || w.from == Client && d.clientDone
	}
	return true
}

func (w *walker) plaintext(content []byte, r wire.Record, at time.Duration, label Label) bool {
	found, err := w.messages.Add(content, r.Offset, r.End())
	for _, m := range found {
		w.d.message(w.from, at, m, label)
	}
	return err == nil
}

// ciphertext opens a record under the handshake traffic keys, until Finished; what follows is under keys that are never
// kept.
func (w *walker) ciphertext(r wire.Record, at time.Duration) bool {
	d := w.d
	if d.finished(w.from) {
		w.beyond(r, at)
		return true
	}

	if w.opener == nil {
		var err error
		// Without the key log or the server's choice, the records stay closed, and the story goes on without them.
		if len(w.secret) == 0 || d.chosen == nil {
			return true
		}
		if w.opener, err = wire.NewDecrypter(d.chosen.CipherSuite, w.secret); err != nil {
			return false
		}
	}

	kind, content, ok := w.opener.Open(d.plaintext[len(d.plaintext):], r)
	if len(d.plaintext)+len(content) <= cap(d.plaintext) {
		// Later content goes behind this: messages may alias the bytes.
		d.plaintext = d.plaintext[:len(d.plaintext)+len(content)]
	}

	switch {
	// Early data and corrupted records do not open. Both matter for the diagnosis.
	case !ok:
		d.undecrypted = true
	case kind == wire.TypeAlert:
		if a, ok := wire.ParseAlert(content); ok {
			d.alert(w.from, at, a, true)
		}
	case kind == wire.TypeHandshake:
		return w.plaintext(content, r, at, Decrypted)
	}

	return true
}

// beyond notes a record behind Finished, which stays closed: that it came is all that is known.
func (w *walker) beyond(r wire.Record, at time.Duration) {
	d := w.d
	d.clientData = d.clientData || w.from == Client && len(r.Fragment) != encryptedAlert
	// Tickets come right after the handshake. What a server sends later is the application's.
	if w.from == Server && !w.given && (d.done == 0 || at <= d.done) {
		w.given = true
		d.stage(Stage{Name: "new_session_ticket", From: Server, At: at, Size: len(r.Fragment), Label: Inferred, Text: "a ticket to resume this session with next time"})
	}
}

// encryptedAlert is the size of an alert under TLS 1.3's keys: level, description, type and tag (RFC 8446 section 5.2).
const encryptedAlert = 2 + 1 + 16

func (d *dissector) finished(from Side) bool {
	if from == Client {
		return d.clientDone
	}
	return d.serverDone
}

func (d *dissector) alert(from Side, at time.Duration, a wire.Alert, encrypted bool) {
	d.alerts = append(d.alerts, seenAlert{from, a, encrypted})
	label := Observed
	if encrypted {
		label = Decrypted
	}
	name := wire.AlertName(a.Description)
	d.stage(Stage{Name: "alert", From: from, At: at, Size: 2, Label: label, Text: "alert " + name,
		fields: []slog.Attr{slog.Int("alert", int(a.Description)), slog.String("alert_name", name)}})
}

// finishedUnseen is TLS 1.2's Finished, which is encrypted under keys that are never kept.
func (d *dissector) finishedUnseen(from Side, at time.Duration, r wire.Record) {
	if d.finished(from) {
		return
	}
	d.markFinished(from)
	d.stage(Stage{Name: "finished", From: from, At: at, Size: len(r.Fragment), Label: Observed, Text: " (encrypted)"})
}

func (d *dissector) markFinished(from Side) {
	if from == Client {
		d.clientDone = true
	} else {
		d.serverDone = true
	}
}

const maxStages = 64

func (d *dissector) stage(s Stage) {
	if len(d.event.Stages) < maxStages {
		d.event.Stages = append(d.event.Stages, s)
	}
}

// at is when the record was whole: the peer's when its last byte was read, ours when it was about to be written.
func (d *dissector) at(from Side, r wire.Record) time.Duration {
	// A record that came in several reads is whole only with the last of them.
	want := int32(r.End() - 1)
	if from == d.side {
		want = int32(r.Offset)
	}
	for _, s := range d.segments[:d.count] {
		if s.fromServer == (from == Server) && want >= s.offset && want < s.offset+s.length {
			return s.at
		}
	}
	return 0
}

// end adds what happened last.
func (d *dissector) end() {
	switch {
	case d.kind != "":
		d.close(Client, "not TLS: "+d.spoken().name, len(d.in))
	case d.event.Validation:
		d.close(Server, "the CA has seen our answer to its challenge", 0)
	case d.event.Outcome == Complete && d.firstByte:
		d.stage(Stage{Name: "first_byte", From: peer(d.side), At: d.trace.end, Label: Observed, Text: "the padlock is closed"})
	case d.event.Unused && d.event.Outcome == Complete:
		d.close(Client, "closed unused", 0)
	case d.event.Outcome == Silent && (d.refused != "" || d.weClosed()):
		d.close(Server, "closed the connection, on which no data came", 0)
	case d.event.Outcome == Silent && d.reset():
		d.close(Client, "reset without one byte of data", 0)
	case d.event.Outcome == Silent:
		d.close(Client, "closed without one byte of data", 0)
	case len(d.alerts) == 0 && d.reset():
		d.close(Client, "reset the connection", 0)
	case len(d.alerts) == 0 && d.ended():
		d.close(Client, "closed the connection", 0)
	}
}

// peer is the other side.
func peer(side Side) Side {
	if side == Server {
		return Client
	}
	return Server
}

func (d *dissector) close(from Side, text string, size int) {
	d.stage(Stage{Name: "close", From: from, At: d.trace.end, Size: size, Label: Observed, Text: text})
}

// ended and reset say how the connection below ended, as far as it was seen.
func (d *dissector) ended() bool { return errors.Is(d.netErr, io.EOF) }
func (d *dissector) reset() bool {
	return d.netErr != nil && (errors.Is(d.netErr, syscall.ECONNRESET) || errors.Is(d.netErr, syscall.EPIPE) || strings.Contains(d.netErr.Error(), "connection reset"))
}

// timings come from marks inside crypto/tls and from the wire.
func (d *dissector) timings() {
	t, m := &d.event.Timings, d.marks
	t.RoundTrip = d.rtt
	if t.RoundTrip == 0 {
		t.RoundTrip = roundTrip(d.conn)
	}

	between := func(from, to time.Duration) time.Duration {
		if from == 0 || to <= from {
			return 0
		}
		return to - from
	}

	var flight, answer time.Duration
	for _, s := range d.event.Stages {
		switch {
		case s.From == Server && s.Name == "finished", s.From == Server && s.Name == "server_hello_done":
			flight = max(flight, s.At)
		case s.From == Client && s.Name == "finished":
			answer = s.At
		}
	}

	t.KeyExchange = between(m.hello, m.certificate)
	t.KeySchedule = between(m.certificate, m.keys)
	t.Signing = between(m.keys, m.signed)
	// TLS 1.2 has no moment between choosing the certificate and the end of the flight that could be observed.
	if d.chosen != nil && !d.tls13 && !d.event.Resumed {
		t.KeyExchange, t.Signing = 0, between(m.certificate, flight)
	}
	if !d.event.Resumed || d.tls13 {
		t.Client = between(flight, answer)
	}
}

// verdict judges the certificate that was sent for the name that was asked for.
func (d *dissector) verdict() {
	if c := d.event.Certificate; c != nil {
		name := ""
		if d.hello != nil {
			name = strings.ToLower(d.hello.ServerName)
			// The outer name is that of the public server. The certificate is for the inner one.
			if d.event.ECH {
				name = d.state.ServerName
			}
		}

		if host, _, err := net.SplitHostPort(d.event.Local); name == "" && err == nil && !c.dotless() {
			// Clients that connect to an address send no server name, and expect the address in the certificate.
			name = host
		}
		d.event.Certificate = c.against(name, d.verdictClock)
	}
}
