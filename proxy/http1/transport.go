package http1

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/nethttp"
)

// TransportOptions say how a backend is reached.
type TransportOptions struct {
	Network, Address string        // tcp and host:port, or unix and a path
	TLS              *tls.Config   // nil: plaintext
	Connect          time.Duration // to connect, TLS included
	ResponseHeader   time.Duration // request sent to response head
}

const (
	maxResponseHead = 256 << 10
	idleBackends    = 256
	idleBackendTime = 90 * time.Second
	expectContinue  = time.Second
)

// NewTransport returns a pool of connections to one backend.
func NewTransport(o TransportOptions) (back message.RoundTripper, closeIdle func()) {
	dialer := &net.Dialer{Timeout: o.Connect, KeepAlive: 15 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, o.Network, o.Address)
		},
		TLSClientConfig:        o.TLS,
		TLSHandshakeTimeout:    o.Connect,
		DisableCompression:     true,
		MaxIdleConns:           idleBackends,
		MaxIdleConnsPerHost:    idleBackends,
		IdleConnTimeout:        idleBackendTime,
		ResponseHeaderTimeout:  o.ResponseHeader,
		ExpectContinueTimeout:  expectContinue,
		MaxResponseHeaderBytes: maxResponseHead,
		ReadBufferSize:         32 << 10,
		WriteBufferSize:        32 << 10,
	}
	scheme, host := "http", o.Address
	if o.TLS != nil {
		scheme = "https"
	}
	if o.Network == "unix" {
		host = "localhost"
	}
	return &nethttp.Back{Transport: transport, Scheme: scheme, Address: host}, transport.CloseIdleConnections
}
