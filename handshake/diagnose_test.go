package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/handshake/wire"
)

// One alert's name may begin another's: the longest counts. Without a name, crypto/tls's own words do.
func TestAnErrorsAlertIsTheWholeOfItsName(t *testing.T) {
	for number := range 256 {
		if strings.HasPrefix(wire.AlertName(byte(number)), "alert_") {
			continue
		}
		for before, side := range map[string]Side{"remote error: ": Client, "local error: ": Server} {
			err := errors.New(before + tls.AlertError(number).Error())
			if by, alert, ok := alertOf(err); !ok || by != side || alert != number {
				t.Errorf("%v: %s %d", err, by, alert)
			}
		}
	}
	if _, _, ok := alertOf(io.EOF); ok {
		t.Error("an end is no alert")
	}
	if by, alert, ok := alertOf(errors.New("tls: client didn't provide a certificate")); !ok || by != Server || alert != 116 {
		t.Errorf("%s %d", by, alert)
	}
}

// A success is related to a rejection, and an unused connection to a success, only where client, name and fingerprint are the same.
func TestTheSameClientHasTheSameFingerprint(t *testing.T) {
	event := func(outcome Outcome, ja4 string) *Event {
		e := &Event{ID: 1, Start: time.Now(), Remote: "192.0.2.1:5", SNI: "a.example", JA4: ja4, Outcome: outcome, Certificate: &Certificate{}}
		if outcome == Failed {
			e.Failure = &Failure{By: Client}
		}
		return e
	}
	var r rejections
	r.relate(event(Failed, "curl"))
	if r.relate(event(Complete, "browser")) != nil {
		t.Error("a browser is taken for curl")
	}
	if r.relate(event(Complete, "curl")) == nil {
		t.Error("curl's own success is not related")
	}
	if !r.trusted(event(Silent, "curl")) || r.trusted(event(Silent, "another")) || r.trusted(event(Silent, "")) {
		t.Error("who has accepted the certificate is not who did")
	}
	r.relate(event(Failed, "curl"))
	if r.trusted(event(Silent, "curl")) {
		t.Error("a client that has rejected the certificate since is trusted")
	}
}

// silentTrace is a handshake that was complete, and brought no data.
func silentTrace(change func(*dissector)) *Failure {
	d := &dissector{trace: &trace{traceData: traceData{side: Server, done: time.Millisecond}}, recorder: &Recorder{}, event: &Event{Outcome: Silent, Certificate: &Certificate{Issuer: "Root", Names: []string{"a.example"}}}}
	change(d)
	return diagnose(d)
}

// Who has closed after the handshake is taken from our own code and what was read, and never guessed.
func TestWhoClosedAfterTheHandshakeIsNotGuessed(t *testing.T) {
	local := func(text string) error { return fmt.Errorf("local error: tls: %s", text) }
	for name, c := range map[string]struct {
		change     func(*dissector)
		by         Side
		cause      string
		confidence string
	}{
		"the client, silently":                     {func(d *dissector) { d.readErr, d.netErr = io.EOF, io.EOF }, Client, "it does not trust the CA", "possible"},
		"the client, by reset":                     {func(d *dissector) { d.readErr, d.netErr = syscall.ECONNRESET, syscall.ECONNRESET }, Client, "does not trust the CA", "possible"},
		"reset while we wrote":                     {func(d *dissector) { d.netErr = syscall.EPIPE }, Client, "does not trust the CA", "possible"},
		"the client, with an alert":                {func(d *dissector) { d.readErr = errors.New("remote error: tls: unknown certificate authority") }, Client, "does not trust the CA", "likely"},
		"our deadline":                             {func(d *dissector) { d.readErr = os.ErrDeadlineExceeded }, Server, "padlock closed the connection", "certain"},
		"our end, of a connection that was parked": {func(*dissector) {}, Server, "padlock closed the connection", "certain"},
		"our end":   {func(d *dissector) { d.readErr = net.ErrClosed }, Server, "padlock closed the connection", "certain"},
		"our alert": {func(d *dissector) { d.readErr = local("bad record MAC") }, Server, "could not be decrypted", "possible"},
		"renegotiation": {func(d *dissector) {
			d.readErr = errors.New("tls: received unexpected handshake message of type *tls.clientHelloMsg when waiting for *tls.helloRequestMsg")
		}, Server, "renegotiate", "certain"},
		"our own reason":     {func(d *dissector) { d.refused, d.refusedRemedy, d.readErr = "the target is away", "start it", io.EOF }, Server, "the target is away", "certain"},
		"a spare connection": {func(d *dissector) { d.trusted, d.readErr, d.netErr = true, io.EOF, io.EOF }, Client, "a connection in advance", "likely"},
		"the client, with data that was not read": {func(d *dissector) {
			d.clientData, d.netErr = true, syscall.ECONNRESET
		}, Client, "the client accepted our certificate and sent data", "likely"},
		"our end, with data that was not read":      {func(d *dissector) { d.clientData = true }, Client, "the client accepted our certificate and sent data", "likely"},
		"the client, with a goodbye that is padded": {func(d *dissector) { d.clientData, d.readErr = true, io.EOF }, Client, "it does not trust the CA", "possible"},
		"the client, after a while": {func(d *dissector) {
			d.readErr, d.netErr, d.trace.end = io.EOF, io.EOF, 5*time.Second
		}, Client, "it waits for the server to speak first", "possible"},
		"the client, with a key of its own": {func(d *dissector) {
			d.hello, d.readErr, d.netErr = &wire.ClientHello{PSK: true, ExternalPSK: true}, io.EOF, io.EOF
		}, Client, "it offered a pre-shared key", "possible"},
		"the client, which asked for a status": {func(d *dissector) {
			d.event.Certificate.faults = []fault{{faultStaple, browsers, "it demands a stapled OCSP response (must-staple), and none is sent"}}
			d.hello, d.readErr, d.netErr = &wire.ClientHello{Extensions: []uint16{statusRequest}}, syscall.ECONNRESET, syscall.ECONNRESET
		}, Client, "because it rejected our certificate", "likely"},
		"the client, though only browsers mind": {func(d *dissector) {
			d.event.Certificate.faults = []fault{{faultLifetime, browsers, "it is valid for 1000 days"}}
			d.event.Certificate.Problems = texts(d.event.Certificate.faults, browsers)
			d.readErr, d.netErr = io.EOF, io.EOF
		}, Client, "issued by Root; it is valid for 1000 days", "possible"},
		"a hello of a second handshake, by TLS 1.3": {func(d *dissector) {
			d.readErr = errors.New("tls: received unexpected handshake message of type *tls.clientHelloMsg")
		}, Server, "renegotiate", "certain"},
		"another message of a second handshake": {func(d *dissector) {
			d.readErr = errors.New("tls: received unexpected handshake message of type *tls.finishedMsg when waiting for *tls.helloRequestMsg")
		}, Server, "a message out of turn", "likely"},
		"an unused resumption": {func(d *dissector) { d.event.Certificate, d.readErr, d.netErr = nil, io.EOF, io.EOF }, Client, "on a session that it resumed", "possible"},
	} {
		t.Run(name, func(t *testing.T) {
			f := silentTrace(c.change)
			if f.By != c.by || !strings.Contains(f.Cause, c.cause) || f.Confidence != c.confidence || f.Remedy == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// A client that has sent data in its handshake's end has accepted our certificate, however the connection ends.
func TestAClientThatSentDataIsNotSaidToDistrust(t *testing.T) {
	for _, end := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE} {
		d := &dissector{
			trace: &trace{traceData: traceData{side: Server, err: end, netErr: end, done: time.Millisecond}, in: []byte("hello"), out: []byte("flight")}, recorder: &Recorder{},
			event: &Event{Outcome: Failed, Certificate: &Certificate{Issuer: "Root"}}, hello: &wire.ClientHello{}, clientDone: true,
		}
		if f := diagnose(d); !strings.Contains(f.Cause, "the CA") {
			t.Errorf("%v, without data: %+v", end, f)
		}
		d.clientData = true
		if f := diagnose(d); strings.Contains(f.Cause, "the CA") || !strings.Contains(f.Cause, "accepted our certificate") || f.Confidence != "likely" {
			t.Errorf("%v: %+v", end, f)
		}
	}
}

// Of a client's chain, what crypto/tls refuses may be above the client's own certificate, and is not blamed on it.
func TestWhatIsWrongAboveAClientsCertificateIsNotItsOwnFault(t *testing.T) {
	m := &maker{t: t}
	past := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}
	client := func(by *made, change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if change != nil {
			change(c)
		}
		return m.make(c, nil, by).Certificate
	}
	root, namesake := m.ca("Root", nil, nil), m.ca("Root", nil, nil)
	stale := m.ca("Stale", nil, past)
	staleMiddle := m.ca("Stale Middle", root, past)
	servers := m.ca("Servers", root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	noCA := m.make(&x509.Certificate{Subject: pkix.Name{CommonName: "No CA"}, BasicConstraintsValid: true}, nil, nil)
	sha1 := func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }

	for name, c := range map[string]struct {
		accepted   *made
		sent       []*x509.Certificate
		want       string
		confidence string
	}{
		"its own dates":             {root, []*x509.Certificate{client(root, past)}, "the client's certificate has expired", "certain"},
		"the CA's dates":            {stale, []*x509.Certificate{client(stale, nil)}, "a CA certificate above the client's has expired", "likely"},
		"an intermediate's dates":   {root, []*x509.Certificate{client(staleMiddle, nil), staleMiddle.Certificate}, "a CA certificate above the client's has expired", "likely"},
		"its own purpose":           {root, []*x509.Certificate{client(root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, "is not for clients", "certain"},
		"an intermediate's purpose": {root, []*x509.Certificate{client(servers, nil), servers.Certificate}, "may not sign for clients", "likely"},
		"an algorithm of old":       {root, []*x509.Certificate{client(root, sha1)}, "an algorithm that nobody accepts any more", "likely"},
		"a CA that is none":         {noCA, []*x509.Certificate{client(noCA, nil)}, "is not that of a CA", "likely"},
		"a CA that was replaced":    {root, []*x509.Certificate{client(namesake, nil)}, "is not signed by its key", "certain"},
		"another's intermediate":    {root, []*x509.Certificate{client(stale, nil), servers.Certificate}, "do not lead there", "likely"},
		"without its intermediate":  {root, []*x509.Certificate{client(servers, nil)}, "its intermediate certificate was not sent", "likely"},
		"from nobody but itself":    {root, []*x509.Certificate{client(nil, nil)}, "is self-signed", "certain"},
	} {
		t.Run(name, func(t *testing.T) {
			o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
			o.Roots.AddCert(c.accepted.Certificate)
			var chain [][]byte
			for i, sent := range c.sent {
				chain = append(chain, sent.Raw)
				if i > 0 {
					o.Intermediates.AddCert(sent)
				}
			}
			_, err := c.sent[0].Verify(o)
			d := &dissector{
				trace: &trace{traceData: traceData{side: Server, err: &tls.CertificateVerificationError{Err: err}, done: 1}}, recorder: &Recorder{}, verdictClock: time.Now(),
				event: &Event{Outcome: Failed, ClientCertificate: describeClient(chain)}, authorities: [][]byte{c.accepted.RawSubject},
			}
			if f := diagnose(d); f.By != Server || !strings.Contains(f.Cause, c.want) || f.Confidence != c.confidence {
				t.Errorf("%v: %+v", err, f)
			}
		})
	}
}

// OpenSSL has an alert for each kind of reason, and sends it in plaintext: one about names and keys is none about trust.
func TestOpenSSLsAlertsSayWhatItIsNot(t *testing.T) {
	for _, c := range []struct {
		alert     byte
		encrypted bool
		faults    []fault
		want      string
		never     string
	}{
		{42, false, nil, "its security level demands a stronger key", "so it does not trust the CA"},
		{42, true, nil, "so it does not trust the CA", "OpenSSL would say"},
		{46, false, nil, "by a rule of its own", "so it does not trust the CA"},
		{46, false, []fault{{faultForm, strict, "it has no authority key identifier"}}, "Python 3.13 and later set) mind something: it has no authority key identifier", "does not trust"},
		{46, true, []fault{{faultForm, strict, "it has no authority key identifier"}}, "so it does not trust the CA", "authority key identifier"},
		{43, false, nil, "for another purpose", "key type"},
		{42, false, []fault{{faultExpired, everybody, "it expired"}}, "it expired", "security level"},
	} {
		d := &dissector{
			trace: &trace{traceData: traceData{side: Server, err: errors.New("local error: tls: bad record MAC")}}, recorder: &Recorder{},
			event: &Event{Outcome: Failed, Certificate: &Certificate{Issuer: "Root", Names: []string{"a.example"}, KeyType: "ECDSA P-256", faults: c.faults}},
			hello: &wire.ClientHello{ServerName: "a.example"}, chosen: &wire.ServerHello{}, tls13: true,
			alerts: []seenAlert{{Client, wire.Alert{Level: 2, Description: c.alert}, c.encrypted}},
		}
		if f := diagnose(d); !strings.Contains(f.Cause, c.want) || strings.Contains(f.Cause, c.never) || f.Confidence != "likely" {
			t.Errorf("alert %d, encrypted: %v: %+v", c.alert, c.encrypted, f)
		}
	}
}

// A remedy can be followed: it names the file and key where they are ours, the command where it is the client's, and never padlock trust
// for what the local CA did not issue.
func TestRemediesFitWhereTheCertificateComesFrom(t *testing.T) {
	expired := []fault{{faultExpired, everybody, "it expired"}}
	chain := []fault{{faultChain, everybody, "its chain is incomplete"}}
	for name, c := range map[string]struct {
		certificate Certificate
		remedy      func(*dissector) string
		want, never string
	}{
		"local CA":             {Certificate{Issuer: "padlock local CA 1"}, trustRemedy, "padlock trust", "chain"},
		"a file, self-signed":  {Certificate{selfSigned: true, origin: Origin{Kind: "file", File: "a.pem", Key: "certificates.files[0]"}}, trustRemedy, "a.pem (certificates.files[0])", "padlock trust"},
		"a file, alone":        {Certificate{alone: true, Issuer: "Middle", origin: Origin{Kind: "file", File: "a.pem"}}, trustRemedy, "put the certificate of Middle behind the own one in a.pem", "padlock trust"},
		"a file of another CA": {Certificate{Issuer: "Corp", origin: Origin{Kind: "file", File: "a.pem"}}, trustRemedy, "install the root Corp", "padlock trust"},
		"a public CA":          {Certificate{Issuer: "R11", leaf: nil, origin: Origin{Kind: "acme"}}, trustRemedy, "", "padlock trust"},
		"a test CA":            {Certificate{Issuer: "(STAGING) Riddling Rhubarb R12", origin: Origin{Kind: "acme", Test: true}}, trustRemedy, "certificates.staging to false", "padlock trust"},
		"an expired file":      {Certificate{faults: expired, origin: Origin{Kind: "file", File: "a.pem", Key: "certificates.files[2]"}}, certificateRemedy, "replace a.pem (certificates.files[2]) with a renewed", "padlock trust"},
		"expired, and managed": {Certificate{faults: expired, origin: Origin{Kind: "acme"}}, certificateRemedy, "padlock certs list", "padlock trust"},
		"an incomplete file":   {Certificate{faults: chain, origin: Origin{Kind: "file", File: "a.pem"}}, certificateRemedy, "put the whole chain into a.pem", "padlock trust"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dissector{trace: &trace{}, event: &Event{Certificate: &c.certificate}}
			if got := c.remedy(d); !strings.Contains(got, c.want) || strings.Contains(got, c.never) {
				t.Error(got)
			}
		})
	}
	oldest := &dissector{trace: &trace{traceData: traceData{policy: &tls.Config{MinVersion: tls.VersionTLS12}}}, hello: &wire.ClientHello{LegacyVersion: tls.VersionTLS10}}
	if got := versionRemedy(oldest); strings.Contains(got, "min_version") {
		t.Error(got)
	}
}

// A key of another type is advised only where the client offers signatures of such a key.
func TestAnotherKeyIsAdvisedOnlyWhereItHelps(t *testing.T) {
	pss, pkcs1, sha1 := uint16(tls.PSSWithSHA256), uint16(tls.PKCS1WithSHA256), []uint16{uint16(tls.PKCS1WithSHA1), uint16(tls.ECDSAWithSHA1)}
	p256, p384 := uint16(tls.ECDSAWithP256AndSHA256), uint16(tls.ECDSAWithP384AndSHA384)
	for _, c := range []struct {
		ours    string
		version uint16
		offers  []uint16
		want    string
	}{
		{"ECDSA P-256", tls.VersionTLS13, []uint16{pss}, "add an RSA certificate"},
		{"ECDSA P-256", tls.VersionTLS12, []uint16{pkcs1}, "add an RSA certificate"},
		{"ECDSA P-256", tls.VersionTLS13, []uint16{pkcs1}, "no other key helps"},
		{"ECDSA P-256", tls.VersionTLS12, sha1, "no other key helps"},
		{"ECDSA P-256", tls.VersionTLS12, nil, "add an RSA certificate"},
		{"ECDSA P-256", tls.VersionTLS13, []uint16{p384}, "a key on P-384"},
		{"ECDSA P-521", tls.VersionTLS13, []uint16{p256}, "a key on P-256"},
		{"Ed25519", tls.VersionTLS13, []uint16{p256}, "a key on P-256"},
		{"RSA 2048", tls.VersionTLS13, []uint16{pkcs1}, "no other key helps"},
		{"RSA 2048", tls.VersionTLS13, []uint16{p256, pkcs1}, "add an ECDSA certificate"},
	} {
		hello := &wire.ClientHello{LegacyVersion: tls.VersionTLS12, Versions: []uint16{c.version}, SignatureAlgorithms: c.offers}
		d := &dissector{trace: &trace{}, event: &Event{Certificate: &Certificate{KeyType: c.ours}}, hello: hello}
		if got := twinRemedy(d); !strings.Contains(got, c.want) {
			t.Errorf("%s, offers %v: %s", c.ours, c.offers, got)
		}
	}
}

// Suites are called what they are made of, also those that crypto/tls has no name for.
func TestSuitesAreCalledWhatTheyAreMadeOf(t *testing.T) {
	for want, suites := range map[string][]uint16{
		"pre-shared keys only":     {0xa8, 0xc037},
		"passwords only (SRP)":     {0xc01d, 0xc020, 0xc022, 0xff},
		"broken cipher suites":     {0xa7, 0x6d, 0xc018, 0xc006, 0x3b},
		"kinds only that padlock":  {0xc060, 0xc072},
		"it offers none at all":    {0xff},
		"Diffie-Hellman only (DHE": {0x9e, 0x9f},
	} {
		hello := &wire.ClientHello{LegacyVersion: tls.VersionTLS12, Versions: []uint16{tls.VersionTLS12}, CipherSuites: suites}
		d := &dissector{trace: &trace{}, event: &Event{Certificate: &Certificate{KeyType: "ECDSA P-256"}}, hello: hello}
		if got := suiteDetail(d); !strings.Contains(got, want) {
			t.Errorf("%x: %s", suites, got)
		}
	}
}

// A chain that lacks an intermediate does not hide that the certificate has expired, too.
func TestAnIncompleteChainHidesNoOtherFault(t *testing.T) {
	c := &Certificate{Issuer: "Middle", alone: true, faults: []fault{{faultExpired, everybody, "it expired on 2025-11-01"}}}
	d := &dissector{trace: &trace{}, event: &Event{Certificate: c}}
	for _, r := range rules {
		if r.by == Client && r.alert == 48 && (r.when == nil || r.when(d)) {
			if got := r.detail(d); !strings.Contains(got, "it expired on 2025-11-01") {
				t.Errorf("%s: %s", r.cause, got)
			}
			return
		}
	}
	t.Error("no rule")
}

// "certain" is said only of what our own code has decided, or of an alert that means one thing.
func TestCertainIsRare(t *testing.T) {
	for _, r := range rules {
		if r.confidence == "certain" && r.by == Client && r.alert != 44 && r.alert != 45 {
			t.Errorf("alert %d of the client: %s", r.alert, r.cause)
		}
		if strings.Contains(r.cause, " or ") && r.confidence == "certain" && r.by == Client {
			t.Errorf("one of several is certain: %s", r.cause)
		}
	}
}

// What only browsers mind is the cause where the client is one, and no more than a doubt where it is not; what only Apple's minds is a doubt.
func TestWhatOnlyBrowsersMindIsTheCauseForBrowsers(t *testing.T) {
	for name, c := range map[string]struct {
		kind    faultKind
		hello   *wire.ClientHello
		certain bool
	}{
		"Chrome, no logs":     {faultLogs, &wire.ClientHello{ECH: true}, true},
		"curl, no logs":       {faultLogs, &wire.ClientHello{}, false},
		"Chrome, long-lived":  {faultLifetime, &wire.ClientHello{ECH: true}, false},
		"Chrome, must-staple": {faultStaple, &wire.ClientHello{ECH: true}, false},
	} {
		certificate := &Certificate{Issuer: "Corp", Names: []string{"a.example"}, faults: []fault{{c.kind, browsers, "it has a fault"}}}
		c.hello.ServerName = "a.example"
		d := &dissector{trace: &trace{}, recorder: &Recorder{}, hello: c.hello, event: &Event{Certificate: certificate}}
		f := &Failure{}
		d.apply(f, rules, Client, 46)
		if surely := f.Cause == "the client rejected our certificate: it has a fault"; surely != c.certain || !strings.Contains(f.Cause, "it has a fault") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// In TLS 1.2, a client that does not offer the curve of an ECDSA certificate refuses it as illegal, and is not faulty. In TLS 1.3 the curve of
// a certificate is no matter of groups.
func TestACurveThatTheClientDoesNotOfferIsTheCause(t *testing.T) {
	for name, c := range map[string]struct {
		version uint16
		key     string
		groups  []uint16
		found   bool
	}{
		"another curve": {tls.VersionTLS12, "ECDSA P-256", []uint16{25}, true},
		"P-384":         {tls.VersionTLS12, "ECDSA P-384", []uint16{29, 23}, true},
		"the curve":     {tls.VersionTLS12, "ECDSA P-256", []uint16{25, 23}, false},
		"RSA":           {tls.VersionTLS12, "RSA 2048", []uint16{25}, false},
		"no groups":     {tls.VersionTLS12, "ECDSA P-256", nil, false},
		"TLS 1.3":       {tls.VersionTLS13, "ECDSA P-256", []uint16{25}, false},
	} {
		d := &dissector{
			trace:    &trace{traceData: traceData{side: Server, err: errors.New("remote error: tls: illegal parameter")}},
			recorder: &Recorder{}, hello: &wire.ClientHello{Groups: c.groups},
			event: &Event{Outcome: Failed, Version: c.version, Certificate: &Certificate{KeyType: c.key}},
		}
		f := diagnose(d)
		if f == nil || strings.Contains(f.Cause, "does not offer the curve") != c.found {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
