// Package upstream reaches backends: a target, its pool of connections, and what went wrong in plain words.
package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"padlock/config"
	"padlock/proxy/http1"
	"padlock/proxy/http2"
	"padlock/proxy/message"
)

// Upstream is one target with its pool. It is safe for use from many goroutines.
type Upstream struct {
	target config.Target
	name   string
	back   back
}

type back interface {
	message.RoundTripper
	Close()
}

// New prepares an upstream for a route's target; nothing is dialled before the first request.
func New(route config.Route, target config.Target, timeouts config.Timeouts) (*Upstream, error) {
	if target.Scheme == "h2c" {
		options := http2.TransportOptions{Address: target.Address, Connect: timeouts.Connect, ResponseHeader: timeouts.ResponseHeader}
		return &Upstream{target: target, name: target.String(), back: http2.NewTransport(options)}, nil
	}
	options := http1.TransportOptions{
		Network: target.Network, Address: target.Address,
		Connect: timeouts.Connect, ResponseHeader: timeouts.ResponseHeader,
	}
	if target.Scheme == "https" {
		verify, err := clientTLS(route, target)
		if err != nil {
			return nil, err
		}
		options.TLS = verify
	}
	return &Upstream{target: target, name: target.String(), back: http1.NewTransport(options)}, nil
}

func clientTLS(route config.Route, target config.Target) (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: route.Insecure, NextProtos: []string{"http/1.1"}}
	if host, _, err := net.SplitHostPort(target.Address); err == nil {
		c.ServerName = host
	}
	if route.CA == "" {
		return c, nil
	}
	bundle, err := os.ReadFile(route.CA)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of target %s: %w", target, err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("the CA file %q of target %s holds no certificate in PEM", route.CA, target)
	}
	return c, nil
}

// Target names where requests go.
func (u *Upstream) Target() config.Target { return u.target }

// RoundTrip implements message.RoundTripper; its errors are *Error.
func (u *Upstream) RoundTrip(ctx *message.Context, r *message.Request, interim message.Interim) (*message.Response, error) {
	response, err := u.back.RoundTrip(ctx, r, interim)
	if err != nil {
		return nil, &Error{Target: u.target, Err: err}
	}
	return response, nil
}

// Name is the target as it was configured.
func (u *Upstream) Name() string { return u.name }

// Close gives idle connections back. Open requests finish.
func (u *Upstream) Close() { u.back.Close() }

// Error is a request that got no response head from a target.
type Error struct {
	Target config.Target
	Err    error
}

func (e *Error) Unwrap() error { return e.Err }
func (e *Error) Error() string { return fmt.Sprintf("target %s: %v", e.Target, e.Err) }

// Timeout reports whether the target took the request and did not answer in time (504 rather than 502, RFC 9110 section 15.6).
func (e *Error) Timeout() bool {
	var dial *net.OpError
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
		name    x509.HostnameError
		notTLS  tls.RecordHeaderError
	)
	switch {
	case errors.As(e.Err, &dns):
		return "its name could not be resolved"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there"
	case errors.Is(e.Err, syscall.ENOENT):
		return "the socket does not exist"
	case errors.Is(e.Err, syscall.EACCES):
		return "no permission to connect"
	case errors.As(e.Err, &unknown):
		return "its certificate is signed by an unknown authority"
	case errors.As(e.Err, &name):
		return "its certificate is for another name"
	case e.Timeout():
		return "it did not answer in time"
	case errors.As(e.Err, &dial) && dial.Op == "dial" && dial.Timeout():
		return "the connection attempt timed out"
	case errors.As(e.Err, &dial) && dial.Op == "dial":
		return "the connection could not be made"
	case errors.As(e.Err, &notTLS):
		return "it speaks something else than TLS there"
	case errors.Is(e.Err, http2.ErrUpgrade):
		return "a WebSocket needs a target that speaks HTTP/1.1, and this one is h2c"
	case errors.Is(e.Err, http2.ErrNotSpoken):
		return "it does not speak HTTP/2 there"
	case errors.Is(e.Err, http1.ErrMalformed):
		return "it answered with something that is not proper HTTP/1.1"
	}
	return "it closed the connection without an answer"
}
