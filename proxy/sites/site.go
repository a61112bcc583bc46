package sites

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/inspect"
	"padlock/internal/files"
	"padlock/internal/lastgood"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// Site is a set of names with one policy.
type Site struct {
	Policy    *Policy
	Redirects map[string]string // names that lead to another, with or without www
	// Routes ask for more than paths and methods.
	Conditional bool
	varies      bool  // some of them ask for fields of the request
	Plain       bool  // it is served over plain HTTP too
	PlainOff    bool  // plain HTTP gets no redirect either
	CORS        *CORS // where no route was found; nil: the target decides
	Security    *SecurityHeaders
	HSTS        string // Strict-Transport-Security, or ""
	Aliases     string // underscores_in_headers: which are dropped
	Access      Access
	Fields      HeaderRules
	Paths       paths.Mode
	Routes      []*Route              // the most specific first
	index       routeIndex            // of Routes
	Methods     []string              // that routes name
	TCP         *TCP                  // nil: HTTP
	errors      map[string]*ErrorPage // by status, or class of statuses
	intercept   map[string]bool       // statuses, or classes of them, whose pages stand for targets' responses
	Maintenance *Maintenance          // nil: off
	Inspect     *inspect.Limits       // of the requests that are remembered; nil: none is
	Counts      *traffic.Site
}

// Route is what happens to the requests that it matches.
type Route struct {
	Index         int // in its snapshot
	Number        int // in its site, as the configuration has it
	Config        *config.Route
	Pattern       *paths.Pattern
	Prefix, Exact string
	methods       []string
	when          *conditions // nil: none
	forwards      bool
	Class         int // routes that let the same clients in have one class

	Group    *upstream.Group // nil: files, redirect, respond, or the built-in page
	Files    *files.Files    // nil: none of these
	Redirect *Redirect
	Respond  *config.Respond

	Strip   bool
	Replace string
	// What strip takes off, encoded as it is told to targets; "" where they get something in its place.
	PrefixTaken              string
	Host                     string // "": the client's
	Access                   Access
	vouched                  []fieldName // that tell the target what access rules have found out
	credentials              []fieldName // in which clients show what access rules ask for
	Fields                   HeaderRules
	Rewrite                  bool     // the target's own URLs become the client's
	OuterPrefix, InnerPrefix string   // that strip takes off, and puts in its place: encoded, without a slash at the end
	Upgrades                 []string // protocols that clients may upgrade to
	BodyLimit                int64
	GRPCWeb                  bool // requests of gRPC-Web become gRPC
	Buffer                   config.Buffer
	Compression              *Compression // nil: responses stay as they are
	Mirror                   *Mirror      // nil: nothing is copied
	CORS                     *CORS        // nil: the target decides
	Security                 *SecurityHeaders
	Forwarded                bool
	Handshake                bool // tell the target of the handshake
	Counts                   *traffic.Route
}

// TCP is a site whose bytes are forwarded, whatever they mean.
type TCP struct {
	Group         *upstream.Group
	Idle          time.Duration
	ProxyProtocol string
	StartTLS      bool
	Passthrough   bool
	Connections   int // at once; 0: any number
}

func newTCP(c *config.TCP, group *upstream.Group) *TCP {
	return &TCP{
		Group: group, Idle: c.Idle, ProxyProtocol: c.ProxyProtocol, StartTLS: c.StartTLS != "", Passthrough: c.Passthrough, Connections: c.Connections,
	}
}

// builder makes the sites of one snapshot.
type builder struct {
	cfg     *config.Config
	targets *upstream.Targets
	book    *traffic.Book
	files   *lastgood.Values
	groups  []*upstream.Group // that were made
}

func (b *builder) site(c *config.Site, policy *Policy) (*Site, error) {
	built := &Site{Policy: policy, HSTS: hsts(c), Aliases: b.cfg.UnderscoresInHeaders, Fields: NewHeaderRules(&c.Fields), Counts: b.book.Site(c.Hosts[0])}
	built.CORS, built.Security = newCORS(c.CORS, nil), newSecurityHeaders(c.SecurityHeaders, nil)
	// The mode was validated with the configuration.
	built.Paths, _ = paths.ParseMode(c.PathMode())

	// Client certificates and TCP sites need TLS, so neither is served without it.
	built.Plain, built.PlainOff = c.HTTP == "serve" && c.TLS.ClientAuth == nil && c.TCP == nil, c.HTTP == "off"
	var err error
	if built.errors, err = b.errorPages(c); err != nil {
		return nil, err
	}
	if built.Maintenance, err = b.maintenance(c); err != nil {
		return nil, err
	}
	built.Inspect = inspected(c)
	built.intercept = map[string]bool{}
	for _, status := range c.Intercept {
		built.intercept[status] = true
	}
	if c.WWW != "" {
		built.Redirects = wwwRedirects(c)
	}
	if built.Access, err = b.access(&c.Access, c.Hosts[0]); err != nil {
		return nil, fmt.Errorf("site %s: %w", c.Hosts[0], err)
	}

	if c.TCP != nil && b.targets == nil {
		built.TCP = newTCP(c.TCP, nil)
		return built, nil
	}

	if c.TCP != nil {
		group, err := b.targets.GroupOf(&c.TCP.Upstream, b.cfg.Timeouts, b.files)
		if err != nil {
			return nil, fmt.Errorf("site %s: %w", c.Hosts[0], err)
		}
		b.groups = append(b.groups, group)
		built.TCP = newTCP(c.TCP, group)
		return built, nil
	}

	for i := range c.Routes {
		r, err := b.route(&c.Routes[i], c.Hosts[0])
		if err == nil {
			r.Compression = compression(c.Compress, c.Routes[i].Compress)
			r.CORS, r.Security = newCORS(c.CORS, c.Routes[i].CORS), newSecurityHeaders(c.SecurityHeaders, c.Routes[i].SecurityHeaders)
			r.when, err = newConditions(&c.Routes[i].Conditions, c.NoCase)
			r.Pattern, r.Class = paths.NewPattern(c.Routes[i].Exact+c.Routes[i].Path, c.Routes[i].Exact != "", c.NoCase), class(c.Routes, i, built.Paths == paths.Agreed)
		}
		if err != nil {
			return nil, fmt.Errorf("site %s: %w", c.Hosts[0], err)
		}

		r.Number, r.Config = i, &c.Routes[i]
		r.vouch(built)
		built.Conditional = built.Conditional || r.when != nil
		built.varies = built.varies || r.when != nil && slices.ContainsFunc(r.when.compare, func(one condition) bool { return one.field != "" })
		built.Routes = append(built.Routes, r)
		built.Methods = append(built.Methods, r.methods...)
	}

	// A site without routes shows the built-in page at every path.
	if len(c.Routes) == 0 {
		built.Routes = []*Route{{Pattern: paths.NewPattern("", false, false), CORS: built.CORS, Security: built.Security}}
	}

	built.countRoutes()
	// Sorted once, so that the first route that matches is the one.
	slices.SortStableFunc(built.Routes, moreSpecific)
	built.index = newRouteIndex(built.Routes)
	built.boundLinks()
	return built, nil
}

// countRoutes gives each route the counters that it had before a reload.
func (s *Site) countRoutes() {
	taken := map[string]bool{}
	for _, r := range s.Routes {
		name := r.title()
		if taken[name] {
			name = fmt.Sprintf("%s, routes[%d]", name, r.Number)
		}
		taken[name] = true
		r.Counts = s.Counts.Route(name)
	}
}

// boundLinks keeps the links among a route's files from leading around the rules of another route: whoever may write to
// one directory of a site could read another, and a path would be answered under the rules of a different one.
func (s *Site) boundLinks() {
	if len(s.Routes) == 1 {
		return // there are no other rules
	}

	for _, r := range s.Routes {
		if r.Files == nil {
			continue
		}

		prefix := ""
		if r.Strip {
			prefix = strings.TrimSuffix(r.Prefix, "/")
		}
		r.Files.SameRules = func(asked, real string) bool {
			one, err1 := paths.Parse(paths.Encode(joined(prefix, asked)), paths.Raw)
			other, err2 := paths.Parse(paths.Encode(joined(prefix, real)), paths.Raw)
			if err1 != nil || err2 != nil {
				return false
			}
			return !slices.ContainsFunc(s.Routes, func(r *Route) bool { return r.matches(&one) != r.matches(&other) })
		}
	}
}

// joined is a path below a prefix; "." is the prefix itself.
func joined(prefix, below string) string {
	if below == "." {
		return prefix + "/"
	}
	return prefix + "/" + below
}

// Below is the path of a file below the directory of a route with files, encoded, without what the route takes off. slash
// is where the client is sent first if it asks for the directory itself without a slash at the end; "" otherwise.
func (r *Route) Below(path *paths.Path) (below, slash string, err error) {
	below = paths.Encode(path.Normal)
	if !r.Strip {
		return below, "", nil
	}
	// The normal form is the name of the file: no other reading of the path leads to another.
	normal, err := paths.Parse(below, paths.Raw)
	if err == nil {
		below, err = r.Pattern.Replace(&normal, "/")
	}
	if err != nil {
		return "", "", err
	}
	if below == "/" && !strings.HasSuffix(path.Normal, "/") {
		slash = "./" + paths.Encode(path.Normal[strings.LastIndexByte(path.Normal, '/')+1:]) + "/"
	}
	return below, slash, nil
}

// matches reports whether a route is one for a path, whatever else it depends on.
func (r *Route) matches(path *paths.Path) bool {
	return r.Pattern.Match(path) == paths.All && (r.when == nil || r.when.match == nil || r.when.match.MatchString(path.Normal))
}

func (b *builder) route(c *config.Route, site string) (*Route, error) {
	r := &Route{
		Prefix: c.Path, Exact: c.Exact, methods: c.Methods, Respond: c.Respond, Strip: c.StripPrefix || c.ReplacePrefix != "", Replace: c.ReplacePrefix,
		Fields: NewHeaderRules(&c.Fields), BodyLimit: int64(c.BodyLimit), GRPCWeb: c.GRPCWeb, Buffer: c.Buffer, Forwarded: c.Forwarded, Handshake: c.Handshake, Upgrades: c.Upgrades, Rewrite: c.RewriteURLs,
	}
	if r.Strip {
		r.OuterPrefix, r.InnerPrefix = paths.Encode(strings.TrimSuffix(c.Path, "/")), paths.Encode(strings.TrimSuffix(c.ReplacePrefix, "/"))
	}
	if c.StripPrefix {
		r.PrefixTaken = paths.Encode(strings.TrimSuffix(c.Path, "/"))
	}
	if c.Redirect != nil {
		r.Redirect = newRedirect(c.Redirect)
	}

	var err error
	if r.Mirror, err = b.mirror(c); err != nil {
		return nil, err
	}

	if f := c.Files; f != nil {
		r.Files = &files.Files{
			Root: f.Root, Index: f.Index, SPA: f.SPA, Listing: f.Listing, Precompressed: f.Precompressed, Hide: f.Hide, CacheControl: f.CacheControl,
		}
	}

	if r.Access, err = b.access(&c.Access, whose(site, c)); err != nil {
		return nil, err
	}
	r.forwards = len(c.To) > 0
	if !r.forwards || b.targets == nil {
		return r, nil
	}

	group, err := b.targets.GroupOf(&c.Upstream, b.cfg.Timeouts, b.files)
	if err != nil {
		return nil, err
	}
	b.groups = append(b.groups, group)
	r.Group = group
	switch c.Host {
	case "", "keep":
	case "upstream":
		group.UpstreamHost = true
	default:
		r.Host = c.Host
	}

	return r, nil
}

// whose names a route, so that what is counted for it is found again after a reload.
func whose(site string, c *config.Route) string {
	name := fmt.Sprintf("%s %q %q %q", site, c.Path, c.Exact, c.Methods)
	if c.Conditional() {
		name += fmt.Sprintf(" %+v", c.Conditions)
	}
	return name
}

// moreSpecific orders routes as config.Route says.
func moreSpecific(a, b *Route) int {
	exactness := func(r *Route) int {
		if r.Exact != "" {
			return 0
		}
		return 1
	}

	conditional := func(r *Route) int {
		if r.when != nil {
			return 0
		}
		return 1
	}

	any := func(r *Route) int {
		if len(r.methods) > 0 {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(exactness(a), exactness(b)), cmp.Compare(len(b.Prefix), len(a.Prefix)), cmp.Compare(conditional(a), conditional(b)), cmp.Compare(any(a), any(b)))
}

const hstsAge = 365 * 24 * time.Hour

// hsts is what a site's browsers are told; names that no public CA signs for are not asked to come by HTTPS for ever.
func hsts(c *config.Site) string {
	h, age := &c.HSTS, c.HSTS.MaxAge
	// Browsers remember the rule for a year. For a name of a developer's machine, that would outlast the project.
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

// class is the first of the routes that lets the same clients in as this one does, and to the same targets if they
// count.
func class(routes []config.Route, i int, targets bool) int {
	for j := range i {
		a, b := &routes[j], &routes[i]
		if a.Refuses() == b.Refuses() && reflect.DeepEqual(a.Access, b.Access) && (!targets || reflect.DeepEqual(a.To, b.To)) {
			return j
		}
	}
	return i
}

// Route finds the route of a request; allowed are the methods of those that match all of it but its method.
func (s *Site) Route(method string, path *paths.Path, q Asker) (found *Route, allowed []string) {
	for at := s.index.among(path); ; {
		r := at.next()
		switch {
		case r == nil:
			return nil, allowed
		case r.Pattern.Match(path) < paths.Ours:
		case r.when != nil && r.when.fails(q, path) != "":
		case r.takes(method):
			return r, nil
		default:
			allowed = append(allowed, r.methods...)
		}
	}
}

// Varies are the fields of a request on which it depends that its address leads to a route, and to no other: a cache must
// not take the answer for one to a request whose fields differ. Address, certificate and share of the client are none.
func (s *Site) Varies(method string, path *paths.Path, found *Route) (names []string) {
	if !s.varies {
		return nil
	}
	at := s.index.among(path)
	for r := at.next(); r != nil; r = at.next() {
		if r.when != nil && r.takes(method) && r.Pattern.Match(path) >= paths.Ours {
			names = r.when.varies(names, path)
		}
		// Those behind it would have been asked for no request that this one answers.
		if r == found {
			break
		}
	}
	return names
}

// UpgradesTo reports whether clients may go over to a protocol.
func (r *Route) UpgradesTo(protocol string) bool {
	return slices.ContainsFunc(r.Upgrades, func(name string) bool { return message.Is(name, protocol) })
}

const WebSocket = "websocket"

// UpgradeAmong is the first protocol of a client's list that the route names; "" where it names none, and the list is
// ignored, as RFC 9110 section 7.8 allows.
func (r *Route) UpgradeAmong(list string) string {
	for protocol := range strings.SplitSeq(list, ",") {
		protocol = strings.Trim(protocol, " \t")
		switch {
		case protocol == "" || !r.UpgradesTo(protocol):
		case message.Is(protocol, WebSocket):
			return WebSocket
		default:
			return protocol
		}
	}
	return ""
}

func (r *Route) takes(method string) bool {
	// HEAD asks for what GET would get (RFC 9110 section 9.3.2).
	return len(r.methods) == 0 || slices.Contains(r.methods, method) || method == "HEAD" && slices.Contains(r.methods, "GET")
}

// registered are the methods that are registered (RFC 9110 section 16.1.1), and QUERY.
var registered = message.NewNames(
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL", "LINK", "LOCK", "MERGE",
	"MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS", "ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND",
	"PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE",
	"UPDATEREDIRECTREF", "VERSION-CONTROL",
)

// Misspelt reports whether a method is a registered one, or one that a route names, but for the case of its letters.
// Methods are case-sensitive (RFC 9110 section 9.1): to padlock it is another, and to many a framework the same.
func (s *Site) Misspelt(method string) bool {
	upper := strings.ToUpper(method)
	return upper != method && (registered.Has(upper) || slices.Contains(s.Methods, upper))
}

// Ambiguous reports whether a target may read a path so that another route with other rules would have been the one for
// it, or, where there are no rules, so that no route leads there. What is not forwarded is read by nobody else.
func (s *Site) Ambiguous(method string, path *paths.Path, found *Route, q Asker) bool {
	if s.Paths == paths.Raw || !found.forwards {
		return false
	}

	at := s.index.among(path)
	for r := at.next(); r != nil; r = at.next() {
		if !r.takes(method) {
			continue
		}
		match := r.Pattern.Match(path)
		if r.when != nil && match != paths.None {
			match = r.when.narrow(match, q, path)
		}
		switch {
		case match == paths.None:
		case s.Paths == paths.Agreed && match == paths.Some:
			// Paths that lead elsewhere cannot be kept from this target.
		case r.Class != found.Class:
			return true
		case match == paths.All:
			return false
		}
	}
	// Some readers would have been told that there is nothing.
	return true
}
