package acme

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"
)

// later is what CAs have asked for with Retry-After (RFC 8555 section 6.6, RFC 9110 section 10.2.3): one name, or
// whoever comes, shall come again at a later time. It is safe for use from many goroutines.
type later struct {
	mu    sync.Mutex
	until map[string]time.Time
}

const (
	laterMost = 10_000         // entries; beyond it, those that are over are dropped
	waitMost  = 12 * time.Hour // for which a CA is left alone for one name: limits are lifted early at times, and CAs err
	busyMost  = time.Hour      // for which a CA that is busy is left alone by all names, whatever it asks for
)

// note keeps the time until which something shall be left alone.
func (l *later) note(what string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until == nil {
		l.until = map[string]time.Time{}
	}

	if len(l.until) >= laterMost {
		for what, until := range l.until {
			if time.Now().After(until) {
				delete(l.until, what)
			}
		}
	}

	l.until[what] = until
}

// of returns the time until which something shall be left alone; zero where it need not be.
func (l *later) of(what string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.until[what]
	if !until.IsZero() && !time.Now().Before(until) {
		delete(l.until, what)
		return time.Time{}
	}
	return until
}

// retryAfter reads the field: seconds, or a date. Zero where there is none that can be read, or where it is over.
func retryAfter(h http.Header) time.Time {
	value := strings.TrimSpace(h.Get("Retry-After"))
	var at time.Time
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		at = time.Now().Add(time.Duration(seconds) * time.Second)
	} else if at, err = http.ParseTime(value); err != nil {
		return time.Time{}
	}
	if !at.After(time.Now()) {
		return time.Time{}
	}
	return at
}

// busyError is a request that was not sent, as the CA has asked to be left alone.
type busyError struct {
	host  string
	until time.Time
}

func (e *busyError) Error() string {
	return fmt.Sprintf("%s has asked to be left alone until %s (Retry-After)", e.host, e.until.UTC().Format(time.RFC3339))
}

// proxy is certmagic's choice of a proxy, and the only place where it can be kept from sending a request.
func (c *Client) proxy(r *http.Request) (*url.URL, error) {
	if until := c.later.of(r.URL.Host); !until.IsZero() {
		return nil, &busyError{r.URL.Host, until}
	}
	return http.ProxyFromEnvironment(r)
}

// responded hears of a CA's response from acmez, which logs its fields and returns only its problem.
func (s *slot) responded(fields []zapcore.Field) {
	var status int
	var header http.Header
	var place *url.URL
	for _, f := range fields {
		switch f.Key {
		case "status_code":
			status = int(f.Integer)
		case "response_headers":
			header, _ = f.Interface.(http.Header)
		case "url":
			place, _ = url.Parse(f.String)
		}
	}

	if place == nil || status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return
	}

	at := retryAfter(header)
	if at.IsZero() {
		return
	}

	if status == http.StatusServiceUnavailable {
		limit := time.Now().Add(busyMost)
		s.client.later.note(place.Host, earliest(at, limit))
	}

	if o := s.order; o != nil {
		o.mu.Lock()
		o.wait = at
		o.mu.Unlock()
		return
	}

	// A directory with renewal information is named after the certificate's identifier.
	s.client.later.note(path.Base(place.Path), at)
}

// left is what an order's issuer is noted as, for one name.
func left(issuer, name string) string { return issuer + " " + name }
