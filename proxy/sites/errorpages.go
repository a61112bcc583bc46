package sites

import (
	"fmt"
	"iter"
	"maps"
	"mime"
	"path/filepath"
	"strconv"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/internal/regular"
	"padlock/proxy/upstream"
)

// ErrorPage is what a site's visitors see of an error.
type ErrorPage struct {
	Content []byte
	Kind    string // Content-Type

	// From is where the page is fetched from, and Path what is asked for there, in which {status} may stand; nil: the
	// content is the page.
	From *upstream.Group
	Path string
	URL  string // both, as the configuration has them
}

func (b *builder) errorPages(c *config.Site) (map[string]*ErrorPage, error) {
	pages := map[string]*ErrorPage{}
	for status, name := range c.Errors {
		page, err := b.errorPage(name)
		if err != nil {
			return nil, fmt.Errorf("site %s: errors.%s: %w", c.Hosts[0], status, err)
		}
		pages[status] = page
	}
	return pages, nil
}

// errorPage is the page of a file, or of a URL.
func (b *builder) errorPage(name string) (*ErrorPage, error) {
	if config.IsPageURL(name) {
		return b.pageFrom(name)
	}
	return lastgood.Get(b.files, name, "an error page", func() (*ErrorPage, error) { return readErrorPage(name) })
}

func (b *builder) pageFrom(url string) (*ErrorPage, error) {
	target, path, err := config.ParsePageURL(url)
	if err != nil || b.targets == nil {
		return &ErrorPage{Path: path}, err
	}

	// One attempt without a memory for failures: a page of padlock's own is there in the same moment.
	group, err := b.targets.GroupOf(&config.Upstream{To: []config.Backend{{Target: target}}, PassiveHealth: config.PassiveHealth{Off: true}}, b.cfg.Timeouts, b.files)
	if err != nil {
		return nil, err
	}
	group.UpstreamHost = true
	b.groups = append(b.groups, group)
	return &ErrorPage{From: group, Path: path, URL: url}, nil
}

func readErrorPage(name string) (*ErrorPage, error) {
	content, err := regular.Public(name, config.MaxErrorPage)
	if err != nil {
		return nil, err
	}
	kind := mime.TypeByExtension(filepath.Ext(name))
	if kind == "" {
		kind = "text/html; charset=utf-8"
	}
	return &ErrorPage{Content: content, Kind: kind}, nil
}

// ErrorPages are all pages of a site.
func (s *Site) ErrorPages() iter.Seq[*ErrorPage] { return maps.Values(s.errors) }

// ErrorPage returns the site's own page for a status; nil: it has none.
func (s *Site) ErrorPage(status int) *ErrorPage {
	if page := s.errors[strconv.Itoa(status)]; page != nil {
		return page
	}
	return s.errors[strconv.Itoa(status/100)+"xx"]
}

// Replaces returns the page that stands for a target's response with this status; nil: the response stays.
func (s *Site) Replaces(status int) *ErrorPage {
	if len(s.intercept) == 0 || status < 400 || !s.intercept[strconv.Itoa(status)] && !s.intercept[strconv.Itoa(status/100)+"xx"] {
		return nil
	}
	return s.ErrorPage(status)
}

// Intercepts reports whether pages stand for responses of targets.
func (s *Site) Intercepts() bool { return len(s.intercept) > 0 }
