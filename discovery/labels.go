package discovery

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/config"
	"padlock/internal/phc"
)

// Prefix begins every label that padlock reads, and routes those of routes beside a container's first.
const (
	Prefix = "padlock."
	routes = "routes."
)

// part is what an owner says of one route. In labels these are all those of a container without a name, or those of
// padlock.routes.NAME.
type part struct {
	owner  *owner
	prefix string // of its labels
	whole  bool   // it is of a whole site, and not of labels
	hosts  []string

	port, scheme, network string
	weight                int
	target                config.Target // once it is known where the container is

	route  config.Route // without targets
	www    string
	paths  string
	noCase bool
	hsts   config.HSTS
	http   string
	access string // name of rules in the configuration
	// Of whole sites alone, as they name files of padlock's machine, or addresses that it can reach.
	errors      map[string]string
	intercept   []string
	maintenance *config.Maintenance
	inspect     *config.Inspect
	isTCP       bool
	tcp         config.TCP // without what it shares with routes
	shared      string     // labels that all containers of the route should have alike
}

// key is what may stand behind a label's prefix.
type key struct {
	name string // one that ends with a dot takes any name behind it
	kind kind
	read func(p *part, rest, text string) error
}

// kind says whose keys they are.
type kind int

const (
	ofTarget kind = iota // of a container alone
	ofRoute              // of all containers of a route
	ofHTTP               // of all containers of a route, but not with tcp
	ofTCP                // only with tcp
)

// setting is a key that fills a setting of the configuration.
func setting(name string, k kind, field func(p *part) any) key {
	return key{name, k, func(p *part, _, text string) error { return config.Read(text, field(p)) }}
}

func (p *part) health() *config.Health {
	if p.route.Health == nil {
		p.route.Health = &config.Health{}
	}
	return p.route.Health
}

func (p *part) basicAuth() *config.BasicAuth {
	if p.route.Access.BasicAuth == nil {
		p.route.Access.BasicAuth = &config.BasicAuth{}
	}
	return p.route.Access.BasicAuth
}

func (p *part) rateLimit() *config.RateLimit {
	if p.route.Access.RateLimit == nil {
		p.route.Access.RateLimit = &config.RateLimit{}
	}
	return p.route.Access.RateLimit
}

func (p *part) remember() *config.Inspect {
	if p.inspect == nil {
		p.inspect = &config.Inspect{}
	}
	return p.inspect
}

func (p *part) compress() *config.Compress {
	if p.route.Compress == nil {
		p.route.Compress = &config.Compress{}
	}
	return p.route.Compress
}

func (p *part) cors() *config.CORS {
	if p.route.CORS == nil {
		p.route.CORS = &config.CORS{}
	}
	return p.route.CORS
}

func (p *part) securityHeaders() *config.SecurityHeaders {
	if p.route.SecurityHeaders == nil {
		p.route.SecurityHeaders = &config.SecurityHeaders{}
	}
	return p.route.SecurityHeaders
}

// keys are all that labels can say, none of which reads a file of padlock's machine or a variable of its environment, or
// has padlock connect to anything but the container: whoever may label a container need not be allowed to. Rules that do
// are the configuration's, and a label names them.
var keys = []key{
	setting("host", ofTarget, func(p *part) any { return &p.hosts }),
	setting("port", ofTarget, func(p *part) any { return &p.port }),
	setting("scheme", ofTarget, func(p *part) any { return &p.scheme }),
	setting("network", ofTarget, func(p *part) any { return &p.network }),
	setting("weight", ofTarget, func(p *part) any { return &p.weight }),

	setting("path", ofHTTP, func(p *part) any { return &p.route.Path }),
	setting("exact", ofHTTP, func(p *part) any { return &p.route.Exact }),
	setting("methods", ofHTTP, func(p *part) any { return &p.route.Methods }),
	setting("strip_prefix", ofHTTP, func(p *part) any { return &p.route.StripPrefix }),
	setting("replace_prefix", ofHTTP, func(p *part) any { return &p.route.ReplacePrefix }),
	setting("rewrite_urls", ofHTTP, func(p *part) any { return &p.route.RewriteURLs }),
	setting("host_header", ofHTTP, func(p *part) any { return &p.route.Host }),
	setting("grpc_web", ofHTTP, func(p *part) any { return &p.route.GRPCWeb }),
	setting("body_limit", ofHTTP, func(p *part) any { return &p.route.BodyLimit }),
	setting("buffer.request", ofHTTP, func(p *part) any { return &p.route.Buffer.Request }),
	setting("buffer.response", ofHTTP, func(p *part) any { return &p.route.Buffer.Response }),
	setting("compress", ofHTTP, func(p *part) any { return p.compress() }),
	setting("cors.origins", ofHTTP, func(p *part) any { return &p.cors().Origins }),
	setting("cors.methods", ofHTTP, func(p *part) any { return &p.cors().Methods }),
	setting("cors.headers", ofHTTP, func(p *part) any { return &p.cors().Headers }),
	setting("cors.expose", ofHTTP, func(p *part) any { return &p.cors().Expose }),
	setting("cors.credentials", ofHTTP, func(p *part) any { return &p.cors().Credentials }),
	setting("cors.max_age", ofHTTP, func(p *part) any { return &p.cors().MaxAge }),
	setting("security_headers", ofHTTP, func(p *part) any { return p.securityHeaders() }),
	setting("upgrades", ofHTTP, func(p *part) any { return &p.route.Upgrades }),
	setting("forwarded", ofHTTP, func(p *part) any { return &p.route.Forwarded }),
	setting("handshake_header", ofHTTP, func(p *part) any { return &p.route.Handshake }),

	setting("allow", ofRoute, func(p *part) any { return &p.route.Access.Allow }),
	setting("deny", ofRoute, func(p *part) any { return &p.route.Access.Deny }),
	{"basic_auth.users", ofHTTP, readUsers},
	setting("basic_auth.realm", ofHTTP, func(p *part) any { return &p.basicAuth().Realm }),
	{"access", ofRoute, readAccess},
	setting("rate_limit.requests", ofHTTP, func(p *part) any { return &p.rateLimit().Requests }),
	setting("rate_limit.per", ofHTTP, func(p *part) any { return &p.rateLimit().Per }),
	setting("rate_limit.burst", ofHTTP, func(p *part) any { return &p.rateLimit().Burst }),
	setting("rate_limit.by", ofHTTP, func(p *part) any { return &p.rateLimit().By }),
	setting("rate_limit.concurrent", ofHTTP, func(p *part) any { return &p.rateLimit().Concurrent }),
	setting("inspect", ofHTTP, func(p *part) any { return p.remember() }),
	setting("inspect.requests", ofHTTP, func(p *part) any { return &p.remember().Requests }),
	setting("inspect.body", ofHTTP, func(p *part) any { return &p.remember().Body }),
	setting("inspect.redact", ofHTTP, func(p *part) any { return &p.remember().Redact }),
	setting("headers.request.remove", ofHTTP, func(p *part) any { return &p.route.Fields.Request.Remove }),
	field("headers.request.set.", func(p *part) *config.FieldValues { return &p.route.Fields.Request.Set }),
	field("headers.request.add.", func(p *part) *config.FieldValues { return &p.route.Fields.Request.Add }),
	setting("headers.response.keep", ofHTTP, func(p *part) any { return &p.route.Fields.Response.Keep }),
	setting("headers.response.remove", ofHTTP, func(p *part) any { return &p.route.Fields.Response.Remove }),
	field("headers.response.set.", func(p *part) *config.FieldValues { return &p.route.Fields.Response.Set }),
	field("headers.response.add.", func(p *part) *config.FieldValues { return &p.route.Fields.Response.Add }),
	setting("paths", ofHTTP, func(p *part) any { return &p.paths }),
	setting("ignore_case", ofHTTP, func(p *part) any { return &p.noCase }),
	setting("match", ofHTTP, func(p *part) any { return &p.route.Match }),
	named("header.", func(p *part) *map[string]string { return &p.route.Header }),
	named("cookie.", func(p *part) *map[string]string { return &p.route.Cookie }),
	named("query.", func(p *part) *map[string]string { return &p.route.Query }),
	setting("client", ofHTTP, func(p *part) any { return &p.route.Client }),
	setting("percent", ofHTTP, func(p *part) any { return &p.route.Percent }),
	setting("http", ofHTTP, func(p *part) any { return &p.http }),
	setting("www", ofHTTP, func(p *part) any { return &p.www }),
	setting("hsts", ofHTTP, func(p *part) any { return &p.hsts }),
	setting("hsts.max_age", ofHTTP, func(p *part) any { return &p.hsts.MaxAge }),
	setting("hsts.include_subdomains", ofHTTP, func(p *part) any { return &p.hsts.IncludeSubdomains }),
	setting("hsts.preload", ofHTTP, func(p *part) any { return &p.hsts.Preload }),

	setting("balance", ofRoute, func(p *part) any { return &p.route.Balance }),
	setting("hash_by", ofRoute, func(p *part) any { return &p.route.HashBy }),
	setting("sticky", ofHTTP, func(p *part) any { return &p.route.Sticky }),
	setting("health.path", ofHTTP, func(p *part) any { return &p.health().Path }),
	setting("health.host", ofHTTP, func(p *part) any { return &p.health().Host }),
	setting("health.status", ofHTTP, func(p *part) any { return &p.health().Status }),
	setting("health.interval", ofRoute, func(p *part) any { return &p.health().Interval }),
	setting("health.timeout", ofRoute, func(p *part) any { return &p.health().Timeout }),
	setting("health.rise", ofRoute, func(p *part) any { return &p.health().Rise }),
	setting("health.fall", ofRoute, func(p *part) any { return &p.health().Fall }),
	setting("health.slow_start", ofRoute, func(p *part) any { return &p.health().SlowStart }),
	setting("passive_health", ofRoute, func(p *part) any { return &p.route.PassiveHealth }),
	setting("passive_health.failures", ofRoute, func(p *part) any { return &p.route.PassiveHealth.Failures }),
	setting("passive_health.cooldown", ofRoute, func(p *part) any { return &p.route.PassiveHealth.Cooldown }),
	setting("circuit.requests", ofRoute, func(p *part) any { return &p.route.Circuit.Requests }),
	setting("circuit.pending", ofRoute, func(p *part) any { return &p.route.Circuit.Pending }),
	setting("circuit.wait", ofRoute, func(p *part) any { return &p.route.Circuit.Wait }),
	setting("retry.attempts", ofRoute, func(p *part) any { return &p.route.Retry.Attempts }),
	setting("retry.budget", ofRoute, func(p *part) any { return &p.route.Retry.Budget }),
	setting("timeouts.connect", ofRoute, func(p *part) any { return &p.route.Timeouts.Connect }),
	setting("timeouts.response_header", ofHTTP, func(p *part) any { return &p.route.Timeouts.ResponseHeader }),
	setting("keepalive", ofHTTP, func(p *part) any { return &p.route.KeepAlive }),
	setting("keepalive.idle", ofHTTP, func(p *part) any { return &p.route.KeepAlive.Idle }),
	setting("keepalive.connections", ofHTTP, func(p *part) any { return &p.route.KeepAlive.Connections }),
	setting("protocol", ofHTTP, func(p *part) any { return &p.route.Protocol }),
	setting("server_name", ofRoute, func(p *part) any { return &p.route.ServerName }),
	setting("insecure_skip_verify", ofRoute, func(p *part) any { return &p.route.Insecure }),

	setting("tcp", ofRoute, func(p *part) any { return &p.isTCP }),
	setting("tcp.idle", ofTCP, func(p *part) any { return &p.tcp.Idle }),
	setting("tcp.connections", ofTCP, func(p *part) any { return &p.tcp.Connections }),
	setting("tcp.proxy_protocol", ofTCP, func(p *part) any { return &p.tcp.ProxyProtocol }),
	setting("tcp.starttls", ofTCP, func(p *part) any { return &p.tcp.StartTLS }),
	setting("tcp.alpn", ofTCP, func(p *part) any { return &p.tcp.ALPN }),
	setting("tcp.passthrough", ofTCP, func(p *part) any { return &p.tcp.Passthrough }),
}

// field is a key with the name of a field behind it.
func field(name string, values func(p *part) *config.FieldValues) key {
	return key{name, ofHTTP, func(p *part, rest, text string) error {
		all := values(p)
		*all = append(*all, config.FieldValue{Name: rest, Value: text})
		return nil
	}}
}

// named is a key with the name of what is compared behind it.
func named(name string, values func(p *part) *map[string]string) key {
	return key{name, ofHTTP, func(p *part, rest, text string) error {
		all := values(p)
		if *all == nil {
			*all = map[string]string{}
		}
		(*all)[rest] = text
		return nil
	}}
}

// readAccess reads the name of rules. A name that a variable should have filled is no reason to have none.
func readAccess(p *part, _, text string) error {
	if p.access = text; text == "" {
		return trouble("", "is empty: it is the name of rules in docker.access", "")
	}
	return nil
}

// readUsers reads name:hash, between commas, as htpasswd -nB prints one.
func readUsers(p *part, _, text string) error {
	users := map[string]string{}
	last := ""
	for user := range strings.SplitSeq(text, ",") {
		name, hash, found := strings.Cut(strings.TrimSpace(user), ":")
		// Commas stand between the parameters of Argon2id too.
		if !found && strings.HasPrefix(users[last], phc.Prefix) {
			users[last] += "," + name
			continue
		}
		last = name
		if !found {
			// The value may be a password.
			return fmt.Errorf("needs name:hash, as htpasswd -nB NAME prints it; in a compose file each $ is written twice")
		}
		users[name] = hash
	}
	p.basicAuth().Users = users
	return nil
}

// find splits what stands behind a prefix into a key and the name behind that.
func find(name string) (k key, rest string, ok bool) {
	for _, k := range keys {
		if rest, dotted := strings.CutPrefix(name, k.name); name == k.name && !strings.HasSuffix(name, ".") || dotted && strings.HasSuffix(k.name, ".") && rest != "" {
			return k, rest, true
		}
	}
	return key{}, "", false
}

// wants reports whether labels ask for a site.
func wants(labels map[string]string) bool {
	for label := range labels {
		name, ours := cutPrefix(label)
		rest, named := strings.CutPrefix(name, routes)
		if ours && (name == "host" || named && strings.HasSuffix(rest, ".host")) {
			return true
		}
	}
	return false
}

// cutPrefix takes the prefix off, in whatever case it is written: what only looks like a label of padlock's is
// refused, never passed over.
func cutPrefix(label string) (name string, ours bool) {
	if len(label) < len(Prefix) || !strings.EqualFold(label[:len(Prefix)], Prefix) {
		return "", false
	}
	return label[len(Prefix):], true
}

const (
	maxLabels = 500 // of padlock's, on one container
	maxName   = 256 // bytes
	maxValue  = 16 << 10
	maxHosts  = 100  // of one route
	maxNamed  = 1000 // of all routes of one container
)

// read makes parts of a container's labels, in the order of their names, or says what is wrong with each label.
func read(c *owner, labels map[string]string) (parts []*part, problems []Problem) {
	byPrefix := map[string]*part{}
	count := 0
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		name, ours := cutPrefix(label)
		if !ours {
			continue
		}
		if count++; count > maxLabels {
			return nil, []Problem{{Owner: c.name, Message: fmt.Sprintf("has more than %d labels for padlock", maxLabels), Remedy: "spread its sites over several containers, or write them into the configuration file"}}
		}

		if len(label) > maxName {
			problems = append(problems, Problem{Owner: c.name, Label: label[:maxName/4] + "…", Message: fmt.Sprintf("the label's name is longer than %d bytes", maxName)})
			continue
		}

		if !strings.HasPrefix(label, Prefix) {
			problems = append(problems, Problem{Owner: c.name, Label: label, Message: "labels of padlock begin with " + Prefix + " in lower case", Remedy: "write " + Prefix + name})
			continue
		}

		prefix := Prefix
		if strings.HasPrefix(name, routes) {
			route, rest, _ := strings.Cut(name[len(routes):], ".")
			prefix, name = Prefix+routes+route+".", rest
		}

		p := byPrefix[prefix]
		if p == nil {
			p = &part{owner: c, prefix: prefix}
			byPrefix[prefix] = p
			parts = append(parts, p)
		}

		if now, was := config.RenamedOfRoute(name); was {
			notice := renamed(c.name, label, prefix+now, labels)
			if !notice.Works {
				problems = append(problems, notice)
				continue
			}

			c.notices = append(c.notices, notice)
			name = now
		}

		if err := p.label(name, labels[label]); err != nil {
			problems = append(problems, of(err, c.name, prefix, name))
		}
	}

	first := byPrefix[Prefix]
	// Without hosts, the labels outside of named routes make no site of their own.
	if first != nil && len(first.hosts) == 0 {
		parts = slices.DeleteFunc(parts, func(p *part) bool { return p == first })
	}

	named := 0
	for _, p := range parts {
		if len(p.hosts) == 0 && first != nil {
			p.hosts = slices.Clone(first.hosts)
		}
		named += len(p.hosts)
		problems = append(problems, p.check()...)
	}

	if named > maxNamed {
		problems = append(problems, Problem{
			Owner: c.name, Message: fmt.Sprintf("its routes have %d names in all, and %d is the most", named, maxNamed), Remedy: "use a wildcard, or write its sites into the configuration file",
		})
	}

	return parts, problems
}

// renamed says of a label how it is called now. It is not used if the label with that name is there too.
func renamed(container, label, now string, labels map[string]string) Problem {
	p := Problem{Owner: container, Label: label, Message: "is now " + now, Remedy: "rename the label: the next release does not read the old name", Works: true}
	if _, both := labels[now]; both {
		p.Message, p.Remedy, p.Works = "is the old name of "+now+", which is there too", "remove "+label, false
	}
	return p
}

// label reads one.
func (p *part) label(name, text string) error {
	k, rest, ok := find(name)
	switch {
	case !ok:
		return trouble("", "padlock knows no such label"+suggest(name), "")
	case len(text) > maxValue:
		return trouble("", fmt.Sprintf("is longer than %d bytes", maxValue), "shorten it, or write the site into the configuration file")
	}

	if err := k.read(p, rest, text); err != nil {
		return err
	}
	if k.kind != ofTarget {
		p.shared += name + "=" + strconv.Quote(text) + "\n"
	}
	return nil
}

// suggest names a key that may have been meant.
func suggest(name string) string {
	for _, k := range keys {
		if config.Near(name, k.name) {
			return "; did you mean " + k.name + "?"
		}
	}
	return ""
}

// check finds what the configuration's own validation would not.
func (p *part) check() (problems []Problem) {
	fail := func(label, message, remedy string) {
		problems = append(problems, of(trouble(label, message, remedy), p.owner.name, p.prefix, label))
	}

	switch {
	case len(p.hosts) == 0:
		fail("host", "is missing, and there is no "+Prefix+"host", "add it, such as app.example.com")
	case len(p.hosts) > maxHosts:
		fail("host", fmt.Sprintf("has more than %d names", maxHosts), "use a wildcard, or several routes")
	}

	if p.port != "" && !validPort(p.port) {
		fail("port", fmt.Sprintf("%.40q is not a number from 1 to 65535", p.port), "give the port on which the container itself listens")
	}

	schemes := []string{"http", "https", "h2c"}
	if p.isTCP {
		schemes = []string{"tcp", "tls"}
	}

	if p.scheme == "" {
		p.scheme = schemes[0]
	} else if !slices.Contains(schemes, p.scheme) {
		fail("scheme", fmt.Sprintf("%.40q must be one of: %s", p.scheme, strings.Join(schemes, ", ")), "")
	}

	for line := range strings.Lines(p.shared) {
		name, _, _ := strings.Cut(line, "=")
		switch k, _, _ := find(name); {
		case k.kind == ofHTTP && p.isTCP:
			fail(name, "is for HTTP, and "+p.prefix+"tcp asks for plain bytes", "take one of them off")
		case k.kind == ofTCP && !p.isTCP:
			fail(name, "goes with "+p.prefix+"tcp: \"true\" only", "add that label, or take this one off")
		}
	}

	return problems
}

func validPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= 65535 && strconv.Itoa(n) == s
}

// owner is a running container whose labels can be used, or what else has sites that stand or fall together.
type owner struct {
	kind     string // in messages
	id, name string
	created  time.Time
	leaving  bool // it has been told to stop
	parts    []*part
	notices  []Problem // of labels that are used all the same
}

func (c *owner) String() string { return c.kind + " " + c.name }
