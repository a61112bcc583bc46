package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"padlock/internal/lazy"
	"padlock/internal/regular"
)

// MaxErrorPage is the size of an error page, in bytes: it is kept in memory.
const MaxErrorPage = 1 << 20

var errorStatus = lazy.Regexp(`^[45]([0-9][0-9]|xx)$`)

func (v *validator) errorPages(path string, pages map[string]string) {
	for _, status := range slices.Sorted(maps.Keys(pages)) {
		at, name := path+"."+status, pages[status]
		if !errorStatus().MatchString(status) {
			v.fail(at, "is no status of an error: write one such as 404, or 4xx or 5xx for all others")
		}

		switch {
		case name == "":
			v.fail(at, "needs the file with the page, or its URL")
		case IsPageURL(name):
			if _, _, err := ParsePageURL(name); err != nil {
				v.fail(at, "%v", err)
			}
		default:
			if _, err := regular.Public(name, MaxErrorPage); err != nil {
				v.fail(at, "%v", v.inDirectory(name, err))
			}
		}
	}
}

// IsPageURL reports whether an error page is a URL, and no file.
func IsPageURL(page string) bool { return strings.Contains(page, "://") }

// ParsePageURL splits the URL of an error page into the target and what it is asked for, where {status} may stand.
func ParsePageURL(page string) (Target, string, error) {
	u, err := url.Parse(page)
	switch {
	case err != nil:
		return Target{}, "", fmt.Errorf("%q is not a URL such as http://pages:8080/{status}.html", page)
	case u.Scheme != "http" && u.Scheme != "https":
		return Target{}, "", fmt.Errorf("%q: the scheme must be http or https", page)
	case u.Host == "":
		return Target{}, "", fmt.Errorf("%q has no host: write a URL such as http://pages:8080/{status}.html", page)
	case u.User != nil:
		return Target{}, "", fmt.Errorf("the URL of an error page takes no user name or password")
	case u.Fragment != "":
		return Target{}, "", fmt.Errorf("%q: a page is asked for without #%s", page, u.Fragment)
	}

	target, err := ParseTarget(u.Scheme + "://" + u.Host)
	if err != nil {
		return Target{}, "", err
	}
	// As it was written: parsing has taken the braces of {status} for text to encode.
	rest := strings.TrimPrefix(page[len(u.Scheme)+len("://"):], u.Host)
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	if at := strings.IndexFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' }); at >= 0 {
		return Target{}, "", fmt.Errorf("%q: the path must be ASCII without spaces: encode it with %%", page)
	}
	return target, rest, nil
}

// intercept checks that there is a page for each status whose responses are replaced.
func (v *validator) intercept(path string, s *Site) {
	for i, status := range s.Intercept {
		at := fmt.Sprintf("%s[%d]", path, i)
		_, own := s.Errors[status]
		_, class := s.Errors[status[:min(1, len(status))]+"xx"]
		switch {
		case !errorStatus().MatchString(status):
			v.fail(at, "%q is no status of an error: write one such as 404, or 4xx or 5xx for all of them", status)
		case slices.Contains(s.Intercept[:i], status):
			v.fail(at, "%s is given twice", status)
		case own || class:
		case strings.HasSuffix(status, "xx") && slices.ContainsFunc(slices.Collect(maps.Keys(s.Errors)), func(one string) bool { return strings.HasPrefix(one, status[:1]) }):
		default:
			v.fail(at, "needs a page for %s: errors: {%s: failed.html}", status, status)
		}
	}
}
