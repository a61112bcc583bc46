package proxy

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/proxy/message"
	"padlock/proxy/paths"
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
	paths     paths.Mode
	routes    []*route // the most specific first
	methods   []string // that routes name
	tcp       *tcpSite // nil: HTTP
	counts    *traffic.Site
}

// route is what happens to the requests that it matches.
type route struct {
	index         int // in its state
	pattern       *paths.Pattern
	prefix, exact string
	methods       []string
	class         int // routes that let the same clients in have one class

	group    *upstream.Group // nil: redirect, respond, or the built-in page
	redirect *redirect
	respond  *config.Respond

	strip                    bool
	replace                  string
	prefixTaken              string // what strip takes off, encoded as it is told to targets; "" where they get something in its place
	host                     string // "": the client's
	access                   access
	fields                   fieldRules
	rewrite                  bool     // the target's own URLs become the client's
	outerPrefix, innerPrefix string   // that strip takes off, and puts in its place: encoded, without a slash at the end
	upgrades                 []string // protocols that clients may upgrade to
	bodyLimit                int64
	buffer                   config.Buffer
	forwarded                bool
	handshake                bool // tell the target of the handshake
}

// tcpSite is a site whose bytes are forwarded, whatever they mean.
type tcpSite struct {
	group         *upstream.Group
	idle          time.Duration
	proxyProtocol string
	startTLS      bool
	passthrough   bool
	connections   int // at once; 0: any number
}

func newTCPSite(c *config.TCP, group *upstream.Group) *tcpSite {
	return &tcpSite{
		group: group, idle: c.Idle, proxyProtocol: c.ProxyProtocol, startTLS: c.StartTLS != "", passthrough: c.Passthrough, connections: c.Connections,
	}
}

// builder makes the sites of one state.
type builder struct {
	cfg     *config.Config
	targets *upstream.Targets
	book    *traffic.Book
	files   *lastgood.Values
	groups  []*upstream.Group // that were made
}

func (b *builder) site(c *config.Site, policy *tlsPolicy) (*site, error) {
	built := &site{policy: policy, hsts: hsts(c), aliases: b.cfg.DropAliases, access: newAccess(&c.Access), fields: newFieldRules(&c.Fields), counts: b.book.Site(c.Hosts[0])}
	built.paths, _ = paths.ParseMode(c.PathMode())
	if c.WWW != "" {
		built.redirects = wwwRedirects(c)
	}
	if c.TCP != nil {
		group, err := b.targets.GroupOf(&c.TCP.Upstream, b.cfg.Timeouts, b.files)
		if err != nil {
			return nil, fmt.Errorf("site %s: %w", c.Hosts[0], err)
		}
		b.groups = append(b.groups, group)
		built.tcp = newTCPSite(c.TCP, group)
		return built, nil
	}
	for i := range c.Routes {
		r, err := b.route(&c.Routes[i])
		if err == nil {
			r.pattern, r.class = paths.NewPattern(c.Routes[i].Exact+c.Routes[i].Path, c.Routes[i].Exact != "", c.NoCase), class(c.Routes, i, built.paths == paths.Agreed)
		}
		if err != nil {
			return nil, fmt.Errorf("site %s: %w", c.Hosts[0], err)
		}
		built.routes = append(built.routes, r)
		built.methods = append(built.methods, r.methods...)
	}
	if len(c.Routes) == 0 {
		built.routes = []*route{{pattern: paths.NewPattern("", false, false)}}
	}
	slices.SortStableFunc(built.routes, moreSpecific)
	return built, nil
}

func (b *builder) route(c *config.Route) (*route, error) {
	r := &route{
		prefix: c.Path, exact: c.Exact, methods: c.Methods, respond: c.Respond, strip: c.StripPrefix || c.ReplacePrefix != "", replace: c.ReplacePrefix,
		access: newAccess(&c.Access), fields: newFieldRules(&c.Fields), bodyLimit: int64(c.BodyLimit), buffer: c.Buffer, forwarded: c.Forwarded, handshake: c.Handshake, upgrades: c.Upgrades, rewrite: c.RewriteURLs,
	}
	if r.strip {
		r.outerPrefix, r.innerPrefix = paths.Encode(strings.TrimSuffix(c.Path, "/")), paths.Encode(strings.TrimSuffix(c.ReplacePrefix, "/"))
	}
	if c.StripPrefix {
		r.prefixTaken = paths.Encode(strings.TrimSuffix(c.Path, "/"))
	}
	if c.Redirect != nil {
		r.redirect = newRedirect(c.Redirect)
	}
	if len(c.To) == 0 {
		return r, nil
	}
	group, err := b.targets.GroupOf(&c.Upstream, b.cfg.Timeouts, b.files)
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

// class is the first of the routes that lets the same clients in as this one does, and to the same targets if they count.
func class(routes []config.Route, i int, targets bool) int {
	for j := range i {
		a, b := &routes[j], &routes[i]
		if a.Refuses() == b.Refuses() && reflect.DeepEqual(a.Access, b.Access) && (!targets || reflect.DeepEqual(a.To, b.To)) {
			return j
		}
	}
	return i
}

// route finds the route of a request; allowed are the methods of those that match its path and not its method.
func (s *site) route(method string, path *paths.Path) (found *route, allowed []string) {
	for _, r := range s.routes {
		switch {
		case r.pattern.Match(path) < paths.Ours:
		case r.takes(method):
			return r, nil
		default:
			allowed = append(allowed, r.methods...)
		}
	}
	return nil, allowed
}

// upgradesTo reports whether clients may go over to a protocol.
func (r *route) upgradesTo(protocol string) bool {
	return slices.ContainsFunc(r.upgrades, func(name string) bool { return message.Is(name, protocol) })
}

const webSocket = "websocket"

// upgradeAmong is the first protocol of a client's list that the route names; "" where it names none, and the list is ignored, as RFC 9110
// section 7.8 allows.
func (r *route) upgradeAmong(list string) string {
	for protocol := range strings.SplitSeq(list, ",") {
		protocol = strings.Trim(protocol, " \t")
		switch {
		case protocol == "" || !r.upgradesTo(protocol):
		case message.Is(protocol, webSocket):
			return webSocket
		default:
			return protocol
		}
	}
	return ""
}

func (r *route) takes(method string) bool {
	return len(r.methods) == 0 || slices.Contains(r.methods, method) || method == "HEAD" && slices.Contains(r.methods, "GET")
}

// registered are the methods that are registered (RFC 9110 section 16.1.1), and QUERY.
var registered = message.NewNames(
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL", "LINK", "LOCK", "MERGE",
	"MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS", "ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND",
	"PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE",
	"UPDATEREDIRECTREF", "VERSION-CONTROL",
)

// misspelt reports whether a method is a registered one, or one that a route names, but for the case of its letters. Methods are
// case-sensitive (RFC 9110 section 9.1): to padlock it is another, and to many a framework the same.
func (s *site) misspelt(method string) bool {
	upper := strings.ToUpper(method)
	return upper != method && (registered.Has(upper) || slices.Contains(s.methods, upper))
}

// ambiguous reports whether a target may read a path so that another route with other rules would have been the one for it, or, where there
// are no rules, so that no route leads there. What is not forwarded is read by nobody else.
func (s *site) ambiguous(method string, path *paths.Path, found *route) bool {
	if s.paths == paths.Raw || found.group == nil {
		return false
	}
	for _, r := range s.routes {
		if !r.takes(method) {
			continue
		}
		match := r.pattern.Match(path)
		switch {
		case match == paths.None:
		case s.paths == paths.Agreed && match == paths.Some: // what leads elsewhere is not kept from this target
		case r.class != found.class:
			return true
		case match == paths.All:
			return false
		}
	}
	return true // some would have been told that there is nothing
}
