package sites

import (
	"fmt"
	"mime"
	"path/filepath"
	"strconv"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/internal/regular"
)

// ErrorPage is what a site's visitors see of an error.
type ErrorPage struct {
	Content []byte
	Kind    string // Content-Type
}

func errorPages(c *config.Site, files *lastgood.Values) (map[string]*ErrorPage, error) {
	pages := map[string]*ErrorPage{}
	for status, name := range c.Errors {
		page, err := lastgood.Get(files, name, "an error page", func() (*ErrorPage, error) { return readErrorPage(name) })
		if err != nil {
			return nil, fmt.Errorf("site %s: errors.%s: %w", c.Hosts[0], status, err)
		}
		pages[status] = page
	}
	return pages, nil
}

func readErrorPage(name string) (*ErrorPage, error) {
	content, err := regular.Named(name, config.MaxErrorPage)
	if err != nil {
		return nil, err
	}
	kind := mime.TypeByExtension(filepath.Ext(name))
	if kind == "" {
		kind = "text/html; charset=utf-8"
	}
	return &ErrorPage{content, kind}, nil
}

// ErrorPage returns the site's own page for a status; nil: it has none.
func (s *Site) ErrorPage(status int) *ErrorPage {
	if page := s.errors[strconv.Itoa(status)]; page != nil {
		return page
	}
	return s.errors[strconv.Itoa(status/100)+"xx"]
}
