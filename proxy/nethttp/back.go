package nethttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"padlock/proxy/message"
)

// Back sends message requests through a net/http transport. It is safe for use from many goroutines.
type Back struct {
	Transport http.RoundTripper
	Scheme    string // http | https
	Address   string // names the connection pool and, for https, the server
}

// RoundTrip implements message.RoundTripper.
func (b *Back) RoundTrip(ctx context.Context, r *message.Request, interim func(int, message.Fields) error) (*message.Response, error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			if status == http.StatusContinue || status == http.StatusSwitchingProtocols {
				return nil // our server answers Expect itself as soon as the body is read
			}
			return interim(status, FromHeader(http.Header(header)))
		},
	})
	response, err := b.Transport.RoundTrip(b.request(ctx, r))
	if err != nil {
		return nil, err
	}
	return newResponse(response)
}

// request copies every string: net/http may hold on to them beyond the exchange, and they may alias a buffer that does not live so long.
func (b *Back) request(ctx context.Context, r *message.Request) *http.Request {
	path, query, hasQuery := strings.Cut(strings.Clone(r.Target), "?")
	// Opaque keeps the target's bytes as the client sent them; a leading // would be taken for an authority.
	u := &url.URL{Scheme: b.Scheme, Host: b.Address, Opaque: path, RawQuery: query, ForceQuery: hasQuery && query == ""}
	if strings.HasPrefix(path, "//") {
		u.Opaque, u.Path, u.RawPath = "", decodedPath(path), path
	}
	header := http.Header{"User-Agent": {""}} // an empty value keeps net/http from adding its own
	for _, f := range r.Fields {
		if strings.EqualFold(f.Name, "User-Agent") {
			header.Del("User-Agent")
		}
	}
	for _, f := range r.Fields {
		header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
	header.Del("Content-Length")
	hr := (&http.Request{Method: strings.Clone(r.Method), URL: u, Host: strings.Clone(r.Host), Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if r.Body != nil && r.ContentLength != 0 {
		body := &outgoingBody{Body: r.Body, trailer: declaredTrailers(r)}
		hr.Body, hr.ContentLength, hr.Trailer = body, r.ContentLength, body.trailer
	}
	if r.Upgrade != "" {
		header.Set("Connection", "Upgrade")
		header.Set("Upgrade", strings.Clone(r.Upgrade))
	}
	return hr
}

func decodedPath(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil {
		return decoded
	}
	return path
}

// declaredTrailers names the trailers that net/http must announce before the body (RFC 9110 section 6.6.2).
func declaredTrailers(r *message.Request) http.Header {
	if len(r.Declared) == 0 {
		return nil
	}
	declared := http.Header{}
	for _, name := range r.Declared {
		declared[http.CanonicalHeaderKey(strings.Clone(name))] = nil
	}
	return declared
}

// outgoingBody fills in the announced trailers once the client's body has ended.
type outgoingBody struct {
	message.Body
	trailer http.Header
}

func (b *outgoingBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if errors.Is(err, io.EOF) {
		for _, f := range b.Body.Trailers() {
			if _, declared := b.trailer[f.Name]; declared {
				b.trailer.Add(f.Name, f.Value)
			}
		}
	}
	return n, err
}

func newResponse(hr *http.Response) (*message.Response, error) {
	r := &message.Response{Status: hr.StatusCode, Fields: FromHeader(hr.Header), ContentLength: hr.ContentLength}
	if hr.StatusCode == http.StatusSwitchingProtocols {
		tunnel, ok := hr.Body.(io.ReadWriteCloser)
		if !ok {
			hr.Body.Close()
			return nil, errors.New("backend switched protocols without being asked to")
		}
		r.Tunnel = tunnel
		return r, nil
	}
	r.Body = &responseBody{ReadCloser: hr.Body, response: hr}
	return r, nil
}

type responseBody struct {
	io.ReadCloser
	response *http.Response
}

func (b *responseBody) Trailers() message.Fields { return FromHeader(b.response.Trailer) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
