package config

import (
	"fmt"
	"net/url"
	gopath "path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/config/template"
	"padlock/internal/coding"
	"padlock/internal/redisurl"
)

// ReservedFields cannot be changed by field rules, because padlock frames messages and names hosts by them.
var reservedFields = []string{"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}

func (v *validator) route(path string, r *Route) {
	v.match(path, r)
	actions := 0
	for _, given := range []bool{len(r.To) > 0, r.Redirect != nil, r.Respond != nil, r.Files != nil} {
		if given {
			actions++
		}
	}

	switch actions {
	case 0:
		v.fail(path, "does not say what happens to requests: add to: 3000 (the target), files, redirect or respond; a site without routes shows the built-in page")
	case 1:
	default:
		v.fail(path, "takes one of to, files, redirect and respond")
	}

	v.prefixes(path, r)
	if len(r.To) == 0 && actions > 0 {
		v.unforwarded(path, r)
	}
	v.upstreamHost(path+".host", r)
	v.upstream(path, &r.Upstream, []string{"http", "https", "h2c"})
	v.upgrades(path+".upgrades", r)
	if r.Redirect != nil {
		v.redirect(path+".redirect", r.Redirect)
	}

	if r.Respond != nil {
		v.respond(path+".respond", r.Respond)
	}

	if r.Mirror != nil {
		v.mirror(path+".mirror", r)
	}
	if r.Files != nil {
		v.files(path+".files", r.Files)
		if r.ReplacePrefix != "" {
			v.fail(path+".replace_prefix", "is for targets: files takes strip_prefix, and another root")
		}
	}

	if r.Compress != nil {
		v.compress(path+".compress", r.Compress)
	}

	v.browsers(path, r.CORS, r.SecurityHeaders)
	v.headers(path+".headers", &r.Fields)
	v.access(path, &r.Access)
}

// unforwarded refuses what only requests that are forwarded can have, on a route that forwards none: whoever writes it
// expects something of it.
func (v *validator) unforwarded(path string, r *Route) {
	refuse := func(key string) { v.fail(path+"."+key, "is for routes with to: this route forwards nothing") }
	// A configuration that has been validated before has its defaults.
	var standards Upstream
	new(validator).upstream("", &standards, []string{"http"})
	given, usual := reflect.ValueOf(r.Upstream), reflect.ValueOf(standards)
	for i := range given.NumField() {
		if field := given.Field(i); !field.IsZero() && !reflect.DeepEqual(field.Interface(), usual.Field(i).Interface()) {
			refuse(given.Type().Field(i).Tag.Get("yaml"))
		}
	}
	for _, given := range []struct {
		key string
		is  bool
	}{
		{"strip_prefix", r.StripPrefix && r.Files == nil}, {"replace_prefix", r.ReplacePrefix != "" && r.Files == nil}, {"rewrite_urls", r.RewriteURLs}, {"host", r.Host != ""},
		{"grpc_web", r.GRPCWeb}, {"body_limit", r.BodyLimit != 0}, {"buffer", r.Buffer != Buffer{}}, {"upgrades", r.Upgrades != nil && !slices.Equal(r.Upgrades, []string{"websocket"})},
		{"forwarded", r.Forwarded}, {"handshake_header", r.Handshake},
	} {
		if given.is {
			refuse(given.key)
		}
	}
}

// prefixes are what is taken off a path, and put there instead.
func (v *validator) prefixes(path string, r *Route) {
	if (r.StripPrefix || r.ReplacePrefix != "") && r.Path == "" {
		v.fail(path, "strip_prefix and replace_prefix need the path that they take off")
	}
	if r.StripPrefix && r.ReplacePrefix != "" {
		v.fail(path, "takes strip_prefix or replace_prefix, not both")
	}

	if r.ReplacePrefix != "" && !validPath(r.ReplacePrefix) {
		v.fail(path+".replace_prefix", "%q is not a path such as /v2", r.ReplacePrefix)
	}
}

// upstreamHost is for the Host that targets get.
func (v *validator) upstreamHost(path string, r *Route) {
	if r.Host == "" || r.Host == "keep" || r.Host == "upstream" {
		return
	}
	if name, ok := WrittenHost(strings.TrimSuffix(r.Host, portOf(r.Host))); !ok {
		v.fail(path, "%q must be keep, upstream or a host name", r.Host)
	} else if strings.Contains(name, ":") {
		v.fail(path, "%q: an address goes in brackets", r.Host)
	} else if !ascii(r.Host) {
		r.Host = name + portOf(r.Host)
	}
}

// upgrades are websocket alone where nothing is said.
func (v *validator) upgrades(path string, r *Route) {
	// What follows an upgrade is passed on unread, so that other protocols are named one by one.
	if r.Upgrades == nil {
		r.Upgrades = []string{"websocket"}
	}
	for i, protocol := range r.Upgrades {
		name, version, versioned := strings.Cut(protocol, "/")
		same := func(other string) bool { return strings.EqualFold(other, protocol) }
		switch at := fmt.Sprintf("%s[%d]", path, i); {
		case isSwitch(protocol):
			v.fail(at, "%q is not a protocol: leave the key out for websocket alone, and write upgrades: [] for none", protocol)
		case !isToken(name) || versioned && !isToken(version):
			v.fail(at, "%q is not a protocol such as websocket or SPDY/3.1 (RFC 9110 section 7.8)", protocol)
		case slices.ContainsFunc(r.Upgrades[:i], same):
			v.fail(at, "%s is given twice", protocol)
		}
	}
}

// ascii reports whether a name can stand in a request as it is.
func ascii(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0 }

// portOf is the port of a host, with its colon, or "".
func portOf(host string) string {
	at := strings.LastIndexByte(host, ':')
	// The colons of an IPv6 address stand in brackets.
	if at < 0 || strings.HasSuffix(host, "]") {
		return ""
	}
	if n, err := strconv.Atoi(host[at+1:]); err != nil || n < 1 || n > 65535 {
		return ""
	}
	return host[at:]
}

func (v *validator) match(path string, r *Route) {
	if r.Path != "" && r.Exact != "" {
		v.fail(path, "takes path or exact, not both")
	}

	for _, p := range []struct{ key, value string }{{"path", r.Path}, {"exact", r.Exact}} {
		if p.value != "" && (!validPath(p.value) || strings.Contains(p.value, "*")) {
			v.fail(path+"."+p.key, "%s", pathWanted(p.key, p.value))
		}
	}

	for i, method := range r.Methods {
		// Methods are case-sensitive (RFC 9110 section 9.1): get would match nothing that clients send.
		if method == "" || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != "" {
			v.fail(fmt.Sprintf("%s.methods[%d]", path, i), "%q is not a method such as GET", method)
		}
	}
}

// validPath is for paths that requests' are compared with, which are in the form that routing gives them.
func validPath(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#%\\") || strings.Contains(path, "//") {
		return false
	}

	for i := range len(path) {
		if path[i] <= ' ' || path[i] == 0x7f {
			return false
		}
	}

	// Requests lose their dot segments before routing, so that such a path would match none.
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}

	return true
}

func (v *validator) redirect(path string, r *Redirect) {
	// 308 keeps the method and the content (RFC 9110 section 15.4.9), which 301 and 302 do not in practice.
	if r.Status == 0 {
		r.Status = 308
	}
	if !slices.Contains([]int{301, 302, 303, 307, 308}, r.Status) {
		v.fail(path+".status", "%d must be one of: 301, 302, 303, 307, 308", r.Status)
	}
	v.template(path+".to", r.To)
	v.destination(path+".to", r.To)
}

// destination is a path, or a URL whose origin a redirect can lead to.
func (v *validator) destination(path, to string) {
	t, err := template.Parse(to)
	if err != nil {
		return // which has been said
	}
	origin, reference, err := t.URL()
	if err != nil {
		v.fail(path, "%q: %v", to, err)
		return
	}

	start, rest := sample(origin), sample(reference)
	// A reference without a scheme names a host (RFC 3986 section 4.2), though it looks like a path.
	if strings.HasPrefix(to, "//") {
		v.fail(path, "%q would lead to another host: write https://", to)
	} else if _, err := url.Parse(rest); err != nil || start == "" && !strings.HasPrefix(rest, "/") || start != "" && !validOrigin(start) {
		v.fail(path, "%q must be a path, or a URL such as https://example.com{uri} or https://{host}:8443{uri}", to)
	}
}

// sample is a text with something in the place of each variable.
func sample(t template.Template) string {
	var b strings.Builder
	for text, variable := range t.Parts {
		switch {
		case text != "":
			b.WriteString(text)
		case variable == template.URI || variable == template.Path:
			b.WriteString("/x")
		default:
			b.WriteByte('x')
		}
	}
	return b.String()
}

// validOrigin is for a scheme of the web, a host, and a port if there is a colon.
func validOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.User != nil || !strings.HasPrefix(origin, "https://") && !strings.HasPrefix(origin, "http://") {
		return false
	}
	_, ok := CanonicalHost(u.Hostname())
	return ok && !strings.Contains(origin, "%") && (!strings.HasSuffix(origin, ":") && u.Port() == "" || portOf(u.Host) != "")
}

// location is for what a client is led to.
func (v *validator) location(path, to string) {
	if t, err := template.Parse(to); err == nil {
		if _, _, err := t.URL(); err != nil {
			v.fail(path, "%q: %v", to, err)
		}
	}
}

func (v *validator) respond(path string, r *Respond) {
	if r.Status == 0 {
		r.Status = 200
	}

	if r.Status < 200 || r.Status > 599 {
		v.fail(path+".status", "%d is not a status from 200 to 599", r.Status)
	} else if r.Body != "" && (r.Status == 204 || r.Status == 205 || r.Status == 304) {
		v.fail(path+".body", "a response of %d has none (RFC 9110 section 15)", r.Status)
	}

	if r.ContentType == "" {
		r.ContentType = "text/plain; charset=utf-8"
	} else if !validValue(r.ContentType) {
		v.fail(path+".content_type", "%q holds control characters", r.ContentType)
	}
}

func (v *validator) files(path string, f *Files) {
	if f.Root == "" {
		v.fail(path+".root", "is missing: the directory with the files")
	} else {
		v.directory(path+".root", f.Root, "name the directory of the files")
	}

	// A path could lead out of the directory that is served.
	if standard(&f.Index, "index.html"); strings.ContainsAny(f.Index, "/\\") {
		v.fail(path+".index", "%q is not the name of a file", f.Index)
	}
	if f.Precompressed == nil {
		f.Precompressed = coding.All()
	}

	for i, name := range f.Precompressed {
		v.oneOf(fmt.Sprintf("%s.precompressed[%d]", path, i), name, coding.All()...)
	}

	for i, pattern := range f.Hide {
		if _, err := gopath.Match(pattern, ""); err != nil || pattern == "" || strings.Contains(pattern, "/") {
			v.fail(fmt.Sprintf("%s.hide[%d]", path, i), "%q is not a name, or one with * and ?", pattern)
		}
	}

	if !validValue(f.CacheControl) {
		v.fail(path+".cache_control", "%q holds control characters", f.CacheControl)
	}
}

func (v *validator) template(path, text string) {
	if _, err := template.Parse(text); err != nil {
		v.fail(path, "%v", err)
	} else if !validValue(text) {
		v.fail(path, "%q holds control characters", text)
	}
}

// part is for a text that gets into a field whose meaning a target or a client has decided: no client chooses what
// stands there.
func (v *validator) part(path, text string) {
	v.template(path, text)
	t, err := template.Parse(text)
	if err != nil {
		return // which has been said
	}
	for literal, variable := range t.Parts {
		if literal == "" && variable != template.Host && variable != template.Scheme && text != "" {
			v.fail(path, "%q: only {host} and {scheme} can stand here: a client would choose the others", text)
			return
		}
	}
}

func validValue(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0
}

func (v *validator) headers(path string, h *HeaderRules) {
	for i, name := range h.Response.Keep {
		if !strings.EqualFold(name, "Alt-Svc") {
			v.fail(fmt.Sprintf("%s.response.keep[%d]", path, i), "%q must be Alt-Svc, the only field of a target's response that padlock drops", name)
		}
	}

	for _, side := range []struct {
		path  string
		rules *FieldRules
	}{{path + ".request", &h.Request}, {path + ".response", &h.Response.FieldRules}} {
		for i, name := range side.rules.Remove {
			v.fieldName(fmt.Sprintf("%s.remove[%d]", side.path, i), name)
		}

		for _, r := range side.rules.Replace {
			at := side.path + ".replace." + r.Name
			v.fieldName(at, r.Name)
			if r.From == "" {
				v.fail(at+".from", "is missing: what is to be replaced")
			}
			v.part(at+".from", r.From)
			v.part(at+".to", r.To)
		}

		for key, values := range map[string]FieldValues{"set": side.rules.Set, "add": side.rules.Add} {
			for _, field := range values {
				at := side.path + "." + key + "." + field.Name
				v.fieldName(at, field.Name)
				v.template(at, field.Value)
				// Variables that a client chooses must not decide which host another client is led to.
				if side.rules == &h.Response.FieldRules && strings.EqualFold(field.Name, "Location") {
					v.location(at, field.Value)
				}
			}
		}
	}
}

func (v *validator) fieldName(path, name string) {
	switch {
	case !isToken(name):
		v.fail(path, "%q is not the name of a field (RFC 9110 section 5.1)", name)
	case slices.Contains(reservedFields, strings.ToLower(name)):
		v.fail(path, "%s cannot be changed: padlock frames messages by it%s", name, map[bool]string{true: "; the key host of the route sets it"}[strings.EqualFold(name, "host")])
	}
}

// isToken is RFC 9110 section 5.6.2.
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return name != "" && len(name) < 128
}

func (v *validator) rateLimit(path string, l *RateLimit) {
	standard(&l.By, "address")
	standard(&l.Per, time.Minute)
	if l.Concurrent > maxRate {
		v.fail(path+".concurrent", "%d must be from 1 to %d", l.Concurrent, maxRate)
	}
	v.sharedRate(path, l)
	if l.Requests == 0 && l.Concurrent > 0 {
		if l.Per != time.Minute || l.Burst != 0 || l.Redis != "" {
			v.fail(path+".requests", "is missing: per, burst and redis go with it")
		}
		v.rateBy(path, l)
		return
	}

	standard(&l.Burst, l.Requests)
	switch {
	case l.Requests == 0:
		v.fail(path+".requests", "is missing: how many requests a client may send in each minute (per); or concurrent: how many at once")
	case l.Requests < 1 || l.Requests > maxRate:
		v.fail(path+".requests", "%d must be from 1 to %d", l.Requests, maxRate)
	case l.Burst < 1 || l.Burst > maxRate:
		v.fail(path+".burst", "%d must be from 1 to %d", l.Burst, maxRate)
	case l.Per < time.Millisecond || l.Per > 30*24*time.Hour:
		v.fail(path+".per", "%v must be from 1ms to 720h", l.Per)
	}
	v.rateBy(path, l)
}

// sharedRate checks where nodes count together.
func (v *validator) sharedRate(path string, l *RateLimit) {
	switch {
	case l.Redis == "":
		if l.OnFailure != "" {
			v.fail(path+".on_failure", "goes with redis: without it nothing can fail")
		}
		return
	case l.Redis != "storage" && !redisurl.Is(l.Redis):
		v.fail(path+".redis", "must be storage, or a URL such as redis://host:6379/0")
	case l.Redis != "storage":
		if _, _, err := redisurl.Parse(l.Redis); err != nil {
			v.fail(path+".redis", "%v", err)
		}
	}
	standard(&l.OnFailure, "open")
	v.oneOf(path+".on_failure", l.OnFailure, "open", "closed")
}

// sharedRates refuses limits that count in the storage where that is no Redis.
func (v *validator) sharedRates(c *Config, from int) {
	if redisurl.Is(c.Storage) {
		return
	}
	check := func(path string, a *Access) {
		if a.RateLimit != nil && a.RateLimit.Redis == "storage" {
			v.fail(path+".rate_limit.redis", "storage needs a storage that is a Redis; or write the URL of one: redis://host:6379/0")
		}
	}
	if c.Docker != nil {
		for i := range c.Docker.Access {
			check(fmt.Sprintf("docker.access[%d]", i), &c.Docker.Access[i].Access)
		}
	}
	for i := from; i < len(c.Sites); i++ {
		at := fmt.Sprintf("sites[%d]", i)
		check(at, &c.Sites[i].Access)
		for j := range c.Sites[i].Routes {
			check(fmt.Sprintf("%s.routes[%d]", at, j), &c.Sites[i].Routes[j].Access)
		}
	}
}

func (v *validator) rateBy(path string, l *RateLimit) {
	kind, name, named := strings.Cut(l.By, ":")
	switch {
	case l.By == "address", l.By == "user", l.By == "ja4":
	case named && (kind == "cookie" || kind == "header"):
		v.readName(path+".by", kind, name)
	default:
		v.fail(path+".by", "%q must be address, user, ja4, header:NAME or cookie:NAME", l.By)
	}
}

// maxRate is more than one padlock answers, whatever the span.
const maxRate = 1_000_000

func (v *validator) access(path string, a *Access) {
	if unchecked(v, a.RateLimit, func(named *Access) *RateLimit { return named.RateLimit }) {
		v.rateLimit(path+".rate_limit", a.RateLimit)
	}
	if unchecked(v, a.APIKeys, func(named *Access) *APIKeys { return named.APIKeys }) {
		v.apiKeys(path+".api_keys", a.APIKeys)
	}
	if unchecked(v, a.JWT, func(named *Access) *JWT { return named.JWT }) {
		v.jwt(path+".jwt", a.JWT)
	}
	if unchecked(v, a.ForwardAuth, func(named *Access) *ForwardAuth { return named.ForwardAuth }) {
		v.forwardAuth(path+".forward_auth", a.ForwardAuth)
	}
	if unchecked(v, a.BasicAuth, func(named *Access) *BasicAuth { return named.BasicAuth }) {
		v.basicAuth(path+".basic_auth", a.BasicAuth)
	}
}

// unchecked reports whether there is a rule that has not been checked with those that containers choose by name: files
// of these may have become unreadable since, which ends no site.
func unchecked[T any](v *validator, rule *T, of func(*Access) *T) bool {
	return rule != nil && !slices.ContainsFunc(v.checked, func(named NamedAccess) bool {
		other := of(&named.Access)
		return other != nil && reflect.DeepEqual(other, rule)
	})
}

func (v *validator) hsts(path string, h *HSTS) {
	switch {
	case h.Off && (h.MaxAge != 0 || h.IncludeSubdomains || h.Preload):
		v.fail(path, "off goes with nothing else")
	case h.Preload && (!h.IncludeSubdomains || h.MaxAge != 0 && h.MaxAge < 365*24*time.Hour):
		v.fail(path+".preload", "browsers' lists ask for include_subdomains and a max_age of a year (8760h)")
	}
}
