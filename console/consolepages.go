package console

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/handshake"
	"padlock/handshake/wire"
)

//go:embed console.html requests.html traffic.html ladder.html page.html
var templates embed.FS

//go:embed console.css
var consoleOnly string

//go:embed console.js
var consoleScript string

var consoleStyle = pageStyle + consoleOnly

// pages renders what people look at. They are parsed for the first who does, as that would be a twentieth of a start.
type pages struct{ template func() *template.Template }

// offered is what a choice offers: also what is chosen, where the address of the page chooses something else.
func offered(places []place, chosen string) []place {
	if slices.ContainsFunc(places, func(p place) bool { return p.At == chosen }) {
		return places
	}
	return append(places, place{chosen, chosen})
}

// filtered is the status of a page with a filter.
func filtered(err error) int {
	if err != nil {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// place is an address with its name.
type place struct{ At, Name string }

func newPages() *pages { return &pages{sync.OnceValue(parsePages)} }

func parsePages() *template.Template {
	functions := pageFunctions()
	for name, f := range map[string]any{
		"nav": func() []place {
			return []place{{"/", "Handshakes"}, {"/inspect", "Requests"}, {"/traffic", "Traffic"}, {"/keys", "Certificates"}}
		},
		"outcomes": func(chosen string) []place {
			return offered([]place{{"", "all"}, {"attention", "need attention"}, {"failures", "all but complete"}, {"complete", "complete"}, {"silent", "silent"}, {"unused", "unused"}, {"failed", "failed"}, {"not_tls", "not TLS"}}, chosen)
		},
		"versions": func(chosen string) []place {
			return offered([]place{{"", "all"}, {"1.3", "TLS 1.3"}, {"1.2", "TLS 1.2"}}, chosen)
		},
		"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"clock": func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"kind":  kind, "mark": mark, "what": what, "ended": ended, "facts": agreed, "timings": timings, "chart": newChart, "counts": countChart,
		"remarks": (*handshake.Event).Remarks,
		"reason":  reason,
	} {
		functions[name] = f
	}
	maps.Copy(functions, requestFunctions())
	maps.Copy(functions, trafficFunctions())

	return template.Must(template.New("console").Funcs(functions).ParseFS(templates, "console.html", "requests.html", "traffic.html", "ladder.html"))
}

// reason says why a target is not healthy.
func reason(t TargetStatus) string {
	if t.State == "healthy" {
		return ""
	}
	return cmp.Or(t.Reason, "no reason is known yet")
}

func (p *pages) asset(kind, content string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(content))
	}
}

// show renders a page, or a part of one.
func (p *pages) show(w http.ResponseWriter, status int, name string, data any) {
	// Rendered as a whole first: after the first byte, a failure could not become a status any more.
	html, err := p.render(name, data)
	if err != nil {
		http.Error(w, "This page could not be rendered: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(html)
}

func (p *pages) render(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	err := p.template().ExecuteTemplate(&b, name, data)
	return b.Bytes(), err
}

// head is what every page of the console begins with.
type head struct {
	Title, At, Version, Uptime string
	Ready                      bool
	Warnings                   []string
}

func (a *Admin) head(title, at string) head {
	return head{Title: title, At: at, Version: a.o.Version, Uptime: age(time.Since(a.started)), Ready: a.ready(), Warnings: a.warnings()}
}

// age is a duration in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

// listed bounds the rows of a page.
const listed = 200

func (a *Admin) handshakePage(w http.ResponseWriter, r *http.Request) {
	f, err := newFilter(r.URL.Query())
	data := struct {
		head
		Refused   error // why the filter cannot be understood; nil: it can
		Recorded  bool
		Filter    filter
		Events    []*handshake.Event
		Attention needs
		Trend     trend
	}{head: a.head("Handshakes", "/"), Refused: err, Recorded: a.o.Recent != nil, Filter: f}

	if a.o.Recent != nil {
		data.Attention = troubles(a.o.Recent.Failures())
		for _, e := range a.o.Recent.Events() {
			if err == nil && f.matches(e) && len(data.Events) < listed {
				data.Events = append(data.Events, e)
			}
		}

		if a.o.Trends != nil {
			data.Trend = a.o.Trends.hour()
		}
	}

	a.pages.show(w, filtered(err), "handshakes", data)
}

func (a *Admin) trends(w http.ResponseWriter, _ *http.Request) {
	var h trend
	if a.o.Trends != nil {
		h = a.o.Trends.hour()
	}
	a.pages.show(w, http.StatusOK, "trends", h)
}

// handshake is one of them, as a page, as a part of a page, as JSON or as pcapng.
func (a *Admin) handshake(w http.ResponseWriter, r *http.Request) {
	text, format, _ := strings.Cut(r.PathValue("id"), ".")
	id, err := strconv.ParseUint(text, 10, 64)
	var e *handshake.Event
	if err == nil && a.o.Recent != nil {
		// One that a page has shown can be opened, though newer ones have taken its place.
		if e = a.o.Recent.Find(id); e == nil {
			e = a.shown.Find(id)
		}
	}

	fragment := r.URL.Query().Get("fragment") != ""
	switch {
	case e == nil && fragment:
		a.pages.show(w, http.StatusNotFound, "forgotten", nil)
	case e == nil && format == "":
		a.pages.show(w, http.StatusNotFound, "gone", struct {
			head
			ID string
		}{a.head("Not remembered", ""), handshake.Escape(text)})
	case e == nil:
		http.Error(w, "This handshake is not remembered.", http.StatusNotFound)
	case format == "json":
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(handshake.AppendJSON(nil, e))
	case format == "pcapng":
		a.packets(w, id)
	case format != "":
		http.NotFound(w, r)
	default:
		name := "handshake"
		if fragment {
			name = "detail"
		}
		a.pages.show(w, http.StatusOK, name, struct {
			head
			Event   *handshake.Event
			Packets bool
		}{a.head(fmt.Sprintf("Handshake #%d", id), ""), e, a.o.Packets != nil && a.o.Packets(id) != nil})
	}
}

func (a *Admin) packets(w http.ResponseWriter, id uint64) {
	if a.o.Packets == nil {
		http.Error(w, "Packets are given away with the secrets that open them, and only where padlock was started with --insecure-export-secrets.", http.StatusForbidden)
		return
	}
	file := a.o.Packets(id)
	if file == nil {
		http.Error(w, "The packets of this handshake are not remembered.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="handshake-%d.pcapng"`, id))
	_, _ = w.Write(file)
}

// key is a certificate in words.
type key struct {
	Certificate
	From, Expires, Next, Again string
	Chain                      []string
}

func (a *Admin) certificatePage(w http.ResponseWriter, r *http.Request) {
	data := struct {
		head
		Certificates []key
		More         int
	}{head: a.head("Certificates", "/keys")}

	if a.o.Certificates != nil {
		all := a.o.Certificates()
		// Before the list is cut, so that trouble is never what is left out.
		slices.SortStableFunc(all, func(a, b Certificate) int { return cmp.Compare(rank(&a), rank(&b)) })
		for i := range all[:min(len(all), listed)] {
			data.Certificates = append(data.Certificates, newKey(&all[i]))
		}
		data.More = len(all) - len(data.Certificates)
	}

	name := "keys"
	if r.URL.Query().Get("fragment") != "" {
		name = "key-list"
	}
	a.pages.show(w, http.StatusOK, name, data)
}

// rank puts trouble first.
func rank(c *Certificate) int {
	switch {
	case c.Expiring:
		return 0
	case c.Error != "":
		return 1
	}
	return 2
}

func newKey(c *Certificate) key {
	k := key{Certificate: *c, From: c.Issuer, Expires: "–", Next: "–"}
	switch c.Source {
	case "file":
		k.From, k.Next = "a file, issued by "+c.Issuer, "when the file changes"
	case "local":
		k.From, k.Next = "the local CA on this machine", "–"
		if c.KeyType != "" && len(c.DER) > 0 { // a leaf
			k.Next = "by itself, when it is needed"
		}
	}

	if c.NotAfter != nil {
		k.Expires = c.NotAfter.UTC().Format(time.DateTime)
	}
	if c.Renewal != nil {
		k.Next = c.Renewal.UTC().Format(time.DateTime)
	}

	if c.NextTry != nil {
		k.Again = c.NextTry.UTC().Format(time.TimeOnly)
	}

	k.Chain = handshake.ChainNames(c.DER)
	return k
}

// what a row says of a handshake.
func what(e *handshake.Event) string {
	if e.Outcome != handshake.Complete && e.Failure != nil {
		text := e.Failure.Cause
		if e.Failure.Alert >= 0 {
			text = e.Failure.AlertName + ": " + text
		}
		return text
	}

	parts := []string{}
	if e.Version != 0 {
		parts = append(parts, "TLS "+wire.VersionName(e.Version))
	}

	for _, part := range []string{e.Group, e.ALPN} {
		if part != "" {
			parts = append(parts, part)
		}
	}

	for word, is := range map[string]bool{"resumed": e.Resumed, "HTTP/3": e.QUIC, "the CA validates": e.Validation} {
		if is {
			parts = append(parts, word)
		}
	}

	// A map has no order, and rows should not change with each look.
	slices.Sort(parts[min(len(parts), 3):])
	return strings.Join(parts, " · ")
}

func kind(e *handshake.Event) string {
	switch {
	case e.Outcome == handshake.Complete:
		return "complete"
	case attention(e):
		return "trouble"
	}
	return "noise"
}

func mark(e *handshake.Event) string {
	return map[string]string{"complete": "✓", "trouble": "✗", "noise": "·"}[kind(e)]
}

// ended says who hung up, and where.
func ended(e *handshake.Event) string {
	f := e.Failure
	if f == nil {
		return ""
	}
	text := fmt.Sprintf("The %s hung up after %s", f.By, handshake.StageTitle(f.Stage))
	if f.Alert >= 0 {
		text += fmt.Sprintf(" with alert %d, %s", f.Alert, f.AlertName)
	}
	return text
}

// agreed is what both sides came to.
func agreed(e *handshake.Event) (facts []handshake.Fact) {
	version := ""
	if e.Version != 0 {
		version = "TLS " + wire.VersionName(e.Version)
	}

	took := "from the first contact to Finished both ways"
	if e.Outcome != handshake.Complete {
		took = "from the first contact to the end"
	}

	for _, f := range []handshake.Fact{
		{Name: "protocol", Value: version}, {Name: "key agreement", Value: e.Group}, {Name: "cipher suite", Value: e.CipherSuite},
		{Name: "application protocol", Value: e.ALPN}, {Name: took, Value: fmt.Sprintf("%.1f ms", float64(e.Duration.Microseconds())/1000)},
		{Name: "the client's fingerprint (JA4)", Value: e.JA4},
	} {
		if f.Value != "" {
			facts = append(facts, f)
		}
	}

	return facts
}

// trouble is failures that are alike.
type trouble struct {
	Last     *handshake.Event
	Count    int
	From     string // whom: one client, or how many
	severity int
}

// needs are the troubles that stand above the list, the gravest first, and how many more there are.
type needs struct {
	Shown []trouble
	More  int
}

// attentionShown bounds what stands above the list.
const attentionShown = 3

// severity is 2 where padlock's own certificate is at fault, or padlock itself failed, which is so for every client;
// 0 where somebody asks for what no site has, or does not speak TLS; else 1.
func severity(e *handshake.Event) int {
	const internalError, unrecognizedName = 80, 112
	f := e.Failure
	switch {
	case e.Certificate != nil && len(e.Certificate.Problems) > 0, f.By == handshake.Server && f.Alert == internalError:
		return 2
	case f.By == handshake.Server && f.Alert == unrecognizedName, e.Outcome == handshake.NotTLS:
		return 0
	}
	return 1
}

// troubles groups failures, which come newest first, by cause and name.
func troubles(failures []*handshake.Event) needs {
	var all []trouble
	at, clients := map[string]int{}, map[string]map[string]bool{}
	for _, e := range failures {
		if e.Failure == nil {
			continue
		}

		// Neither of both holds a zero byte, as texts of clients are escaped.
		alike := e.Failure.Cause + "\x00" + e.SNI
		if clients[alike] == nil {
			clients[alike] = map[string]bool{}
		}

		host := e.Remote
		if i := strings.LastIndexByte(host, ':'); i > 0 {
			host = host[:i]
		}
		clients[alike][host] = true
		i, known := at[alike]
		if !known {
			i = len(all)
			at[alike] = i
			all = append(all, trouble{Last: e, From: host, severity: severity(e)})
		}

		all[i].Count++
		if n := len(clients[alike]); n > 1 {
			all[i].From = strconv.Itoa(n) + " addresses"
		}
	}

	slices.SortStableFunc(all, func(a, b trouble) int { return b.severity - a.severity })
	shown := min(len(all), attentionShown)
	return needs{all[:shown], len(all) - shown}
}
