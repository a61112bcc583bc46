package proxy

import (
	"bytes"
	"html/template"
	"net/http"

	"padlock/proxy/message"
)

var errorPage = template.Must(template.New("error").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Status}} {{.Name}}</title>
<style>
:root{color-scheme:light dark}
body{font:1.05rem/1.6 system-ui,sans-serif;max-width:36rem;margin:18vh auto 0;padding:0 1.5rem}
h1{font-size:1.5rem;margin:0}p{margin:.8rem 0}small{opacity:.7}code{font-size:.95em}
</style>
<h1>{{.Status}} {{.Name}}</h1>
<p>{{.Text}}.</p>
{{with .Detail}}<p><code>{{.}}</code></p><p>Start the application, then load this page again: padlock tries anew with every request.</p>{{end}}
<p><small>padlock</small></p>
</html>
`))

// fail answers with an error page of our own. The detail is for the person who runs padlock, not for the world.
func fail(x *exchange, status int, text, detail string) {
	if x.err == "" {
		x.err = text
	}
	var page bytes.Buffer
	_ = errorPage.Execute(&page, struct { // a buffer cannot fail, and the template is fixed
		Status             int
		Name, Text, Detail string
	}{status, http.StatusText(status), text, detail})
	fields := message.Fields{
		{Name: "Content-Type", Value: "text/html; charset=utf-8"},
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
	}
	if status == 405 {
		fields.Add("Allow", "GET, HEAD")
	}
	if x.w.Head(status, fields, int64(page.Len())) == nil && x.request.Method != "HEAD" {
		_, _ = x.w.Write(page.Bytes())
	}
}
