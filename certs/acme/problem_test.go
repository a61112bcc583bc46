package acme

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mholt/acmez/v3/acme"
	xacme "golang.org/x/crypto/acme"

	"padlock/certs/acme/dns"
	"padlock/certs/storage"
)

const urn = "urn:ietf:params:acme:error:"

func TestProblemsAreTranslated(t *testing.T) {
	for _, c := range []struct {
		err     error
		want    []string
		refused bool
		wait    time.Time
	}{
		{acme.Problem{Type: urn + "connection", Status: 400, Detail: "203.0.113.7: Fetching http://app.example.com/.well-known/acme-challenge/x: Connection refused"},
			[]string{"the CA could not reach port 80 of 203.0.113.7: connection refused", "open ports 80 and 443", "dns-01"}, true, time.Time{}},
		{acme.Problem{Type: urn + "dns", Status: 400, Detail: "DNS problem: NXDOMAIN looking up A for app.example.com"}, []string{"could not look the name up", "add an A or AAAA record"}, true, time.Time{}},
		{acme.Problem{Type: urn + "caa", Status: 403, Detail: "CAA record for example.com prevents issuance"}, []string{"CAA record", "add this CA"}, true, time.Time{}},
		{acme.Problem{Type: urn + "rateLimited", Status: 429, Detail: "too many certificates (50) already issued for \"example.com\", retry after 2026-12-24 18:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/"},
			[]string{"rate limit", "not before 2026-12-24T18:00:00Z", "--staging"}, true, time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)},
		{acme.Problem{Type: urn + "unauthorized", Status: 403, Detail: "The key authorization file from the server did not match"}, []string{"the name leads to another server"}, true, time.Time{}},
		{acme.Problem{Type: urn + "serverInternal", Status: 500, Detail: "oops"}, []string{"a fault of its own", "tries again"}, false, time.Time{}},
		{acme.Problem{Type: urn + "badNonce", Status: 400}, []string{"nonce"}, false, time.Time{}},
		{acme.Problem{Type: urn + "compound", Status: 400, Detail: "several", Subproblems: []acme.Subproblem{{Problem: acme.Problem{Type: urn + "dns", Detail: "no AAAA"}}}}, []string{"no AAAA", "could not look the name up"}, true, time.Time{}},
		{&xacme.Error{StatusCode: 403, ProblemType: urn + "rejectedIdentifier", Detail: "policy forbids"}, []string{"does not sign for this name"}, true, time.Time{}},
		{&xacme.AuthorizationError{Errors: []error{&xacme.Error{StatusCode: 400, ProblemType: urn + "tls", Detail: "handshake failure"}}}, []string{"its TLS handshake failed"}, true, time.Time{}},
		{&url.Error{Op: "Get", URL: "https://ca/dir", Err: syscall.ECONNREFUSED}, []string{"the CA cannot be reached"}, false, time.Time{}},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, []string{"the storage is full", "free some space"}, false, time.Time{}},
		{fmt.Errorf("failed storage check: %v", &fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS}), []string{"cannot be written to"}, false, time.Time{}},
		{storage.ErrEncrypted, []string{"give the storage_key"}, false, time.Time{}},
		{fmt.Errorf("redis: %w", storage.ErrUnavailable), []string{"goes on with what it has"}, false, time.Time{}},
		{errors.New("x509: certificate signed by unknown authority"), []string{"root", "clock"}, false, time.Time{}},
	} {
		var e *Error
		if err := Translate("app.example.com", fmt.Errorf("[app.example.com] Obtain: %w", c.err)); !errors.As(err, &e) {
			t.Fatalf("%v is not translated", c.err)
		}
		for _, w := range c.want {
			if !strings.Contains(e.Error(), w) {
				t.Errorf("%v:\n%s\ndoes not say %q", c.err, e, w)
			}
		}
		if e.Refused != c.refused || !e.Wait.Equal(c.wait) {
			t.Errorf("%v: refused %v, wait %s", c.err, e.Refused, e.Wait)
		}
	}
}

// What goes wrong with a record of dns-01 is told as that, whatever the CA calls it: no port has anything to do with it.
func TestProblemsOfDNS01SpeakOfTheRecord(t *testing.T) {
	byDNS := acme.Authorization{Challenges: []acme.Challenge{{Type: "http-01", Status: "pending"}, {Type: "dns-01", Status: "invalid"}}}
	for _, err := range []error{
		acme.Problem{Type: urn + "unauthorized", Status: 403, Detail: "Incorrect TXT record found", Resource: byDNS},
		acme.Problem{Type: urn + "incorrectResponse", Status: 403, Detail: "no", Resource: byDNS},
		acme.Problem{Type: urn + "connection", Status: 400, Detail: "timeout", Resource: byDNS},
		acme.Problem{Type: urn + "dns", Status: 400, Detail: "DNS problem: NXDOMAIN looking up TXT for _acme-challenge.app.example.com"},
		acme.Problem{Type: urn + "unauthorized", Status: 403, Detail: "No TXT record found at _acme-challenge.app.example.com"},
		&dns.Error{Provider: "duckdns", Record: "_acme-challenge.app.example.com.", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}},
	} {
		text := Translate("*.app.example.com", fmt.Errorf("[*.app.example.com] Obtain: presenting for challenge: %w", err)).Error()
		if !strings.Contains(text, "_acme-challenge.app.example.com") || strings.Contains(text, "port") || strings.Contains(text, "the CA cannot be reached") || strings.Contains(text, "AAAA") {
			t.Errorf("%v:\n%s", err, text)
		}
	}
	byHTTP := acme.Authorization{Challenges: []acme.Challenge{{Type: "http-01", Status: "invalid"}, {Type: "dns-01", Status: "pending"}}}
	if text := Translate("app.example.com", acme.Problem{Type: urn + "unauthorized", Status: 403, Detail: "no", Resource: byHTTP}).Error(); !strings.Contains(text, "port 80") {
		t.Error(text)
	}
}

// Whatever a CA writes, the text stays on one line, and says something.
func FuzzTranslate(f *testing.F) {
	f.Add("connection", "203.0.113.7: Fetching http://x/.well-known/acme-challenge/y: Timeout", 400)
	f.Add("rateLimited", "retry after 2026-99-99 99:99:99 UTC", 429)
	f.Add("", "\x1b[31m\r\n\u202e", 503)
	f.Fuzz(func(t *testing.T, kind, detail string, status int) {
		text := Translate("app.example.com", acme.Problem{Type: urn + kind, Status: status, Detail: detail}).Error()
		if strings.ContainsAny(text, "\x1b\r\n") || !utf8.ValidString(text) || !strings.Contains(text, "app.example.com") {
			t.Errorf("%q", text)
		}
	})
}
