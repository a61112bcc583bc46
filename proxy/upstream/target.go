package upstream

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
	"padlock/proxy/http1"
	"padlock/proxy/http2"
	"padlock/proxy/message"
	"padlock/traffic"
)

// Target is one backend: its pool of connections, and how it fares. Groups that agree on how to reach it share it,
// before a reload and after. It is safe for use from many goroutines.
type Target struct {
	target    config.Target
	name      string
	at        string    // the address that the name was resolved to; "": whatever it means
	key       string    // by which Targets knows it
	hash      uint64    // of the name, for consistent hashing
	transport transport // nil: not HTTP
	dialer    *dialer   // nil: HTTP

	authority string // what it is called in requests that do not carry the client's Host

	open     atomic.Int64 // requests
	places   places       // of those that a circuit limits
	asked    atomic.Uint64
	missed   atomic.Uint64 // requests without an answer
	answers  traffic.Histogram
	passive  config.PassiveHealth
	failed   atomic.Int64           // requests in a row
	out      atomic.Int64           // left out until then, in nanoseconds of the clock; 0: not
	why      atomic.Pointer[string] // it was left out last
	log      *slog.Logger
	logged   atomic.Bool  // that requests fail
	loggedAt atomic.Int64 // when, in nanoseconds of the clock
	patient  bool         // answers may take as long as they take
	health   *checker     // nil: not asked
	sticky   atomic.Pointer[stickyToken]
}

type transport interface {
	message.RoundTripper
	Close()
}

// newTarget prepares a target; nothing is dialled before the first request, but for what health asks.
// at is the address where that is not the target's own name, but one that it was resolved to.
func newTarget(u *config.Upstream, target config.Target, at string, timeouts config.Timeouts, trust trust, resolver *net.Resolver, log *slog.Logger) *Target {
	if u.Timeouts.Connect != 0 {
		timeouts.Connect = u.Timeouts.Connect
	}
	if u.Timeouts.ResponseHeader != 0 {
		timeouts.ResponseHeader = u.Timeouts.ResponseHeader
	}

	t := &Target{target: target, name: target.String(), passive: u.PassiveHealth, log: log, patient: timeouts.ResponseHeader == config.Endless}
	patience := time.Duration(max(timeouts.ResponseHeader, 0))
	address := target.Address
	if at != "" {
		t.name += " at " + at
		t.at = at
		// Only the address changes. TLS and Host keep the name, as certificates and virtual hosts know nothing of
		// addresses.
		address = at
	}

	t.hash, t.authority = hash(t.name), authority(target)
	switch target.Scheme {
	case "tcp", "tls":
		t.dialer = newDialer(u, target, address, timeouts.Connect, trust, resolver)
	default:
		one := http1.TransportOptions{
			Network: target.Network, Address: address, Connect: timeouts.Connect, ResponseHeader: patience, Resolver: resolver,
			Idle: u.KeepAlive.Idle, Connections: u.KeepAlive.Connections, Single: u.KeepAlive.Off,
		}
		two := http2.TransportOptions{
			Network: target.Network, Address: address, Connect: timeouts.Connect, ResponseHeader: patience, Resolver: resolver,
			Idle: u.KeepAlive.Idle, Single: u.KeepAlive.Off,
		}
		if target.Scheme == "https" {
			one.TLS, two.TLS = clientTLS(u, target, trust, "http/1.1"), clientTLS(u, target, trust, "h2")
		}
		t.transport = newTransport(u.Protocol, target.Scheme, one, two)
	}

	// Last, as the checker starts asking at once.
	if u.Health != nil {
		t.health = startChecker(t, *u.Health)
	}

	return t
}

// trust is by what a target is judged, and what it is shown.
type trust struct {
	roots  *x509.CertPool   // nil: the system's
	pair   *tls.Certificate // nil: none
	digest []byte           // the same for the same contents
}

// CAs are those of a file by which servers are judged.
func CAs(file string, files *lastgood.Values) ([]*x509.Certificate, error) {
	return lastgood.Get(files, file, "CAs", func() ([]*x509.Certificate, error) {
		data, err := regular.Named(file, pemfile.MaxFile)
		if err != nil {
			return nil, err
		}
		return pemfile.Certificates(file, data)
	})
}

// newTrust takes the files of an upstream from those that were read.
func newTrust(u *config.Upstream, files *lastgood.Values) (t trust, err error) {
	sum := sha256.New()
	if u.CA != "" {
		cas, err := CAs(u.CA, files)
		if err != nil {
			return t, fmt.Errorf("reading the CA of targets: %w", err)
		}
		t.roots = x509.NewCertPool()
		for _, ca := range cas {
			t.roots.AddCert(ca)
			sum.Write(ca.Raw)
		}
	}

	if u.ClientCert != "" {
		pair, err := lastgood.Get(files, u.ClientCert, "certificate for the key "+u.ClientKey, func() (tls.Certificate, error) {
			return pemfile.LoadPair(u.ClientCert, u.ClientKey)
		})
		if err != nil {
			return t, fmt.Errorf("reading the client certificate for targets: %w", err)
		}
		t.pair = &pair
		for _, der := range pair.Certificate {
			sum.Write(der)
		}
	}

	// The digest makes a reload with changed files build new connections, while unchanged files keep the old ones.
	if u.CA+u.ClientCert != "" {
		t.digest = sum.Sum(nil)
	}
	return t, nil
}

func clientTLS(u *config.Upstream, target config.Target, trust trust, protocols ...string) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: u.Insecure, NextProtos: protocols, ServerName: u.ServerName, RootCAs: trust.roots}
	// Set explicitly, as the address that is dialled may be another than the name.
	if host, _, err := net.SplitHostPort(target.Address); err == nil && c.ServerName == "" {
		c.ServerName = host
	}
	if trust.pair != nil {
		c.Certificates = []tls.Certificate{*trust.pair}
	}
	return c
}

// healthy reports whether the target passes its health checks.
func (t *Target) healthy() bool { return t.health == nil || t.health.healthy.Load() }

// ejected reports whether requests have failed of late. It is looked at before the clock is.
func (t *Target) ejected() bool {
	until := t.out.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// reason says why the target is unhealthy, or ejected; "": it is neither.
func (t *Target) reason() string {
	var why *string
	switch {
	case !t.healthy():
		why = t.health.why.Load()
	case t.ejected():
		why = t.why.Load()
	}
	if why == nil {
		return ""
	}
	return *why
}

// count is how the target fares.
func (t *Target) count() traffic.TargetCount {
	return traffic.TargetCount{
		Name: t.name, Healthy: t.healthy(), Ejected: t.ejected(), Reason: t.reason(),
		Open: t.open.Load(), Requests: t.asked.Load(), Failed: t.missed.Load(), ResponseHeader: t.answers.Distribution(),
	}
}

// report notes how a request went, nil being well, and how long its answer took.
func (t *Target) report(failure *Error, took time.Duration) {
	t.asked.Add(1)
	if failure == nil {
		t.answers.Observe(took)
		// Looking first keeps the usual case free of writes to memory that all processors share.
		if t.failed.Load() != 0 {
			t.failed.Store(0)
			t.out.Store(0)
			t.logRecovered()
		}
		return
	}

	t.missed.Add(1)
	if t.passive.Off {
		return
	}

	if failures := t.failed.Add(1); failures >= int64(t.passive.Failures) {
		why := failure.Reason()
		t.why.Store(&why)
		t.out.Store(time.Now().Add(t.passive.Cooldown).UnixNano())
		t.logFailing(why, failures)
	}
}

// logAgain is after how long failures of the same target are logged again, once they had ended.
const logAgain = time.Minute

// logFailing logs that requests fail: once until they succeed, and not more often than logAgain allows.
func (t *Target) logFailing(why string, failures int64) {
	now, last := time.Now().UnixNano(), t.loggedAt.Load()
	// A target that fails and recovers in turn would fill the log, so each state is reported once a minute at most.
	if t.logged.Load() || last != 0 && now-last < int64(logAgain) || !t.loggedAt.CompareAndSwap(last, now) {
		return
	}
	t.logged.Store(true)
	t.log.Warn("requests to the target fail: others are preferred", "target", t.name, "reason", why, "failures", failures, "cooldown", t.passive.Cooldown)
}

func (t *Target) logRecovered() {
	if t.logged.Swap(false) {
		t.log.Info("requests to the target succeed again", "target", t.name)
	}
}

// close gives idle connections back. Open requests finish.
func (t *Target) close() {
	if t.health != nil {
		t.health.stop()
	}
	if t.transport != nil {
		t.transport.Close()
	}
}
