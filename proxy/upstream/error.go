package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"padlock/config"
	"padlock/proxy/http1"
	"padlock/proxy/http2"
	"padlock/proxy/message"
)

// oneAtATime is what helps targets that read a connection only when the one before has ended.
const oneAtATime = `If it serves one connection at a time, set keepalive: "off" for its route (--keepalive off)`

// Error is a request that got no response head from a target.
type Error struct {
	Target config.Target
	Err    error
}

func (e *Error) Unwrap() error { return e.Err }
func (e *Error) Error() string {
	// For a malformed response, the reason says everything.
	if errors.Is(e.Err, http1.ErrMalformed) || errors.Is(e.Err, http2.ErrMalformed) {
		return fmt.Sprintf("target %s: %s", e.Target, e.Reason())
	}
	return fmt.Sprintf("target %s: %s: %v", e.Target, e.Reason(), e.Err)
}

// UnhealthyError is given where no target is healthy, and says why. It is ErrUnhealthy.
type UnhealthyError struct {
	Reasons []string // a target and why it is unhealthy, each; some of them where there are many
}

// Is implements the interface of errors.Is.
func (e *UnhealthyError) Is(target error) bool { return target == ErrUnhealthy }

func (e *UnhealthyError) Error() string {
	if len(e.Reasons) == 0 {
		return ErrUnhealthy.Error()
	}
	return ErrUnhealthy.Error() + ": " + strings.Join(e.Reasons, "; ")
}

// maxReasons are enough to see what is wrong.
const maxReasons = 3

func unhealthy(members []member) *UnhealthyError {
	e := &UnhealthyError{}
	for _, m := range members {
		if why := m.target.reason(); why != "" && len(e.Reasons) < maxReasons {
			e.Reasons = append(e.Reasons, m.target.name+": "+why)
		}
	}
	return e
}

// Timeout reports whether the target took the request and did not answer in time (504 rather than 502, RFC 9110 section
// 15.6).
func (e *Error) Timeout() bool {
	var dial *net.OpError
	// A connection that could not be made is a bad gateway: the target never had the request.
	if errors.As(e.Err, &dial) && dial.Op == "dial" {
		return false
	}
	var timeout interface{ Timeout() bool }
	return errors.As(e.Err, &timeout) && timeout.Timeout()
}

// Reason says in plain words what happened.
func (e *Error) Reason() string {
	var (
		dns     *net.DNSError
		dial    *net.OpError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		notTLS  tls.RecordHeaderError
		reset   *message.ResetError
	)
	switch {
	// The order matters: errors wrap each other, and the most specific cause is the most useful one.
	case errors.As(e.Err, &dns) && dns.IsNotFound:
		return "its name does not exist"
	case errors.As(e.Err, &dns):
		return "its name could not be resolved"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there"
	case errors.Is(e.Err, syscall.EHOSTUNREACH), errors.Is(e.Err, syscall.ENETUNREACH):
		return "there is no route to it"
	case errors.Is(e.Err, syscall.ENOENT):
		return "the socket does not exist"
	case errors.Is(e.Err, syscall.EACCES):
		return "no permission to connect"
	case errors.As(e.Err, &unknown):
		return "its certificate is signed by an unknown authority"
	case errors.As(e.Err, &name):
		return "its certificate is for another name"
	case errors.As(e.Err, &invalid):
		return invalidCertificate(&invalid)
	case errors.As(e.Err, &dial) && dial.Op == "remote error":
		// By "remote error" crypto/tls means an alert that came from the target.
		return refused(strings.TrimPrefix(dial.Err.Error(), "tls: "))
	case errors.Is(e.Err, http1.ErrOthersIdle):
		return "it did not answer in time on a new connection, while another was kept idle. " + oneAtATime
	case e.Timeout():
		return "it did not answer in time"
	case errors.As(e.Err, &dial) && dial.Op == "dial" && dial.Timeout():
		return "the connection attempt timed out"
	case errors.As(e.Err, &dial) && dial.Op == "dial":
		return "the connection could not be made"
	case errors.As(e.Err, &notTLS):
		return "it speaks something else than TLS there"
	case errors.Is(e.Err, http2.ErrUpgrade):
		return "a WebSocket needs a target that speaks HTTP/1.1, or takes WebSockets over HTTP/2 (RFC 8441), and another upgrade HTTP/1.1; this one does not"
	case errors.Is(e.Err, http2.ErrOneConnection):
		return "NTLM needs HTTP/1.1, and this target is spoken to by HTTP/2"
	case errors.Is(e.Err, http2.ErrNotSpoken):
		return "it does not speak HTTP/2 there"
	case errors.Is(e.Err, http2.ErrMalformed):
		return "it answered with something that is not proper HTTP/2: " + strings.TrimPrefix(e.Err.Error(), http2.ErrMalformed.Error()+": ")
	case errors.Is(e.Err, http1.ErrMalformed):
		return "it answered with something that is not proper HTTP/1.1: " + strings.TrimPrefix(e.Err.Error(), http1.ErrMalformed.Error()+": ")
	case errors.As(e.Err, &reset):
		return "it reset the request's stream"
	case errors.Is(e.Err, http2.ErrUnprocessed):
		return "it took no further request on its connection"
	}
	return "it closed the connection without an answer"
}

// refused says why a target has ended the handshake with an alert, which crypto/tls has only as a text.
func refused(alert string) string {
	reason := "it refused the TLS handshake: " + alert
	if alert == "no application protocol" {
		reason += ": it does not speak what padlock offers, which is HTTP/2 alone with protocol: http2, and else HTTP/1.1 too"
	}
	return reason
}

// invalidCertificate says what is wrong with a certificate whose signature is right.
func invalidCertificate(err *x509.CertificateInvalidError) string {
	switch now := time.Now(); {
	case err.Reason == x509.Expired && err.Cert != nil && now.After(err.Cert.NotAfter):
		return "its certificate has expired: it was valid until " + err.Cert.NotAfter.UTC().Format(time.RFC3339)
	case err.Reason == x509.Expired && err.Cert != nil && now.Before(err.Cert.NotBefore):
		return "its certificate is not valid before " + err.Cert.NotBefore.UTC().Format(time.RFC3339)
	case err.Reason == x509.IncompatibleUsage:
		return "its certificate is not for a server"
	}
	return "its certificate is not valid: " + strings.TrimPrefix(err.Error(), "x509: ")
}
