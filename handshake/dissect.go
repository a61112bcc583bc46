package handshake

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"time"

	"padlock/handshake/wire"
)

// dissector turns one trace into an event. It runs on a worker, after the trace was frozen.
type dissector struct {
	*trace
	event *Event

	hello        *wire.ClientHello
	tls13        bool
	clientDone   bool // a Finished was seen, or its ciphertext
	serverDone   bool
	alerts       []seenAlert
	undecrypted  bool // a record did not open under the handshake keys
	lastServerAt time.Duration
}

type seenAlert struct {
	from      Side
	alert     wire.Alert
	encrypted bool
}

func dissect(t *trace) *Event {
	d := &dissector{trace: t, event: &Event{
		ID: t.id, Start: t.start, Remote: t.remote, Local: t.local, Truncated: t.truncated,
		BytesIn: len(t.arena.in), BytesOut: len(t.arena.out),
	}}
	d.summary()
	if t.kind == "" {
		// The hello decides how the server's side is read, and the server's answer how the rest of the client's is.
		client, _ := wire.Records(t.arena.in)
		server, _ := wire.Records(t.arena.out)
		d.client(client[:plaintextHellos(client)])
		d.side(Server, server, t.secrets.server[:t.secrets.serverLength])
		d.client(nil)
		d.side(Client, client[plaintextHellos(client):], t.secrets.client[:t.secrets.clientLength])
	}
	d.end()
	slices.SortStableFunc(d.event.Stages, func(a, b Stage) int { return cmp.Compare(a.At, b.At) })
	d.event.Failure = diagnose(d)
	return d.event
}

// summary takes what crypto/tls says; the wire may add to it.
func (d *dissector) summary() {
	e, s := d.event, d.state
	e.SNI, e.ALPN, e.Resumed, e.Retried = Escape(s.ServerName), Escape(s.NegotiatedProtocol), s.DidResume, s.HelloRetryRequest
	e.Duration = d.done
	if d.done == 0 {
		e.Duration = d.trace.end
	}
	switch {
	case d.kind != "":
		e.Outcome = NotTLS
	case d.done == 0 || d.err != nil:
		e.Outcome = Failed
	case d.firstByte:
		e.Outcome = Complete
	default:
		e.Outcome = Silent
	}
	if e.Outcome == Complete || e.Outcome == Silent {
		e.Version, e.CipherSuite = s.Version, tls.CipherSuiteName(s.CipherSuite)
		if s.CurveID != 0 {
			e.Group = wire.GroupName(uint16(s.CurveID))
		}
	}
	d.tls13 = s.Version == tls.VersionTLS13
	if d.certificate != nil && !s.DidResume {
		e.Certificate = describe(d.certificate.Certificate)
	}
	if len(s.PeerCertificates) > 0 {
		e.ClientCertificate = describeParsed(s.PeerCertificates)
	}
}

// plaintextHellos counts the client's leading handshake records: everything up to its answer to our flight
// when TLS 1.3 encrypts that answer.
func plaintextHellos(records []wire.Record) int {
	for i, r := range records {
		if r.Type != wire.TypeHandshake {
			return i
		}
	}
	return len(records)
}

func (d *dissector) client(records []wire.Record) {
	if records != nil {
		d.side(Client, records, nil)
	}
}

// side walks one direction's records in order.
func (d *dissector) side(from Side, records []wire.Record, secret []byte) {
	var messages wire.Assembler
	var opener *wire.Decrypter
	changed := false // TLS 1.2: what follows ChangeCipherSpec is encrypted
	for _, r := range records {
		at := d.at(from, r)
		switch {
		case r.Type == wire.TypeChangeCipherSpec:
			changed = true
		case r.Type == wire.TypeAlert && !(changed && !d.tls13):
			d.plainAlert(from, at, r)
		case r.Type == wire.TypeHandshake && (d.tls13 || !changed):
			found, err := messages.Add(r.Fragment, r.Offset, r.End())
			for _, m := range found {
				d.message(from, at, m, Observed)
			}
			if err != nil {
				return
			}
		case r.Type == wire.TypeHandshake:
			d.finishedUnseen(from, at, r)
		case r.Type == wire.TypeApplicationData && d.tls13 && !d.finished(from):
			if opener == nil && len(secret) > 0 {
				opener, _ = wire.NewDecrypter(d.suite(), secret)
			}
			d.encrypted(from, at, r, opener, &messages)
		case r.Type == wire.TypeApplicationData && d.tls13 && from == Server && at <= d.done:
			d.stage(Stage{Name: "new_session_ticket", From: Server, At: at, Size: len(r.Fragment), Label: Inferred,
				Text: "a ticket to resume this session with next time"})
		case r.Type == wire.TypeAlert:
			d.stage(Stage{Name: "alert", From: from, At: at, Size: len(r.Fragment), Label: Observed, Text: "an encrypted alert"})
		}
	}
}

func (d *dissector) suite() uint16 {
	return d.state.CipherSuite
}

func (d *dissector) finished(from Side) bool {
	if from == Client {
		return d.clientDone
	}
	return d.serverDone
}

// encrypted opens a record under the handshake traffic keys.
func (d *dissector) encrypted(from Side, at time.Duration, r wire.Record, opener *wire.Decrypter, messages *wire.Assembler) {
	if opener == nil {
		return
	}
	kind, content, ok := opener.Open(r)
	switch {
	case !ok:
		d.undecrypted = true
	case kind == wire.TypeAlert:
		if a, ok := wire.ParseAlert(content); ok {
			d.alert(from, at, a, true)
		}
	case kind == wire.TypeHandshake:
		found, _ := messages.Add(content, r.Offset, r.End())
		for _, m := range found {
			d.message(from, at, m, Decrypted)
		}
	}
}

func (d *dissector) plainAlert(from Side, at time.Duration, r wire.Record) {
	if a, ok := wire.ParseAlert(r.Fragment); ok {
		d.alert(from, at, a, false)
	}
}

func (d *dissector) alert(from Side, at time.Duration, a wire.Alert, encrypted bool) {
	d.alerts = append(d.alerts, seenAlert{from, a, encrypted})
	label := Observed
	if encrypted {
		label = Decrypted
	}
	name := wire.AlertName(a.Description)
	d.stage(Stage{Name: "alert", From: from, At: at, Size: 2, Label: label, Text: "alert: " + name,
		Fields: []slog.Attr{slog.Int("alert", int(a.Description)), slog.String("alert_name", name)}})
}

// finishedUnseen is TLS 1.2's Finished, which is encrypted under keys that we do not keep.
func (d *dissector) finishedUnseen(from Side, at time.Duration, r wire.Record) {
	if d.finished(from) {
		return
	}
	d.markFinished(from)
	d.stage(Stage{Name: "finished", From: from, At: at, Size: len(r.Fragment), Label: Observed, Text: finishedText(from) + " (encrypted)"})
}

func (d *dissector) markFinished(from Side) {
	if from == Client {
		d.clientDone = true
	} else {
		d.serverDone = true
	}
}

func (d *dissector) stage(s Stage) {
	const maxStages = 64
	if len(d.event.Stages) < maxStages {
		d.event.Stages = append(d.event.Stages, s)
	}
}

// at is when the record was whole: the client's when its last byte was read, ours when it was about to be written.
func (d *dissector) at(from Side, r wire.Record) time.Duration {
	want := r.End() - 1
	if from == Server {
		want = r.Offset
	}
	at := time.Duration(0)
	for _, s := range d.segments {
		if s.from == from && want >= s.offset && want < s.offset+s.length {
			at = s.at
		}
	}
	if from == Server {
		d.lastServerAt = max(d.lastServerAt, at)
	}
	return at
}

// end adds what happened last.
func (d *dissector) end() {
	switch {
	case d.event.Outcome == Complete:
		d.stage(Stage{Name: "first_byte", From: Client, At: d.trace.end, Label: Observed, Text: "the padlock is closed"})
	case d.kind != "":
		d.stage(Stage{Name: "close", From: Client, At: d.trace.end, Size: len(d.arena.in), Label: Observed, Text: "not TLS: " + kindText(d.kind)})
	case d.event.Outcome == Silent:
		d.stage(Stage{Name: "close", From: Client, At: d.trace.end, Label: Observed, Text: "closed without sending one byte"})
	}
}

// describe parses the chain that we send; nil when its leaf does not parse.
func describe(chain [][]byte) *Certificate {
	if len(chain) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil
	}
	c := describeParsed([]*x509.Certificate{leaf})
	c.ChainLength, c.ChainBytes = len(chain), 0
	for _, der := range chain {
		c.ChainBytes += len(der)
	}
	return c
}

func describeParsed(chain []*x509.Certificate) *Certificate {
	leaf := chain[0]
	c := &Certificate{
		Subject: Escape(leaf.Subject.CommonName), Issuer: Escape(leaf.Issuer.CommonName),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, KeyType: leaf.PublicKeyAlgorithm.String(), ChainLength: len(chain),
	}
	for _, link := range chain {
		c.ChainBytes += len(link.Raw)
	}
	if len(leaf.Subject.Organization) > 0 {
		c.Organization = Escape(leaf.Subject.Organization[0])
	}
	for _, name := range leaf.DNSNames {
		c.Names = append(c.Names, Escape(name))
	}
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	if c.Subject == "" && len(c.Names) > 0 {
		c.Subject = c.Names[0]
	}
	return c
}
