package handshake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"padlock/handshake/wire"
)

// A connection that a browser closes without a byte, and without an alert that rejects, is no failure; anybody else's is.
func TestSpareConnectionsOfBrowsersAreNoFailures(t *testing.T) {
	chromium := &wire.ClientHello{CipherSuites: []uint16{0x1301}, Extensions: []uint16{0x2a2a, 0}}
	firefox := &wire.ClientHello{CipherSuites: []uint16{0x1301}, Extensions: []uint16{0}, ECH: true}
	other := &wire.ClientHello{CipherSuites: []uint16{0x1301}, Extensions: []uint16{0}}
	rejected := seenAlert{from: Client, alert: wire.Alert{Level: 2, Description: 48}}
	goodbye := seenAlert{from: Client, alert: wire.Alert{Level: 1, Description: closeNotify}}
	ours := seenAlert{from: Server, alert: wire.Alert{Level: 2, Description: 70}}
	for name, test := range map[string]struct {
		hello   *wire.ClientHello
		outcome Outcome
		err     error // of the handshake
		read    error // afterwards
		alerts  []seenAlert
		faults  []string // of our certificate

		want  Outcome
		noise string
	}{
		"Chromium, complete":                      {hello: chromium, outcome: Silent, read: io.EOF, want: Complete},
		"Chromium, complete and reset":            {hello: chromium, outcome: Silent, read: errors.New("read: connection reset by peer"), want: Complete},
		"Firefox, complete":                       {hello: firefox, outcome: Silent, read: io.EOF, want: Complete},
		"Chromium, in the middle":                 {hello: chromium, outcome: Failed, err: io.EOF, want: Unused, noise: "spare"},
		"Firefox, in the middle, with a goodbye":  {hello: firefox, outcome: Failed, err: io.EOF, alerts: []seenAlert{goodbye}, want: Unused, noise: "spare"},
		"another client, complete":                {hello: other, outcome: Silent, read: io.EOF, want: Silent},
		"another client, in the middle":           {hello: other, outcome: Failed, err: io.EOF, want: Failed},
		"Chromium, alert":                         {hello: chromium, outcome: Failed, err: errors.New("remote error: tls: unknown certificate authority"), alerts: []seenAlert{rejected}, want: Failed},
		"Chromium, alert after Finished":          {hello: chromium, outcome: Silent, read: errors.New("remote error: tls: unknown certificate"), want: Silent},
		"Chromium, an alert of ours":              {hello: chromium, outcome: Failed, err: io.EOF, alerts: []seenAlert{ours}, want: Failed},
		"Chromium, complete, with a fault":        {hello: chromium, outcome: Silent, read: io.EOF, faults: []string{"it has expired"}, want: Complete},
		"Chromium, in the middle, with a fault":   {hello: chromium, outcome: Failed, err: io.EOF, faults: []string{"it has expired"}, want: Failed},
		"Chromium, and we gave up waiting for it": {hello: chromium, outcome: Failed, err: os.ErrDeadlineExceeded, want: Failed},
		"no hello": {outcome: Failed, err: io.EOF, want: Failed},
	} {
		d := &dissector{trace: &trace{}, hello: test.hello, alerts: test.alerts, event: &Event{Outcome: test.outcome, Certificate: &Certificate{Problems: test.faults}}}
		d.side, d.err, d.readErr = Server, test.err, test.read
		d.judgeUnused()
		if e := d.event; e.Outcome != test.want || e.Noise != test.noise || e.Unused != (test.want == Unused || test.want == Complete) {
			t.Errorf("%s: %s, noise %q, unused %v", name, e.Outcome, e.Noise, e.Unused)
		}
		if failure := diagnose(d); (failure == nil) != d.event.Unused {
			t.Errorf("%s: the failure is %+v", name, failure)
		}
	}
}

// Browsers use HTTP/3 only with public CAs: one that rejects another CA's certificate over QUIC has not failed. Any other client has.
func TestABrowserThatRejectsAPrivateCAOverQUICIsNoFailure(t *testing.T) {
	recorder := NewRecorder(Options{})
	defer recorder.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	authority := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: localName + " 1"}}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pair := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for name, test := range map[string]struct {
		extensions []uint16
		end        QUICEnd
		want       Outcome
	}{
		"a browser":              {[]uint16{0x3a3a}, QUICEnd{Err: io.EOF, By: Client, Alert: 42}, Unused},
		"Firefox, no alert":      {[]uint16{0xfe0d}, QUICEnd{Err: io.EOF, By: Client, Alert: -1}, Unused},
		"another client":         {[]uint16{0}, QUICEnd{Err: io.EOF, By: Client, Alert: 42}, Failed},
		"a browser, other alert": {[]uint16{0x3a3a}, QUICEnd{Err: io.EOF, By: Client, Alert: 40}, Failed},
		"our alert":              {[]uint16{0x3a3a}, QUICEnd{Err: io.EOF, By: Server, Alert: 42}, Failed},
	} {
		q := recorder.QUIC(&net.UDPAddr{}, &net.UDPAddr{})
		q.hello = &wire.ClientHello{Extensions: test.extensions}
		q.Certificate(pair)
		e := q.event(test.end)
		if e.Outcome != test.want || (e.Failure == nil) != (test.want == Unused) {
			t.Errorf("%s: %s, %+v", name, e.Outcome, e.Failure)
		}
		if test.want == Unused && (len(e.Notes) == 0 || e.Noise != "http3_private") {
			t.Errorf("%s: noise %q, notes %q", name, e.Noise, e.Notes)
		}
	}
}
