package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// overQUIC is a client of HTTP/3.
func overQUIC(l *Lab, config *tls.Config) func(context.Context, *Endpoint) error {
	return func(ctx context.Context, e *Endpoint) error {
		transport := &http3.Transport{TLSClientConfig: config.Clone(), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, net.JoinHostPort(l.Address(), l.Port()), c, q)
		}}
		defer transport.Close()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL(e), nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
}

// The endpoints that mean something over QUIC are there, and clients are judged alike.
func TestEndpointsOverQUIC(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	var only []string
	for _, e := range l.Endpoints() {
		if e.overQUIC() {
			only = append(only, e.Name)
		}
	}
	if len(only) < 60 {
		t.Errorf("only %d endpoints over QUIC", len(only))
	}
	for name, config := range map[string]*tls.Config{"secure": {RootCAs: roots(l)}, "insecure": {InsecureSkipVerify: true}} {
		report, err := l.Check(t.Context(), Check{Command: []string{name}, Only: strings.Join(only, ","), Jobs: 8, Timeout: patience, client: overQUIC(l, config)})
		if err != nil || report.Failed != "" {
			t.Fatal(report, err)
		}
		for _, r := range report.Results {
			bad := r.Endpoint.Expect == MustRefuse && r.Expected == MustRefuse && (name == "insecure" || r.Endpoint.Name == "staple-revoked")
			if !r.Endpoint.overQUIC() {
				continue
			}
			if bad != (r.Verdict == Unsafe) || r.Verdict == TooStrict || r.Verdict == Unclear || len(r.Visits) > 0 && !r.Visits[0].QUIC {
				t.Errorf("%s at %s: %s, %s", name, r.Endpoint.Name, r.Verdict, r.Reason)
			}
		}
	}
}

// Early data is refused, and the client goes on without.
func TestEarlyDataIsRefused(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	name := l.named("early-data-refused").Hostname()
	config := &tls.Config{RootCAs: roots(l), ServerName: name, NextProtos: []string{http3.NextProtoH3}, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	for i := range 2 {
		conn, err := quic.DialAddrEarly(t.Context(), net.JoinHostPort(l.Address(), l.Port()), config, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseWithError(0x100, "")
		// The first request has no ticket. It waits for one, which comes with the server's first stream.
		if _, err := conn.AcceptUniStream(t.Context()); errors.Is(err, quic.Err0RTTRejected) != (i == 1) {
			t.Errorf("connection %d: %v", i+1, err)
		}
		if i == 1 {
			if conn, err = conn.NextConnection(t.Context()); err != nil || conn.ConnectionState().Used0RTT {
				t.Errorf("%v", err)
			}
		}
	}
}
