package acme

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mholt/acmez/v3/acme"
	xacme "golang.org/x/crypto/acme"

	"padlock/certs/acme/dns"
	"padlock/certs/storage"
	"padlock/handshake"
	"padlock/internal/lazy"
	"padlock/internal/mask"
)

// Error says in plain words why there is no certificate, and what to do.
type Error struct {
	Name   string
	Cause  string
	Remedy string
	// Wait is the earliest time at which another try makes sense, when the CA said so.
	Wait time.Time
	// Refused: the CA was reached, and declined. Trying again soon would only use up its limits.
	Refused bool
	Err     error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("no certificate for %s: %s", e.Name, e.Cause)
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	if !e.Wait.IsZero() {
		text += "; not before " + e.Wait.UTC().Format(time.RFC3339)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// problem is a CA's problem document (RFC 7807, RFC 8555 section 6.7), from either client.
type problem struct {
	kind   string // the last part of its type
	detail string
	status int
	wait   time.Time
	record bool // it is about a record of dns-01
}

func findProblem(err error) (problem, bool) {
	var a acme.Problem
	if errors.As(err, &a) {
		p := problem{kind: kindOf(a.Type), detail: a.Detail, status: a.Status}
		for _, sub := range a.Subproblems {
			// What failed for one of several names is in the subproblems alone (RFC 8555 section 6.7.1).
			p.detail += "; " + sub.Detail
			if p.kind == "compound" || p.kind == "" {
				p.kind = kindOf(sub.Type)
			}
		}

		p.record = aboutRecord(a)
		return p, true
	}

	// autocert's client wraps the CA's document once more.
	var authorization *xacme.AuthorizationError
	if errors.As(err, &authorization) && len(authorization.Errors) > 0 {
		err = errors.Join(authorization.Errors...)
	}

	var x *xacme.Error
	if errors.As(err, &x) {
		p := problem{kind: kindOf(x.ProblemType), detail: x.Detail, status: x.StatusCode}
		if p.kind == "rateLimited" || x.StatusCode == http.StatusTooManyRequests || x.StatusCode == http.StatusServiceUnavailable {
			p.wait = retryAfter(x.Header)
		}
		return p, true
	}

	return problem{}, false
}

// aboutRecord reports whether what failed is a validation by dns-01.
func aboutRecord(a acme.Problem) bool {
	if authorization, ok := a.Resource.(acme.Authorization); ok {
		for _, c := range authorization.Challenges {
			if c.Status == acme.StatusInvalid {
				return c.Type == acme.ChallengeTypeDNS01
			}
		}
	}
	return strings.Contains(a.Detail, "_acme-challenge.")
}

func kindOf(uri string) string { return uri[strings.LastIndexByte(uri, ':')+1:] }

// Translate turns an order's error into an *Error. What the CA wrote is escaped.
func Translate(name string, err error) error {
	var done *Error
	if err == nil || errors.As(err, &done) {
		return err
	}

	e := &Error{Name: name, Err: err}
	p, ok := findProblem(err)
	if !ok {
		e.Cause, e.Remedy = unreached(err)
		var busy *busyError
		if errors.As(err, &busy) {
			e.Wait = busy.until
		}
		return e
	}

	p.detail = handshake.Escape(strings.TrimSuffix(p.detail, "."))
	// A nonce that is stale and a fault of the CA say nothing about the order, which may be tried again at once.
	e.Refused = p.status < 500 && p.kind != "badNonce" && p.kind != "serverInternal"
	e.Wait = p.wait
	e.Cause, e.Remedy = p.explain(name)
	// One of both clients leaves no header to read, and Let's Encrypt also writes the time into the text.
	if p.kind == "rateLimited" && e.Wait.IsZero() {
		e.Wait = retryDate(p.detail)
	}

	return e
}

var (
	fromAddress = lazy.Regexp(`^((?:\d{1,3}\.){3}\d{1,3}|\[?[0-9a-f:]*:[0-9a-f:]*\]?): `)
	addressIn   = lazy.Regexp(`(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?`)
	afterDate   = lazy.Regexp(`(?i)(?:retry after|retry-after|until) (\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?: ?(?:UTC|Z))?`)
)

// retryDate reads Let's Encrypt's "retry after 2026-01-02 15:04:05 UTC"; without one an hour is a polite guess.
func retryDate(detail string) time.Time {
	if m := afterDate().FindStringSubmatch(detail); m != nil {
		for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05"} {
			if t, err := time.Parse(layout, m[1]); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}

// explain knows the types of RFC 8555 section 6.7 and RFC 8657.
func (p problem) explain(name string) (cause, remedy string) {
	at := name
	// The address shows at once whether the name leads to another machine.
	if m := fromAddress().FindStringSubmatch(p.detail); m != nil {
		at = m[1]
	} else if m := addressIn().FindString(p.detail); m != "" {
		at = m
	}

	said := fmt.Sprintf(" (the CA says: %s)", p.detail)
	// Before the kinds, which mean a connection to this machine for the other challenges.
	if p.record && slices.Contains([]string{"dns", "connection", "unauthorized", "incorrectResponse"}, p.kind) {
		record := "_acme-challenge." + strings.TrimPrefix(name, "*.")
		return "the CA did not find the answer in the TXT record " + record + said,
			"check that certificates.dns.provider changes the zone that the internet sees (dig TXT " + record + ", a CNAME included), or wait for longer (certificates.dns.timeout)"
	}

	switch p.kind {
	case "connection":
		return fmt.Sprintf("the CA could not reach %s%s%s", portOf(p.detail), at, reasonOf(p.detail)) + said,
			"open ports 80 and 443 to the internet and let the name's DNS records lead here, or use dns-01 (certificates.dns)"
	case "tls":
		return "the CA reached " + at + " but its TLS handshake failed" + said,
			"something else answers on port 443, or sits before padlock and ends TLS: use http-01, or dns-01"
	case "dns":
		return "the CA could not look the name up" + said, "add an A or AAAA record for " + name + " that leads to this machine, and look it up with: padlock doctor " + name
	case "unauthorized", "incorrectResponse":
		return "the CA did not get the answer of this padlock" + said,
			"the name leads to another server: check its A and AAAA records (padlock doctor " + name + "), and what answers on port 80"
	case "caa":
		return "a CAA record does not allow this CA" + said, "add this CA to the CAA records of " + name + " (or of the domain above it), or choose the CA that they name"
	case "rateLimited":
		return "the CA's rate limit is reached" + said, "padlock waits; test with --staging, and keep the storage directory between starts"
	case "rejectedIdentifier", "unsupportedIdentifier":
		return "the CA does not sign for this name" + said, "check its spelling; for local names padlock has a CA of its own"
	case "externalAccountRequired":
		return "the CA wants an account that it knows (external account binding)" + said, "set eab: {kid: …, hmac_key: …} at the issuer, as the CA's web site shows"
	case "invalidContact", "unsupportedContact":
		return "the CA does not accept the e-mail address" + said, "correct certificates.email (--email)"
	case "userActionRequired":
		return "the CA wants its new terms to be agreed to" + said, "open the page that it names"
	case "badCSR", "badPublicKey", "badSignatureAlgorithm":
		return "the CA does not accept the key or the request" + said, "choose another of certificates.key_types"
	case "invalidProfile":
		return "the CA does not know the profile" + said, "choose one of its own in the issuer's profile"
	case "accountDoesNotExist":
		return "the CA does not know the account any more" + said, "padlock registers another"
	case "serverInternal":
		return "the CA has a fault of its own" + said, "padlock tries again"
	case "badNonce":
		return "the CA refused one nonce after another" + said, "padlock tries again"
	}

	return "the CA refuses" + said, ""
}

// portOf names the port that a detail speaks of, if it does.
func portOf(detail string) string {
	switch {
	case strings.Contains(detail, "acme-challenge") || strings.Contains(detail, "http://"):
		return "port 80 of "
	case strings.Contains(detail, "tls-alpn") || strings.Contains(detail, "TLS"):
		return "port 443 of "
	}
	return ""
}

func reasonOf(detail string) string {
	for _, reason := range []string{"connection refused", "Connection refused", "Timeout", "timeout", "no route to host", "connection reset"} {
		if strings.Contains(detail, reason) {
			return ": " + strings.ToLower(reason)
		}
	}
	return ""
}

// unreached explains errors without a problem document.
func unreached(err error) (cause, remedy string) {
	text := mask.Text(handshake.Escape(err.Error()))
	var network net.Error
	var place *url.Error
	var busy *busyError
	var record *dns.Error
	switch {
	case errors.As(err, &busy):
		return "the CA is busy (" + busy.Error() + ")", "padlock waits"
	case errors.As(err, &record):
		return text, "check the settings of " + record.Provider + " (docs/certificates.md), and this machine's way out to its API; padlock tries again"
	}

	if cause, remedy = unstored(err, text); cause != "" {
		return cause, remedy
	}

	switch {
	case strings.Contains(text, "certificate signed by unknown authority") || strings.Contains(text, "x509:"):
		return "the CA's own certificate is not trusted (" + text + ")", "for a CA of your own name its root at the issuer (root: FILE, --acme-root FILE); else check this machine's clock and CA certificates"
	case errors.As(err, &place) || errors.As(err, &network) || strings.Contains(text, "connection refused") || strings.Contains(text, "no such host") || strings.Contains(text, "deadline exceeded"):
		return "the CA cannot be reached (" + text + ")", "check this machine's way out to the CA; padlock tries again"
	case strings.Contains(text, "no solvers available"):
		return "the CA offers no challenge that can be answered here (" + text + ")", "listen on port 80 or 443, or use dns-01 (certificates.dns)"
	case strings.Contains(text, "profile"):
		return text, "choose one of the CA's own in the issuer's profile"
	}

	return text, ""
}

// unstored is for errors of the storage; "" for others. text is that of the error.
func unstored(err error, text string) (cause, remedy string) {
	switch {
	case errors.Is(err, storage.ErrEncrypted):
		return text, "give the storage_key that the storage was written with"
	case errors.Is(err, storage.ErrPlain), errors.Is(err, storage.ErrMarker):
		return text, "if you trust what it holds: padlock certs encrypt encrypts it once"
	case errors.Is(err, storage.ErrUnavailable):
		return text, "padlock goes on with what it has, and tries again"
	case errors.Is(err, syscall.ENOSPC) || strings.Contains(text, "no space left"):
		return "the storage is full (" + text + ")", "free some space; padlock tries again"
	case errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) || strings.Contains(text, "permission denied") || strings.Contains(text, "read-only file system"):
		return "the storage cannot be written to (" + text + ")", "make the storage directory writable for padlock's user"
	}
	return "", ""
}
