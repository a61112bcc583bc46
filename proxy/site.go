package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// site is a set of names with one policy.
type site struct {
	policy    *tlsPolicy
	redirects map[string]string // names that lead to another, with or without www
	hsts      string            // Strict-Transport-Security, or ""
	aliases   string            // that are dropped
	access    access
	fields    fieldRules
	routes    []*route // the most specific first
	tcp       *service // nil: HTTP
	counts    *traffic.Site
}

// route is what happens to the requests that it matches.
type route struct {
	prefix, exact string
	methods       []string

	group    *upstream.Group // nil: redirect, respond, or the built-in page
	redirect *redirect
	respond  *config.Respond

	strip     bool
	replace   string
	host      string // "": the client's
	access    access
	fields    fieldRules
	bodyLimit int64
	buffer    config.Buffer
	forwarded bool
	handshake bool // tell the target of the handshake
}

// builder makes the sites of one state.
type builder struct {
	cfg     *config.Config
	targets *upstream.Targets
	book    *traffic.Book
	groups  []*upstream.Group // that were made
}

func (b *builder) site(c *config.Site, policy *tlsPolicy) (*site, error) {
	built := &site{policy: policy, hsts: hsts(c), aliases: b.cfg.DropAliases, access: newAccess(&c.Access), fields: newFieldRules(&c.Fields), counts: b.book.Site(c.Hosts[0])}
	if c.WWW != "" {
		built.redirects = wwwRedirects(c)
	}
	if c.TCP != nil {
		group, err := b.targets.Group(&c.TCP.Upstream, b.cfg.Timeouts)
		if err != nil {
			return nil, fmt.Errorf("site %s: %w", c.Hosts[0], err)
		}
		b.groups = append(b.groups, group)
		built.tcp = newService(c.TCP, group)
		return built, nil
	}
	for i := range c.Routes {
		r, err := b.route(&c.Routes[i])
		if err != nil {
			return nil, fmt.Errorf("site %s: %w", c.Hosts[0], err)
		}
		built.routes = append(built.routes, r)
	}
	if len(c.Routes) == 0 {
		built.routes = []*route{{}}
	}
	slices.SortStableFunc(built.routes, moreSpecific)
	return built, nil
}

func (b *builder) route(c *config.Route) (*route, error) {
	r := &route{
		prefix: c.Path, exact: c.Exact, methods: c.Methods, respond: c.Respond, strip: c.StripPrefix || c.ReplacePrefix != "", replace: c.ReplacePrefix,
		access: newAccess(&c.Access), fields: newFieldRules(&c.Fields), bodyLimit: int64(c.BodyLimit), buffer: c.Buffer, forwarded: c.Forwarded, handshake: c.Handshake,
	}
	if c.Redirect != nil {
		r.redirect = newRedirect(c.Redirect)
	}
	if len(c.To) == 0 {
		return r, nil
	}
	group, err := b.targets.Group(&c.Upstream, b.cfg.Timeouts)
	if err != nil {
		return nil, err
	}
	b.groups = append(b.groups, group)
	r.group = group
	switch c.Host {
	case "", "keep":
	case "upstream":
		group.UpstreamHost = true
	default:
		r.host = c.Host
	}
	return r, nil
}

// moreSpecific orders routes as config.Route says.
func moreSpecific(a, b *route) int {
	exactness := func(r *route) int {
		if r.exact != "" {
			return 0
		}
		return 1
	}
	any := func(r *route) int {
		if len(r.methods) > 0 {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(exactness(a), exactness(b)), cmp.Compare(len(b.prefix), len(a.prefix)), cmp.Compare(any(a), any(b)))
}

const hstsAge = 365 * 24 * time.Hour

// hsts is what a site's browsers are told; names that no public CA signs for are not asked to come by HTTPS for ever.
func hsts(c *config.Site) string {
	h, age := &c.HSTS, c.HSTS.MaxAge
	if age == 0 && (h.IncludeSubdomains || h.Preload || !slices.ContainsFunc(c.Hosts, func(host string) bool { return host == "*" || config.IsLocal(host) })) {
		age = hstsAge
	}
	if h.Off || age == 0 {
		return ""
	}
	value := fmt.Sprintf("max-age=%d", int64(age.Seconds()))
	if h.IncludeSubdomains {
		value += "; includeSubDomains"
	}
	if h.Preload {
		value += "; preload"
	}
	return value
}

func wwwRedirects(c *config.Site) map[string]string {
	redirects := map[string]string{}
	for _, host := range c.Hosts {
		switch bare, has := strings.CutPrefix(host, "www."); {
		case has && c.WWW == "remove":
			redirects[host] = bare
		case !has && c.WWW == "add":
			redirects[host] = "www." + host
		}
	}
	return redirects
}

// route finds the route of a request; allowed are the methods of those that match its path and not its method.
func (s *site) route(method, path string) (found *route, allowed []string) {
	for _, r := range s.routes {
		switch {
		case r.exact != "" && r.exact != path, !within(path, r.prefix):
		case len(r.methods) == 0 || slices.Contains(r.methods, method) || method == "HEAD" && slices.Contains(r.methods, "GET"):
			return r, nil
		default:
			allowed = append(allowed, r.methods...)
		}
	}
	return nil, allowed
}

// within reports whether a path is a prefix or below it.
func within(path, prefix string) bool {
	if !strings.HasPrefix(path, prefix) {
		return false
	}
	return len(path) == len(prefix) || prefix == "" || prefix[len(prefix)-1] == '/' || path[len(prefix)] == '/'
}

// normalPath is the form of a target's path that routes are compared with: decoded, without dot segments and empty ones, as the most
// generous backend might read it, so that no route's rules can be gone around. The backend gets what the client sent.
func normalPath(target string) string {
	path, _, _ := strings.Cut(target, "?")
	if !strings.Contains(path, "%") && !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	path = unescape(path)
	var kept []string
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		switch {
		case segment == "..":
			kept = kept[:max(len(kept)-1, 0)]
		case segment != "" && segment != ".":
			kept = append(kept, segment)
			continue
		}
		if i == len(segments)-1 { // it names a directory
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// unescape decodes what can be decoded, and leaves the rest.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, ok1 := hexDigit(s[i+1])
			low, ok2 := hexDigit(s[i+2])
			if ok1 && ok2 {
				b.WriteByte(high<<4 | low)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// rewrite is the target that a backend gets where a route takes its prefix off.
func (r *route) rewrite(target, normal string) string {
	path, query, has := strings.Cut(target, "?")
	if !within(path, r.prefix) {
		path = normal // what was matched
	}
	rest := strings.TrimLeft(path[len(r.prefix):], "/")
	path = strings.TrimSuffix(r.replace, "/")
	if rest != "" || path == "" || strings.HasSuffix(r.replace, "/") || strings.HasSuffix(target, "/") {
		path += "/" + rest
	}
	if has {
		path += "?" + query
	}
	return path
}
