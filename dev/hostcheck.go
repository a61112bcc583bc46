package dev

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// refusals are words with which development servers refuse a Host header that they do not expect, against DNS
// rebinding.
var refusals = []struct{ words, server string }{
	{"Blocked request. This host", "Vite"},
	{"Blocked hosts: ", "Rails"},
	{"Blocked host: ", "Rails"}, // before 7.0
	{"DisallowedHost", "Django"},
	{oldWebpack, "webpack"},
	{"Invalid host header", "Starlette"}, // FastAPI too
}

// oldWebpack is the whole answer of webpack-dev-server before 4, whose status is 200.
const oldWebpack = "Invalid Host header"

// Refusal is a host that an app does not accept in the Host header.
type Refusal struct {
	Host   string
	Server string // that answers so, such as Vite
}

const (
	probeTimeout = 30 * time.Second // a first answer may wait for a build
	probeBytes   = 64 << 10
)

// refusal asks an app for its first page once under each of its names, and returns the first that it refuses; nil:
// none.
func refusal(ctx context.Context, app App, at netip.AddrPort) *Refusal {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, host := range app.Hosts {
		if strings.HasPrefix(host, "*.") {
			continue
		}
		if server := refuses(ctx, client, at, withPort(host, app.URL)); server != "" {
			return &Refusal{host, server}
		}
	}

	return nil
}

// refuses names the server that refuses a Host header; "": it is accepted, or nobody knows.
func refuses(ctx context.Context, client *http.Client, at netip.AddrPort, host string) (server string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+"/", nil)
	if err != nil {
		return ""
	}
	request.Host = host
	request.Header.Set("Accept", "text/html")
	request.Header.Set("User-Agent", "padlock dev")
	request.Header.Set("X-Forwarded-Proto", "https")
	response, err := client.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	if response.StatusCode < http.StatusBadRequest && response.ContentLength != int64(len(oldWebpack)) {
		return ""
	}

	// The beginning of the page is enough to recognize a refusal.
	body, _ := io.ReadAll(io.LimitReader(response.Body, probeBytes))
	for _, r := range refusals {
		if strings.Contains(string(body), r.words) {
			return r.server
		}
	}

	return ""
}

// withPort is a host with the port of a URL, as browsers send it.
func withPort(host, address string) string {
	if u, err := url.Parse(address); err == nil && u.Port() != "" {
		return net.JoinHostPort(host, u.Port())
	}
	return host
}
