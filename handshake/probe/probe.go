// Package probe is a TLS client that looks at a server from outside, and reports what a browser would make of it.
//
//	report, err := probe.Run(ctx, "example.com:443", probe.Options{})
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"padlock/handshake"
	"padlock/handshake/wire"
)

// Options of Run.
type Options struct {
	ServerName string         // name to ask for; the host by default
	Roots      *x509.CertPool // nil: the system's
	Timeout    time.Duration  // of each connection; 10 s
}

// Report is what was found. It is complete unless the server could not be reached at all.
type Report struct {
	Address   string
	Name      string
	Handshake *handshake.Event // of the first connection
	Checks    []Check
	Untrusted bool // all is in order but the CA, which this machine does not trust
}

// Check is one question and its answer.
type Check struct {
	// Stable: reachable, padlock, tls13, tls12, old_versions, post_quantum, alpn, resumption, wrong_name, no_name.
	Name   string
	Grade  Grade
	Detail string
}

// Grade of a check.
type Grade string

const (
	Good Grade = "good"
	Note Grade = "note" // worth knowing
	Bad  Grade = "bad"  // a browser would refuse, or clients would fail
)

// OK reports whether a browser would show its padlock.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Grade == Bad })
}

// prober makes the connections of one run.
type prober struct {
	o       Options
	address string
	events  *handshake.Recent
	record  *handshake.Recorder
	report  *Report
}

// Run connects several times. Its error is that of an address that makes no sense; everything else is in the report.
func Run(ctx context.Context, address string, o Options) (*Report, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
		address = net.JoinHostPort(host, "443")
	}

	if host == "" || strings.ContainsAny(host, " /") {
		return nil, fmt.Errorf("%q is not HOST or HOST:PORT", address)
	}
	if o.ServerName == "" {
		o.ServerName = host
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}

	p := &prober{o: o, address: address, events: handshake.NewRecent(1), report: &Report{Address: address, Name: o.ServerName}}
	p.record = handshake.NewRecorder(handshake.Options{Sinks: []handshake.Sink{p.events}, Workers: 1})
	defer p.record.Close()
	p.run(ctx)
	return p.report, nil
}

func (p *prober) run(ctx context.Context) {
	cache := tls.NewLRUClientSessionCache(4)
	first, event, err := p.connect(ctx, func(c *tls.Config) { c.ClientSessionCache = cache })
	if event == nil {
		p.add("reachable", Bad, "%v", err)
		return
	}

	p.report.Handshake = event
	if err != nil {
		p.add("reachable", Bad, "%s", failure(event, err))
		return
	}

	p.add("reachable", Good, "%s, TCP round trip %.2f ms, handshake %.2f ms", event.Local, ms(event.Timings.RoundTrip), ms(event.Duration))
	p.padlock(first, event)
	p.version("tls13", tls.VersionTLS13, first.Version == tls.VersionTLS13, ctx)
	p.version("tls12", tls.VersionTLS12, first.Version == tls.VersionTLS12, ctx)
	p.old(ctx)
	p.postQuantum(first)
	p.alpn(first)
	p.resumption(ctx, cache)
	p.names(ctx, first)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (p *prober) add(name string, grade Grade, format string, args ...any) {
	p.report.Checks = append(p.report.Checks, Check{name, grade, handshake.Escape(fmt.Sprintf(format, args...))})
}

func failure(e *handshake.Event, err error) string {
	if e != nil && e.Failure != nil {
		return e.Failure.Cause
	}
	return err.Error()
}

func belowLocalhost(host string) bool {
	return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), ".localhost")
}

// connect makes one handshake without judging the certificate, and one exchange after it, which brings tickets and late
// alerts. The event is nil when there was no connection at all.
func (p *prober) connect(ctx context.Context, change func(*tls.Config)) (*tls.ConnectionState, *handshake.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", p.address)
	if host, port, _ := net.SplitHostPort(p.address); errors.As(err, new(*net.DNSError)) && belowLocalhost(host) {
		// Browsers look for these names on this machine without asking anybody (RFC 6761 section 6.3).
		if raw, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port)); err != nil {
			raw, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort("::1", port))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	c := p.record.WrapClient(raw)
	defer c.Close()

	// Unverified and from TLS 1.0 on, as what browsers refuse is to be seen as well.
	config := &tls.Config{
		ServerName: p.o.ServerName, InsecureSkipVerify: true, KeyLogWriter: c.KeyLogWriter(),
		NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS10,
	}
	if change != nil {
		change(config)
	}
	conn := tls.Client(c, config)
	err = conn.HandshakeContext(ctx)
	state := conn.ConnectionState()
	c.Done(state, err)
	if err == nil {
		err = exchange(conn, c, p.o)
	}
	// Closing ends the record, for which the next line waits.
	c.Close()
	event, waitErr := p.events.Wait(ctx, c.ID())
	if waitErr != nil {
		return &state, nil, errors.Join(err, waitErr)
	}

	return &state, event, err
}

// exchange says hello in the protocol agreed on, and reads the first bytes of the answer. Silence is no error: not
// every service speaks HTTP.
func exchange(conn *tls.Conn, c *handshake.Conn, o Options) error {
	hello := "HEAD / HTTP/1.1\r\nHost: " + o.ServerName + "\r\nUser-Agent: padlock-probe\r\nConnection: close\r\n\r\n"
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		// The connection preface of a client: a fixed text and empty SETTINGS (RFC 9113 section 3.4).
		hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	}

	_ = conn.SetDeadline(time.Now().Add(min(o.Timeout, 3*time.Second)))
	if _, err := conn.Write([]byte(hello)); err != nil {
		return nil
	}
	_, err := conn.Read(make([]byte, 512))
	if err == nil {
		c.FirstByte()
	} else if strings.Contains(err.Error(), "remote error: tls:") {
		return err
	}

	return nil
}

// padlock asks what a browser asks: is the chain trusted, is the name right, are the dates.
func (p *prober) padlock(state *tls.ConnectionState, event *handshake.Event) {
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{DNSName: p.o.ServerName, Roots: p.o.Roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(options)
	var problems []string
	if event.Certificate != nil {
		problems = event.Certificate.Problems
	}

	var unknown x509.UnknownAuthorityError
	switch {
	case len(problems) > 0:
		p.add("padlock", Bad, "no browser accepts the certificate: %s", strings.Join(problems, "; "))
	case errors.As(err, &unknown):
		p.report.Untrusted = true
		p.add("padlock", Bad, "the certificate is in order, but this machine does not trust its CA: %s", event.Certificate.Issuer)
	case err != nil:
		p.add("padlock", Bad, "%v", err)
	default:
		p.add("padlock", Good, "a browser accepts the certificate, valid until %s (%d days)", leaf.NotAfter.UTC().Format(time.DateOnly), int(time.Until(leaf.NotAfter).Hours()/24))
	}
}

func (p *prober) version(name string, version uint16, seen bool, ctx context.Context) {
	title := "TLS " + wire.VersionName(version)
	if seen {
		p.add(name, Good, "%s", title)
		return
	}

	_, event, err := p.connect(ctx, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
	switch {
	case err == nil:
		p.add(name, Good, "%s with %s", title, event.CipherSuite)
	case version == tls.VersionTLS13:
		p.add(name, Note, "%s is not spoken: %s", title, failure(event, err))
	default:
		p.add(name, Note, "%s is not spoken, so that older clients cannot connect", title)
	}
}

func (p *prober) old(ctx context.Context) {
	_, _, err := p.connect(ctx, func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS11
		// Old servers may have nothing but suites that crypto/tls leaves out by default.
		for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			c.CipherSuites = append(c.CipherSuites, suite.ID)
		}
	})
	if err == nil {
		p.add("old_versions", Note, "TLS 1.1 or 1.0 is still accepted, which has been deprecated (RFC 8996)")
	} else {
		p.add("old_versions", Good, "TLS 1.1 and 1.0 are refused")
	}
}

func (p *prober) postQuantum(state *tls.ConnectionState) {
	switch name := wire.GroupName(uint16(state.CurveID)); {
	case strings.Contains(name, "MLKEM"):
		p.add("post_quantum", Good, "keys are agreed by %s", name)
	case state.CurveID == 0:
		p.add("post_quantum", Note, "keys are agreed without forward secrecy")
	default:
		p.add("post_quantum", Note, "keys are agreed by %s, which a quantum computer could open from a recording", name)
	}
}

func (p *prober) alpn(state *tls.ConnectionState) {
	if state.NegotiatedProtocol == "" {
		p.add("alpn", Note, "no protocol is chosen by ALPN, so HTTP/1.1")
		return
	}
	p.add("alpn", Good, "%s", state.NegotiatedProtocol)
}

func (p *prober) resumption(ctx context.Context, cache tls.ClientSessionCache) {
	state, _, err := p.connect(ctx, func(c *tls.Config) { c.ClientSessionCache = cache })
	if err == nil && state.DidResume {
		p.add("resumption", Good, "sessions are resumed")
	} else {
		p.add("resumption", Note, "sessions are not resumed: each connection costs a full handshake")
	}
}

// names asks for a name that cannot exist, and for none.
func (p *prober) names(ctx context.Context, first *tls.ConnectionState) {
	// No name below invalid exists (RFC 2606 section 2).
	for _, ask := range []struct{ check, name, what string }{{"wrong_name", "padlock-probe.invalid", "for an unknown name"}, {"no_name", "", "without a name"}} {
		state, event, err := p.connect(ctx, func(c *tls.Config) { c.ServerName = ask.name })
		switch {
		case err != nil:
			p.add(ask.check, Good, "%s the server refuses: %s", ask.what, failure(event, err))
		case state.PeerCertificates[0].Equal(first.PeerCertificates[0]):
			p.add(ask.check, Good, "%s the server shows the same certificate", ask.what)
		default:
			p.add(ask.check, Note, "%s the server shows another certificate, for %s", ask.what, strings.Join(event.Certificate.Names, ", "))
		}
	}
}
