package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/internal/mask"
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
	log  *slog.Logger

	fetching sync.Mutex // one at a time
	warned   time.Time  // that a page could not be fetched; guarded by fetching
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
				all[page] = &pageSource{page: page, self: h.self, log: h.Log, kept: map[int]fetchedPage{}}
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
		s.warn(status, err)
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

// pathOf is what a page for a status is asked for by.
func (s *pageSource) pathOf(status int) string {
	return strings.ReplaceAll(s.page.Path, "{status}", strconv.Itoa(status))
}

// warn says why visitors do not get the page that the configuration names. It is called with fetching locked.
func (s *pageSource) warn(status int, err error) {
	now := time.Now()
	if now.Sub(s.warned) < warnEvery {
		return
	}
	s.warned = now
	reason := err.Error()
	var failure *upstream.Error
	if errors.As(err, &failure) {
		reason = failure.Reason()
	}
	s.log.Warn("an error page cannot be fetched: visitors get the one before, or padlock's own", "page", mask.URL(strings.ReplaceAll(s.page.URL, "{status}", strconv.Itoa(status))), "reason", reason)
}

var errLatePage = fmt.Errorf("it did not come within %s", pagePatience)

// fetch asks for a page, for as long as a visitor may be kept waiting.
func (s *pageSource) fetch(status int) (*sites.ErrorPage, error) {
	var ctx message.Context
	defer time.AfterFunc(pagePatience, ctx.Cancel).Stop()
	page, err := s.ask(&ctx, status)
	if err != nil && ctx.Err() != nil {
		err = errLatePage
	}
	return page, err
}

func (s *pageSource) ask(ctx *message.Context, status int) (*sites.ErrorPage, error) {
	var attempt upstream.Attempt
	defer attempt.End()
	request := &message.Request{
		Method: "GET", Scheme: "http", Target: s.pathOf(status), Proto: "HTTP/1.1",
		Fields: message.Fields{{Name: "User-Agent", Value: "padlock-errors"}, {Name: "Accept", Value: "text/html"}, {Name: loopField, Value: s.self}},
	}

	response, err := s.page.From.RoundTrip(ctx, request, ignored{}, &attempt)
	if err != nil {
		return nil, err
	}
	if response.Tunnel != nil {
		response.Tunnel.Close()
		return nil, errors.New("the target answers with another protocol")
	}
	defer response.Body.Close()

	// A page that is encoded would have to be decoded for some clients.
	if coding, coded := response.Fields.Get("Content-Encoding"); coded {
		return nil, fmt.Errorf("the target sends it with Content-Encoding %q, and a page must have none", coding)
	}
	if response.Status != 200 {
		return nil, fmt.Errorf("the target answers with status %d, and a page must have status 200", response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, config.MaxErrorPage+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > config.MaxErrorPage:
		return nil, fmt.Errorf("it is larger than %d bytes", config.MaxErrorPage)
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
