package gateway

import (
	"cmp"
	"net/netip"
	"strings"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
)

// urls turns what a target calls its own addresses into what its client calls them, and back. It never changes.
type urls struct {
	scheme, authority string // by which the client has come
	inner             string // scheme that the target is spoken to by
	sent, target      string // authorities of the target: its Host, and the one of its address
	// Prefixes that the client's paths begin with, and the target's instead: encoded, without a slash at the end.
	taken, given string
}

// place is a host and a port, as the URL with this scheme and authority means them.
func place(scheme, authority string) (host, port string, ok bool) {
	host, port, ok = sites.CutPort(authority)
	if !ok || host == "" || port != "" && !sites.ValidPort(port) {
		return "", "", false
	}
	if host, ok = config.CanonicalHost(host); port == "" {
		port = sites.PortOf("", scheme)
	}
	// Ports are compared as text, and some programs write them with leading zeros.
	return host, strings.TrimLeft(port, "0"), ok
}

// own reports whether a URL leads to the target, or to where the client has found it. Targets put the client's name and
// their own port together, or leave the port out, so any of these does.
func (u *urls) own(scheme, authority string) bool {
	host, port, ok := place(scheme, authority)
	if !ok {
		return false
	}
	if u.outer(scheme, authority) {
		return true
	}

	sent, sentPort, _ := place(u.inner, u.sent)
	target, targetPort, _ := place(u.inner, u.target)
	if host != sent && !meansTarget(host, target) {
		return false
	}

	// A target behind a proxy often builds its URLs from the Host that it got and its own port.
	return port == sentPort || port == targetPort || message.Is(scheme, u.inner) && port == sites.PortOf("", u.inner)
}

// meansTarget reports whether a target's own URLs may call it by this host. The unspecified address, which servers
// listen on, leads no client anywhere; and what is reached by loopback may call itself by any name of it, as localhost
// is 127.0.0.1 to one server and ::1 to the next.
func meansTarget(host, target string) bool {
	addr, _ := netip.ParseAddr(host)
	return host == target || addr.IsUnspecified() || isLoopback(host) && isLoopback(target)
}

func isLoopback(host string) bool {
	addr, _ := netip.ParseAddr(host)
	return host == "localhost" || addr.IsLoopback()
}

// outer reports whether a URL leads to where the client has come.
func (u *urls) outer(scheme, authority string) bool {
	host, port, ok := place(scheme, authority)
	outer, outerPort, _ := place(u.scheme, u.authority)
	return ok && host == outer && port == outerPort
}

// cutOrigin takes scheme and authority off a URL; a path, and what begins with two slashes, has no scheme, and a path
// no authority. It is false for what is none of them, and for what readers take for different things.
func cutOrigin(ref string) (scheme, authority, rest string, ok bool) {
	lead, after, absolute := strings.Cut(ref, "://")
	switch {
	case absolute && (message.Is(lead, "http") || message.Is(lead, "https")):
		scheme = strings.ToLower(lead)
	case strings.HasPrefix(ref, "//"):
		after = ref[2:]
	default:
		// Browsers read a backslash as a slash, so this would lead to another host.
		return "", "", ref, strings.HasPrefix(ref, "/") && !strings.HasPrefix(ref, `/\`)
	}

	end := strings.IndexAny(after, `/?#\`)
	if end < 0 {
		end = len(after)
	}
	authority, rest = after[:end], after[end:]
	return scheme, authority, rest, message.ValidHost(authority) && authority != "" && !strings.HasPrefix(rest, `\`)
}

// outward is a target's URL as its client reaches it.
func (u *urls) outward(ref string) string {
	scheme, authority, rest, ok := cutOrigin(ref)
	switch {
	case !ok:
		return ref
	case authority == "":
		if path := u.outwardPath(rest); !namesHost(path) {
			return path
		}
		// A path that a browser would read as a host is made absolute, so that it stays a path.
		return u.scheme + "://" + u.authority + u.outwardPath(rest)
	case scheme == "" && u.own(u.inner, authority):
		return "//" + u.authority + u.outwardPath(rest)
	case scheme != "" && u.own(scheme, authority):
		return u.scheme + "://" + u.authority + u.outwardPath(rest)
	}
	return ref
}

// outwardPath puts back what was taken off. A path that has it already is by a target that knows of it, from
// X-Forwarded-Prefix perhaps.
func (u *urls) outwardPath(rest string) string {
	if u.taken == u.given {
		return rest
	}

	end := strings.IndexAny(rest, "?#")
	if end < 0 {
		end = len(rest)
	}
	path, tail := rest[:end], rest[end:]
	switch {
	case u.given != "" && within(path, u.given):
		if path = u.taken + path[len(u.given):]; path == "" {
			path = "/"
		}
		return path + tail
	// The target has left its own prefix, or knows the outer one. Adding it would make the URL wrong.
	case u.given != "" || within(path, u.taken):
		return rest
	case path == "":
		path = "/"
	}

	return u.taken + path + tail
}

// namesHost reports whether a reader takes the beginning of a path for a host, as it would be behind two slashes:
// browsers leave tabs out, and take backslashes for slashes.
func namesHost(path string) bool {
	path = strings.ReplaceAll(path, "\t", "")
	return len(path) > 1 && path[0] == '/' && (path[1] == '/' || path[1] == '\\')
}

// inwardPath is outwardPath's other direction.
func (u *urls) inwardPath(rest string) string {
	if u.taken == u.given || !within(rest, u.taken) {
		return rest
	}
	if rest = u.given + rest[len(u.taken):]; !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return rest
}

// within reports whether a path begins with a prefix, and a segment ends there.
func within(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || rest[0] == '?' || rest[0] == '#')
}

// refresh rewrites the URL of a Refresh: 5; url=…
func (u *urls) refresh(value string) string {
	at := strings.IndexAny(value, ";,")
	if at < 0 {
		return value
	}
	begin := at + 1
	name, after, ok := strings.Cut(value[begin:], "=")
	if !ok || !message.Is(strings.Trim(name, " \t"), "url") {
		return value
	}
	begin = len(value) - len(strings.TrimLeft(after, " \t"))
	end := len(strings.TrimRight(value, " \t"))
	if begin < end && (value[begin] == '"' || value[begin] == '\'') {
		quote := strings.IndexByte(value[begin+1:end], value[begin])
		if quote < 0 {
			return value
		}
		begin, end = begin+1, begin+1+quote
	}

	return value[:begin] + u.outward(value[begin:end]) + value[end:]
}

// cookie rewrites Domain and Path of a Set-Cookie (RFC 6265 section 4.1). A cookie whose name begins with __Host- has
// the path / or is none.
func (u *urls) cookie(value string) string {
	client, _, _ := place(u.scheme, u.authority)
	sent, _, _ := place(u.inner, u.sent)
	target, _, _ := place(u.inner, u.target)

	parts := strings.Split(value, ";")
	for i, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "=")
		text = strings.Trim(text, " \t")
		switch name = strings.Trim(name, " \t"); {
		case message.Is(name, "Domain"):
			domain, ok := config.CanonicalHost(strings.TrimPrefix(text, "."))
			// A Domain that is the client's already, or another site's, is the target's decision.
			if ok && domain != client && (domain == sent || meansTarget(domain, target)) {
				parts[i+1] = " Domain=" + client
			}
		case message.Is(name, "Path") && strings.HasPrefix(text, "/") && !strings.HasPrefix(strings.TrimLeft(value, " \t"), "__Host-"):
			path := u.outwardPath(text)
			if text == "/" && u.given == "" && u.taken != "" {
				// With a slash at the end, the prefix itself would not receive the cookie.
				path = u.taken
			}
			if path != text {
				parts[i+1] = " Path=" + path
			}
		}
	}

	return strings.Join(parts, ";")
}

// response rewrites the fields of a response that have URLs of the target in them.
func (u *urls) response(fields message.Fields) {
	for i := range fields {
		switch f := &fields[i]; {
		case message.Is(f.Name, "Location"), message.Is(f.Name, "Content-Location"):
			f.Value = u.outward(f.Value)
		case message.Is(f.Name, "Refresh"):
			f.Value = u.refresh(f.Value)
		case message.Is(f.Name, "Set-Cookie"):
			f.Value = u.cookie(f.Value)
		}
	}
}

// conditions rewrites the URLs in a WebDAV If (RFC 4918 section 10.4), which stand in angle brackets as lock tokens do.
func (u *urls) conditions(value string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(value, "<")
		ref, rest, closed := strings.Cut(after, ">")
		if !ok || !closed {
			b.WriteString(value)
			return b.String()
		}

		// Lock tokens stand in the same brackets, and have schemes of their own, such as opaquelocktoken.
		if scheme, authority, path, ok := cutOrigin(ref); ok && scheme != "" && u.outer(scheme, authority) {
			ref = u.inner + "://" + u.sent + u.inwardPath(path)
		}

		b.WriteString(before + "<" + ref + ">")
		value = rest
	}
}

// urls are those of a request and the target that it goes to.
func (x *Exchange) urls(scheme, target string) *urls {
	return &urls{
		scheme: x.scheme, authority: x.authority, inner: scheme, sent: x.request.Host, target: target, taken: x.route.OuterPrefix, given: x.route.InnerPrefix,
	}
}

// rewriteResponse rewrites a response's URLs.
func (x *Exchange) rewriteResponse(fields message.Fields) {
	if x.route.Rewrite {
		x.urls(x.attempt.Place()).response(fields)
	}
}

// destination is where a WebDAV request moves or copies to (RFC 4918 section 10.3): a second target, to which the same
// rules apply.
type destination struct {
	ours   bool   // it leads to where the request came
	target string // path and query, as the target of the route finds them
}

// readDestination notes by what address the client has come, and finds out where a request moves or copies to, and
// whether it may: no rule of another route can be gone around by a request for this one.
func readDestination(_ *message.Context, x *Exchange) error {
	r := x.request
	x.scheme, x.authority = strings.ToLower(cmp.Or(x.forwarded.proto, r.Scheme)), cmp.Or(x.forwarded.host, r.Host)
	if r.Method == "COPY" || r.Method == "MOVE" {
		if err := x.checkDestination(); err != nil {
			return err
		}
	}
	x.prepareURLs()
	return nil
}

// checkDestination is for requests that copy or move.
func (x *Exchange) checkDestination() error {
	r := x.request
	given := 0
	for _, f := range r.Fields {
		if message.Is(f.Name, "Destination") {
			given++
		}
	}

	value := r.Fields.Value("Destination")
	scheme, authority, rest, ok := cutOrigin(value)
	switch {
	case given == 0:
		return nil
	// With two of them, the target might choose the one that was not judged.
	case given > 1 || !ok || rest != "" && (rest[0] != '/' || !message.ValidTarget(rest)):
		return status(400, "The Destination is not a URL that leads somewhere")
	}

	origin := strings.TrimSuffix(value, rest)
	if rest == "" {
		rest = "/"
	}

	path, err := paths.Parse(rest, x.site.Paths)
	if err != nil {
		return ambiguous(err)
	}

	// COPY and MOVE also write to their destination.
	for _, method := range [...]string{r.Method, "PUT"} {
		route, _ := x.site.Route(method, &path, x)
		if route == nil && method != r.Method {
			// No request can write there.
			continue
		}
		// The request was admitted under the rules of this route. Writing under others would get around theirs.
		if route == nil || route.Class != x.route.Class {
			return status(403, "The Destination is under other rules than this address")
		}
		if x.site.Ambiguous(method, &path, route, x) {
			return errDependsOnReader
		}
	}

	// The target must read the path exactly as it was judged here.
	r.Fields.Set("Destination", origin+path.Text)
	if !x.route.Rewrite {
		return nil
	}

	u := x.urls("", "")
	d := &destination{ours: origin == "" || u.outer(cmp.Or(scheme, x.scheme), authority), target: path.Text}
	if d.ours && x.route.Strip {
		if x.route.Pattern.Match(&path) < paths.Ours {
			return status(403, "The Destination is outside of what this target serves")
		}
		if d.target, err = x.route.Pattern.Replace(&path, x.route.Replace); err != nil {
			return ambiguous(err)
		}
	}

	x.destination = d
	return nil
}

// prepareURLs notes what a client has said in its own words, for aim.
func (x *Exchange) prepareURLs() {
	if !x.route.Rewrite {
		return
	}

	lines := 0
	for _, f := range x.request.Fields {
		if message.Is(f.Name, "If") {
			lines++
			x.conditions = f.Value
		}
	}

	// Several lines are left as they are: conditions would have to be split between them as the client had.
	if lines != 1 {
		x.conditions = ""
	}
	if lines == 1 || x.destination != nil {
		x.attempt.Chosen = x.aim
	}
}

// aim says in the target's own words where a request moves or copies to, and what its conditions are about. It is
// called for each target that is tried.
func (x *Exchange) aim(scheme, target string) {
	r := x.request
	u := x.urls(scheme, target)
	for i := range r.Fields {
		switch f := &r.Fields[i]; {
		case message.Is(f.Name, "Destination") && x.destination != nil && x.destination.ours:
			f.Value = u.inner + "://" + r.Host + x.destination.target
		case message.Is(f.Name, "If") && x.conditions != "":
			f.Value = u.conditions(x.conditions)
		}
	}
}
