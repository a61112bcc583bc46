package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"padlock/proxy/message"
)

// errorPage is parsed for the first who sees it.
var errorPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("error").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Status}} {{.Name}}</title>
<style>
:root{color-scheme:light dark}
body{font:1.05rem/1.6 system-ui,sans-serif;max-width:36rem;margin:18vh auto 0;padding:0 1.5rem}
h1{font-size:1.5rem;margin:0}p{margin:.8rem 0}small{opacity:.7}code{font-size:.95em}
</style>
<h1>{{.Status}} {{.Name}}</h1>
<p>{{.Text}}.</p>
{{with .Detail}}<p><code>{{.}}</code></p><p>Start the application, then load this page again: padlock tries anew with every request.</p>{{end}}
<p><small>padlock · request {{.Request}}</small></p>
</html>
`))
})

// response is the error's page.
func (e *StatusError) response(x *Exchange) *message.Response {
	page := failure{Status: e.Status, Name: http.StatusText(e.Status), Text: e.Text, Detail: e.Detail, Request: string(appendID(nil, x.id))}
	// A browser sends a call again on another connection for the status alone.
	if x.rpc != "" && e.Status != 421 {
		return e.rpcResponse(x, page.line())
	}
	body, kind := page.render(x.request.Fields)
	if x.site != nil && strings.HasPrefix(kind, "text/html") && !e.plain {
		page := e.page
		if page == nil {
			page = x.site.ErrorPage(e.Status)
		}
		if own := x.own(page, e.Status); own != nil {
			body, kind = own.Content, own.Kind
		}
	}
	fields := message.Fields{
		{Name: "Content-Type", Value: kind},
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
	}
	return x.whole(e.Status, append(fields, e.Fields...), body)
}

// failure is what an error page says.
type failure struct {
	Status  int    `json:"status"`
	Name    string `json:"error"`
	Text    string `json:"message"`
	Detail  string `json:"detail,omitempty"`
	Request string `json:"request_id"`
}

// line is the page in one line.
func (f failure) line() string {
	detail := f.Detail
	if detail != "" {
		detail += " "
	}
	return fmt.Sprintf("%d %s: %s. %s(request %s)", f.Status, f.Name, f.Text, detail, f.Request)
}

// render chooses the form that the client names first among those that we have; without one, HTML.
func (f failure) render(request message.Fields) (body []byte, kind string) {
	accept := request.Value("Accept")
	best, form := len(accept), "html"
	for _, offer := range []struct{ media, form string }{{"text/html", "html"}, {"application/json", "json"}, {"+json", "json"}, {"text/plain", "text"}} {
		if at := strings.Index(accept, offer.media); at >= 0 && at < best {
			best, form = at, offer.form
		}
	}

	switch form {
	case "json":
		body, _ = json.Marshal(f) // strings and a number
		return append(body, '\n'), "application/json"
	case "text":
		return []byte(f.line() + "\n"), "text/plain; charset=utf-8"
	}

	var page bytes.Buffer
	_ = errorPage().Execute(&page, f) // a buffer cannot fail, and the template is fixed
	return page.Bytes(), "text/html; charset=utf-8"
}
