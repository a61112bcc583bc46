package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/daemon"
	"padlock/internal/hint"
	"padlock/internal/mask"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
	"padlock/traffic"
)

func (p *program) routeCommand() *cli.Command {
	return &cli.Command{
		Name: "route", Usage: "show which route of a configuration file answers a request",
		Subcommands: []*cli.Command{{
			Name: "explain", Usage: "show which site and route match a URL, which do not and why, and what happens then", OnUsageError: onUsageError,
			UsageText: "padlock route explain URL [flags]\n\nExamples:\n  padlock route explain https://www.example.com/new -H \"X-Canary: yes\"\n" +
				"  padlock route explain https://www.example.com/login --client 203.0.113.9",
			Description: "This command reads the configuration file, and what padlock maintenance and padlock deploy have changed, and connects to nothing. The exit code is 0 if a route matches, 1 if none does.",
			Flags: []cli.Flag{
				configFlag(),
				&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "request header `NAME: VALUE`; repeat the flag for more"},
				&cli.StringFlag{Name: "method", Value: "GET", Usage: "request `METHOD`"},
				&cli.StringFlag{Name: "client", Value: "192.0.2.1", Usage: "client `ADDRESS`"},
				&cli.Float64Flag{Name: "draw", Value: 99.99, Usage: "`NUMBER` from 0 to 100 that the client has drawn: routes with a larger percent match it"},
			},
			Action: p.explainRoute,
		}},
	}
}

// imagined is a request that nobody sends.
type imagined struct {
	fields  message.Fields
	address netip.Addr
	draw    float64
}

// Sent implements sites.Asker.
func (i *imagined) Sent() message.Fields { return i.fields }

// Address implements sites.Asker.
func (i *imagined) Address() netip.Addr { return i.address }

// Certificate implements sites.Asker.
func (i *imagined) Certificate() *x509.Certificate { return nil }

// Draw implements sites.Asker.
func (i *imagined) Draw() float64 { return i.draw }

func imagine(c *cli.Context) (*imagined, error) {
	q := &imagined{draw: c.Float64("draw")}
	var err error
	if q.address, err = netip.ParseAddr(c.String("client")); err != nil {
		return nil, usageError{fmt.Errorf("--client: %q is not an address", c.String("client"))}
	}
	for _, line := range c.StringSlice("header") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, usageError{fmt.Errorf("--header: %q must be NAME: VALUE", line)}
		}
		q.fields.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return q, nil
}

func (p *program) explainRoute(c *cli.Context) error {
	if c.NArg() != 1 {
		return usageError{errors.New("route explain needs one URL, before or after the flags")}
	}
	u, err := url.Parse(c.Args().First())
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return usageError{fmt.Errorf("%q is not a URL such as https://www.example.com/path", c.Args().First())}
	}
	q, err := imagine(c)
	if err != nil {
		return err
	}
	cfg, err := p.loadFile(c.String("config"))
	if err != nil {
		return err
	}
	// Whoever may not read the storage sees what the file says.
	changed, unread := daemon.LoadOverrides(cfg)
	if unread != nil {
		changed = &daemon.Overrides{}
	}
	cfg = changed.Over(cfg)

	// Without targets, the snapshot only decides, and connects to nothing.
	snapshot, err := sites.New(cfg, sites.Options{TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Book: new(traffic.Book)})
	if err != nil {
		return err
	}

	e := &explanation{out: p.stdout, cfg: cfg, q: q, method: c.String("method"), target: cmp.Or(u.EscapedPath(), "/"), changed: changed, unread: unread}
	if u.RawQuery != "" || u.ForceQuery {
		e.target += "?" + u.RawQuery
	}
	return e.explain(snapshot, u)
}

// explanation is written line by line.
type explanation struct {
	out            io.Writer
	cfg            *config.Config
	q              *imagined
	method, target string
	changed        *daemon.Overrides // by commands
	unread         error             // why these are not known; nil: they are
}

func (e *explanation) line(format string, args ...any) {
	_, _ = fmt.Fprintf(e.out, format+"\n", args...)
}

// siteOf is the site of a host, on whichever listener, and its configuration.
func (e *explanation) siteOf(s *sites.Snapshot, host string) (*sites.Site, int) {
	// A URL says nothing about the listener. That of most sites is asked first.
	listeners := []string{""}
	for _, site := range e.cfg.Sites {
		listeners = append(listeners, site.Listen...)
	}

	for _, listener := range listeners {
		if found, _ := s.Hosts(listener).Site(host); found != nil {
			return found, slices.Index(s.Sites, found)
		}
	}
	return nil, 0
}

func (e *explanation) explain(s *sites.Snapshot, u *url.URL) error {
	site, n := e.siteOf(s, u.Host)
	if site == nil {
		return hint.Add(fmt.Errorf("no site has the host %s: clients get a TLS alert, or 421", u.Hostname()), "add the host to a site's hosts, or a site with the host \"*\"")
	}

	about := &e.cfg.Sites[n]
	e.line("site     sites[%d]: %s", n, strings.Join(about.Hosts, ", "))
	for _, line := range e.changed.Of(about.Hosts).InWords(nil) {
		e.line("         %s", line)
	}
	if e.unread != nil {
		e.line("         what commands have changed is not known: %v", e.unread)
	}
	switch {
	case site.TCP != nil:
		e.line("         forwards TCP, and looks at no request")
		return nil
	case u.Scheme == "http" && about.HTTP != "serve":
		e.line("         http: %s: over plain HTTP no route is asked; https:// is explained below", cmp.Or(about.HTTP, "redirect"))
	}
	if site.Misspelt(e.method) {
		return fmt.Errorf("the method %s gets 501: methods are written in capital letters", e.method)
	}

	path, err := paths.Parse(e.target, site.Paths)
	if err != nil {
		return fmt.Errorf("the path gets 400: %w (paths: %s)", err, about.PathMode())
	}
	if other, ok := site.Redirects[u.Hostname()]; ok {
		e.line("         www: %s: the client is redirected to %s, whose routes are below", about.WWW, other)
	}
	// Before routes are asked.
	if m := site.Maintenance; m != nil && m.Holds(e.q.address, path.Raw, time.Now()) {
		e.line("         maintenance: %s gets 503; what comes when it is over is below", e.q.address)
	} else if m != nil {
		e.line("         maintenance: %s is served all the same", e.q.address)
	}
	e.line("request  %s %s (routes see %s)", e.method, path.Text, path.Normal)
	// padlock answers a preflight request by the route that the request itself will have.
	if asked := e.q.fields.Value("Access-Control-Request-Method"); e.method == "OPTIONS" && asked != "" && e.q.fields.Value("Origin") != "" {
		if r, _ := site.Route(asked, &path, e.q); r != nil && r.CORS != nil {
			e.line("         is a browser's preflight request for %s %s, whose route is below", asked, path.Text)
			e.method = asked
		}
	}
	e.line("routes   in the order in which they are asked:")

	var chosen *sites.Route
	for _, v := range site.Explain(e.method, &path, e.q) {
		mark, why := "✗", v.Why
		switch {
		case v.Matches && chosen == nil:
			mark, why, chosen = "✓", "matches", v.Route
		case v.Matches:
			mark, why = "-", "would match too"
		}
		e.line("  %s %s: %s", mark, e.named(n, v.Route), why)
	}

	if chosen == nil {
		return errors.New("no route matches: clients get 404, or 405 if a route has other methods")
	}
	if site.Ambiguous(e.method, &path, chosen, e.q) {
		return fmt.Errorf("the path gets 400: %w (paths: %s)", paths.DependsOnReader, about.PathMode())
	}
	e.effects(site, about, chosen, &path)
	return nil
}

// named is a route with what it asks for.
func (e *explanation) named(site int, r *sites.Route) string {
	if r.Config == nil {
		return "the built-in page"
	}
	asks := strings.Join(r.Conditions(), ", ")
	return fmt.Sprintf("sites[%d].routes[%d] (%s)", site, r.Number, cmp.Or(asks, "any request"))
}

// effects says what the filters of a route do, in their order, and what is at their end.
func (e *explanation) effects(site *sites.Site, about *config.Site, r *sites.Route, path *paths.Path) {
	e.line("then")
	if i := site.Inspect; i != nil {
		e.line("  inspect: the request is remembered, with %d bytes of its content and of its response's", i.Body)
	}
	if r.Config == nil {
		e.line("  the built-in page shows the client's handshake")
		return
	}

	c := r.Config
	if site.Access.Lists() || r.Access.Lists() {
		verdict := "may come"
		if !site.Access.Admits(e.q.address) || !r.Access.Admits(e.q.address) {
			verdict = "gets 403"
		}
		e.line("  allow, deny: %s %s", e.q.address, verdict)
	}
	e.limited(site, r, false)
	if r.CORS != nil {
		e.line("  cors: preflight requests of permitted origins are answered")
	}
	if basic := r.BasicAuth(site); basic != nil {
		e.line("  basic_auth: one of its users (%d); others get 401", len(basic.Users))
	}
	if k := r.APIKeys(site); k != nil {
		e.line("  api_keys: a key of %s in %s; others get 401", k.File, k.Header)
	}
	if j := r.JWT(site); j != nil {
		e.line("  jwt: a token of %s for %s, by the keys of %s; others get 401", j.Issuer, strings.Join(j.Audience, ", "), mask.URL(j.JWKS))
	}
	if f := r.ForwardAuth(site); f != nil {
		e.asks(f)
	}
	e.limited(site, r, true)
	if r.Compression != nil {
		e.line("  compress: %s, from %d bytes on, if the client accepts it", strings.Join(r.Compression.Prefer, ", "), r.Compression.Min)
	}

	if r.Security != nil {
		e.line("  security_headers: added to responses")
	}

	if len(c.To) > 0 {
		e.forwards(site, about, r, path)
		return
	}
	switch {
	case c.Redirect != nil:
		e.line("  redirect: %d to %s", c.Redirect.Status, c.Redirect.To)
	case c.Files != nil:
		e.files(r, path)
	case c.Respond != nil:
		e.line("  respond: %d", c.Respond.Status)
	}
}

// files says which file answers.
func (e *explanation) files(r *sites.Route, path *paths.Path) {
	below, slash, err := r.Below(path)
	switch {
	case e.method != "GET" && e.method != "HEAD":
		e.line("  files: %s gets 405", e.method)
	case err != nil:
		e.line("  files: the path gets 400: %v", err)
	case slash != "":
		e.line("  files: 301 to %s", slash)
	default:
		e.line("  files: %s below %s", below, r.Config.Files.Root)
	}
}

// asks says which service decides.
func (e *explanation) asks(f *sites.ForwardAuth) {
	copies := ""
	if len(f.Copy) > 0 {
		copies = ", and its " + strings.Join(f.Copy, ", ") + " for the target"
	}
	e.line("  forward_auth: GET %s at %s; a 2xx status lets the request through%s; any other answer is the client's", f.URI, listed(f.To), copies)
}

// listed are targets.
func listed(to []config.Backend) string {
	var all []string
	for _, b := range to {
		all = append(all, b.Target.String())
	}
	return strings.Join(all, ", ")
}

// limited says what the rate limits of a site and a route allow, those by user or the others.
func (e *explanation) limited(site *sites.Site, r *sites.Route, byUser bool) {
	for _, limit := range []*sites.RateLimit{site.Access.RateLimit(), r.Access.RateLimit()} {
		if limit != nil && (limit.By == "user") == byUser {
			e.limit(limit)
		}
	}
}

// limit says what a rate limit allows.
func (e *explanation) limit(l *sites.RateLimit) {
	var allows []string
	if l.Requests > 0 {
		allows = append(allows, fmt.Sprintf("%d requests in %v", l.Requests, l.Per))
	}
	if l.Concurrent > 0 {
		allows = append(allows, fmt.Sprintf("%d at once", l.Concurrent))
	}
	shared := ""
	if l.At != "" {
		shared = " on all nodes together"
	}
	e.line("  rate_limit: %s%s, by %s; further ones get 429", strings.Join(allows, " and "), shared, l.By)
}

func (e *explanation) forwards(site *sites.Site, about *config.Site, r *sites.Route, path *paths.Path) {
	c := r.Config
	for _, rules := range []struct {
		whose string
		rules *config.HeaderRules
	}{{"site", &about.Fields}, {"route", &c.Fields}} {
		if f := rules.rules.Request; len(f.Remove)+len(f.Replace)+len(f.Set)+len(f.Add) > 0 {
			e.line("  headers.request of the %s apply", rules.whose)
		}
	}
	if c.GRPCWeb {
		e.line("  grpc_web: requests of gRPC-Web become gRPC for the target")
	}
	if c.BodyLimit > 0 {
		e.line("  body_limit: larger bodies than %d bytes get 413", c.BodyLimit)
	}
	if c.Buffer.Request > 0 || c.Buffer.Response > 0 {
		e.line("  buffer: %d bytes of the request, %d of the response", c.Buffer.Request, c.Buffer.Response)
	}

	target := path.Text
	if r.Strip {
		if replaced, err := r.Pattern.Replace(path, r.Replace); err == nil {
			target = replaced
		}
	}

	e.line("  to: %s %s at %s", e.method, target, listed(c.To))
	if m := c.Mirror; m != nil {
		e.line("  mirror: %v %% of the requests to %s, up to %d bytes of content", m.Percent, m.To[0].Target, m.Body)
	}
	if site.Intercepts() {
		e.line("  intercept: responses with %s are replaced by pages of errors", strings.Join(about.Intercept, ", "))
	}
	for _, rules := range []struct {
		whose string
		rules *config.HeaderRules
	}{{"site", &about.Fields}, {"route", &c.Fields}} {
		if f := rules.rules.Response; len(f.Remove)+len(f.Replace)+len(f.Set)+len(f.Add) > 0 {
			e.line("  headers.response of the %s apply", rules.whose)
		}
	}
}
