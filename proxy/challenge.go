package proxy

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"padlock/proxy/message"
)

const (
	challengePath     = "/.well-known/acme-challenge/" // RFC 8555 section 8.3
	challengePatience = 3 * time.Second                // for a storage that is away; then the site answers, as if there were no order
)

// serveChallenge answers a CA whose request of http-01 came by HTTPS, as behind a CDN that sends everybody there, and reports whether it was
// one. Tokens that no node of this storage has offered are the site's own affair.
func (h *handler) serveChallenge(x *exchange) bool {
	r := x.request
	path, _, _ := strings.Cut(r.Target, "?")
	if h.challenges == nil || r.Method != "GET" || !strings.HasPrefix(path, challengePath) || path == challengePath {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), challengePatience)
	defer cancel()
	question := (&http.Request{
		Method: r.Method, URL: &url.URL{Path: path}, Host: r.Host, RequestURI: r.Target, RemoteAddr: r.Conn.Remote, Header: http.Header{},
	}).WithContext(ctx)
	answer := &answer{status: 200, header: http.Header{}}
	if !h.challenges.AnswerHTTP(answer, question) {
		return false
	}
	x.respond(answer.status, message.Fields{
		{Name: "Content-Type", Value: answer.header.Get("Content-Type")},
		{Name: "Cache-Control", Value: "no-store"},
	}, answer.body.Bytes())
	return true
}

// answer collects a short response.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
