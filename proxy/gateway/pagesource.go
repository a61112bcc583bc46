package gateway

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
)

// pageSource fetches error pages from a target. Nothing of a client's request goes there, so a page is the same for
// all, and is kept for a while: while an application is down, its visitors must not become those of the target that
// has the pages. It is safe for use from many goroutines.
type pageSource struct {
	page *sites.ErrorPage
	self string // in loopField

	fetching sync.Mutex // one at a time
	mu       sync.Mutex
	kept     map[int]fetchedPage // by status
}

type fetchedPage struct {
	page *sites.ErrorPage // nil: there was none, and is none before
	at   time.Time
}

const (
	pageFresh    = 10 * time.Second
	pageMissing  = time.Second // before a page that could not be fetched is asked for again
	pagePatience = 2 * time.Second
	pagesKept    = 16 // statuses of one source: with intercept, targets choose them
)

// sources are those of a snapshot's pages.
func (h *Gateway) sources(s *sites.Snapshot) map[*sites.ErrorPage]*pageSource {
	all := map[*sites.ErrorPage]*pageSource{}
	for _, site := range s.Sites {
		for page := range site.ErrorPages() {
			if page.From != nil {
				all[page] = &pageSource{page: page, self: h.self, kept: map[int]fetchedPage{}}
			}
		}
	}
	return all
}

// own is a site's page as it is to be shown; nil: padlock's own has to do.
func (x *Exchange) own(page *sites.ErrorPage, status int) *sites.ErrorPage {
	if page == nil || page.From == nil {
		return page
	}

	source := x.routes.pages[page]
	// A target that sends its requests back to padlock would be asked for the page of its own page's error.
	if source == nil || x.passes(source.self) > 0 {
		return nil
	}
	return source.get(status)
}

// get is the page for a status. The one that was fetched last is as good while another cannot be had.
func (s *pageSource) get(status int) *sites.ErrorPage {
	last, fresh := s.last(status)
	if fresh {
		return last
	}

	if last != nil {
		// Others see the page that is there, and only one client waits.
		if !s.fetching.TryLock() {
			return last
		}
	} else {
		s.fetching.Lock()
	}
	defer s.fetching.Unlock()

	// Whoever was first has fetched it for those that have waited.
	if last, fresh = s.last(status); fresh {
		return last
	}
	page, err := s.fetch(status)
	if err != nil {
		return s.keep(status, fetchedPage{last, time.Now().Add(pageMissing)})
	}
	return s.keep(status, fetchedPage{page, time.Now().Add(pageFresh)})
}

func (s *pageSource) last(status int) (page *sites.ErrorPage, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.kept[status]
	return kept.page, ok && time.Now().Before(kept.at)
}

func (s *pageSource) keep(status int, p fetchedPage) *sites.ErrorPage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.kept[status]; !known && len(s.kept) >= pagesKept {
		for other := range s.kept {
			delete(s.kept, other)
			break
		}
	}
	s.kept[status] = p
	return p.page
}

var errNoPage = errors.New("the target has no such page")

// fetch asks for a page, for as long as a visitor may be kept waiting.
func (s *pageSource) fetch(status int) (*sites.ErrorPage, error) {
	var ctx message.Context
	defer time.AfterFunc(pagePatience, ctx.Cancel).Stop()
	var attempt upstream.Attempt
	defer attempt.End()
	request := &message.Request{
		Method: "GET", Scheme: "http", Target: strings.ReplaceAll(s.page.Path, "{status}", strconv.Itoa(status)), Proto: "HTTP/1.1",
		Fields: message.Fields{{Name: "User-Agent", Value: "padlock-errors"}, {Name: "Accept", Value: "text/html"}, {Name: loopField, Value: s.self}},
	}

	response, err := s.page.From.RoundTrip(&ctx, request, ignored{}, &attempt)
	if err != nil {
		return nil, err
	}
	if response.Tunnel != nil {
		response.Tunnel.Close()
		return nil, errNoPage
	}
	defer response.Body.Close()

	// A page that is encoded would have to be decoded for some clients.
	if _, coded := response.Fields.Get("Content-Encoding"); response.Status != 200 || coded {
		return nil, fmt.Errorf("%w: status %d", errNoPage, response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, config.MaxErrorPage+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > config.MaxErrorPage:
		return nil, errNoPage
	}

	kind := response.Fields.Value("Content-Type")
	if kind == "" {
		kind = "text/html; charset=utf-8"
	}
	return &sites.ErrorPage{Content: content, Kind: kind}, nil
}

type ignored struct{}

// Interim implements message.Interim.
func (ignored) Interim(int, message.Fields) error { return nil }
