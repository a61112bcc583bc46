// Package upstream reaches backends: a target, its pool of connections, and what went wrong in plain words.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"padlock/config"
	"padlock/proxy/http1"
	"padlock/proxy/message"
)

// Upstream is one target with its pool. It is safe for use from many goroutines.
type Upstream struct {
	target    config.Target
	back      message.RoundTripper
	closeIdle func()
}

// New prepares an upstream for a route's target; nothing is dialled before the first request.
func New(route config.Route, target config.Target, timeouts config.Timeouts) (*Upstream, error) {
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
	u := &Upstream{target: target}
	u.back, u.closeIdle = http1.NewTransport(options)
	return u, nil
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
func (u *Upstream) RoundTrip(ctx context.Context, r *message.Request, interim func(int, message.Fields) error) (*message.Response, error) {
	response, err := u.back.RoundTrip(ctx, r, interim)
	if err != nil {
		return nil, &Error{Target: u.target, Err: err}
	}
	return response, nil
}

// Close gives idle connections back. Open requests finish.
func (u *Upstream) Close() { u.closeIdle() }

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
	case strings.Contains(e.Err.Error(), "HTTP response to HTTPS"):
		return "it speaks plain HTTP, not HTTPS"
	case strings.Contains(e.Err.Error(), "malformed HTTP"):
		return "it answered with something that is not HTTP/1.1"
	}
	return "it closed the connection without an answer"
}
