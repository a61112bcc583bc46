// Package mask takes secrets out of URLs before they are printed, logged or shown. There is one function that decides
// what of a URL is harmless; whatever it does not know is masked.
//
//	log.Info("stored", "place", mask.URL("redis://app:hunter2@cache/0?sentinel_password=x"))  // redis://xxxxx@cache/0?sentinel_password=xxxxx
//	return mask.Error(err)                                                                    // masks the URLs in its text
package mask

import (
	"net/url"
	"slices"
	"strings"

	"padlock/internal/lazy"
)

// Masked stands for what is not shown.
const Masked = "xxxxx"

// harmless are the parameters of queries whose values are no secrets: those of storages, and of a CA's or an ask
// endpoint's question.
var harmless = []string{
	"application_name", "ca", "cluster", "connect_timeout", "db", "domain", "domains", "master", "prefix", "sslcert", "sslkey", "sslmode", "sslrootcert",
	"target_session_attrs",
}

// URL is a URL with its scheme, hosts and path, and those parameters of its query that are known to be harmless. User
// information, a fragment and the values of all other parameters are masked; of what cannot be read, all but the
// scheme is. Text without "://" comes back as it is.
func URL(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	rest, _, fragment := strings.Cut(rest, "#")
	rest, query, asks := strings.Cut(rest, "?")
	authority, path, slash := strings.Cut(rest, "/")

	var b strings.Builder
	b.WriteString(scheme + "://")
	at := strings.LastIndexByte(authority, '@')
	if at >= 0 {
		b.WriteString(Masked + "@")
	}

	host := authority[at+1:]
	// A user information that holds what it should encode.
	if strings.ContainsAny(host, " \t\r\n\"%") || strings.Contains(path, "@") {
		return scheme + "://…"
	}
	b.WriteString(host)
	if slash {
		b.WriteString("/" + path)
	}

	if asks {
		b.WriteString("?" + parameters(query))
	}
	if fragment {
		b.WriteString("#" + Masked)
	}

	return b.String()
}

func parameters(query string) string {
	parts := strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
	for i, part := range parts {
		name, value, has := strings.Cut(part, "=")
		known, err := url.QueryUnescape(name)
		switch {
		case !has:
			// A parameter without a value may be a token as a whole.
			parts[i] = Masked
		case err != nil || !slices.Contains(harmless, known):
			value = Masked
			fallthrough
		default:
			parts[i] = name + "=" + value
		}
	}

	return strings.Join(parts, "&")
}

var urls = lazy.Regexp(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>` + "`" + `]+`)

// Text is a text with all URLs in it masked.
func Text(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return urls().ReplaceAllStringFunc(text, URL)
}

// Error is an error with all URLs in its text masked. What it wraps is as before.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if text := err.Error(); Text(text) != text {
		return &masked{err, Text(text)}
	}
	return err
}

type masked struct {
	error
	text string
}

func (m *masked) Error() string { return m.text }
func (m *masked) Unwrap() error { return m.error }
