// Package console is what people look at: the built-in page, and the admin endpoint with console, metrics and health.
//
//	page := console.NewPage(console.PageOptions{Recent: recent})
//	html := page.HTML(ctx, handshakeID, "localhost")
//	admin := console.NewAdmin(console.Options{Recent: recent, Metrics: metrics})
//	err := admin.Serve(ctx, listener, console.Guard{Network: "tcp"})
package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"time"

	"padlock/handshake"
	"padlock/handshake/wire"
)

//go:embed page.css
var pageStyle string

// PageOptions of NewPage.
type PageOptions struct {
	Recent *handshake.Recent
}

// Page is the built-in page: a visitor's own handshake, explained. It is safe for use from many goroutines.
type Page struct {
	recent   *handshake.Recent
	template func() *template.Template // parsed for the first visitor
}

// NewPage makes the embedded page.
func NewPage(o PageOptions) *Page {
	return &Page{o.Recent, sync.OnceValue(func() *template.Template {
		return template.Must(template.New("page.html").Funcs(pageFunctions()).ParseFS(templates, "page.html", "ladder.html"))
	})}
}

func pageFunctions() template.FuncMap {
	return template.FuncMap{
		"ms":      func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) },
		"title":   handshake.StageTitle,
		"version": wire.VersionName,
		"date":    func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"join":    func(s []string) string { return strings.Join(s, ", ") },
		"hybrid":  func(group string) bool { return strings.Contains(group, "MLKEM") },
		"style":   func() template.CSS { return template.CSS(pageStyle) },
		"steps":   steps,
		"meaning": meaning,
	}
}

// The record is dissected off the connection's path, so it may come a moment after the request.
const recordWait = 2 * time.Second

// HTML renders the page for the connection with the given handshake.
func (p *Page) HTML(ctx context.Context, handshakeID uint64, host string) []byte {
	ctx, cancel := context.WithTimeout(ctx, recordWait)
	defer cancel()
	var event *handshake.Event
	if p.recent != nil && handshakeID != 0 {
		// Without the handshake's record, the page says that it is not known.
		event, _ = p.recent.Wait(ctx, handshakeID)
	}
	var b bytes.Buffer
	if err := p.template().Execute(&b, map[string]any{"Event": event, "Host": host}); err != nil {
		return []byte("<!doctype html><title>padlock</title><p>This page could not be rendered.")
	}
	return b.Bytes()
}

// ContentSecurityPolicy allows the page its one style sheet and nothing else.
func (p *Page) ContentSecurityPolicy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
