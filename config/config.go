// Package config turns padlock's file, flags and environment into one validated Config.
//
//	cfg, err := config.Load("padlock.yaml")   // every error at once, each with file:line:column
//
// It reads no network and changes nothing. The quick commands build the same Config, so there is one way through the
// program.
package config

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// Config is everything that padlock does. A Config that Validate has accepted is never changed afterwards;
// it may be read from any goroutine.
type Config struct {
	// Addresses and protocols for incoming connections.
	Listen Listen `yaml:"listen"`
	// The admin endpoint: console, metrics, health checks, and the interface that `padlock status` and `padlock
	// reload` use. By default a Unix socket in the storage directory that only padlock's user can open; set an address
	// for browsers and Prometheus. The address alone is enough: `admin: 127.0.0.1:2020`.
	Admin Admin `yaml:"admin"`
	// Serve a page over plain HTTP at this machine's private addresses that helps other devices install the local CA.
	// Enable it to test with phones and other computers.
	TrustPage bool `yaml:"trust_page"`
	// Where padlock keeps certificates, keys and the data that nodes share. By default `padlock` in the user's data
	// directory. Use a shared directory, Redis or PostgreSQL when several nodes serve the same names.
	Storage string `yaml:"storage" secret:"yes" empty:"never" path:"or"` // directory, `redis://` or `postgres://` URL
	// Encrypts everything in the storage except the local CA. Set it when others can read the storage or its backups.
	StorageKey string `yaml:"storage_key" secret:"yes" empty:"never" path:"file:"` // 32 bytes in base64 or hexadecimal, or `file:PATH`
	// The user that padlock switches to after it opens its listeners. Set it when root starts padlock.
	User string `yaml:"user" empty:"never"` // user name
	// Organization in the subject of the local CA and the certificates that it signs.
	Organization string `yaml:"organization"`
	// Where certificates come from, apart from the local CA.
	Certificates Certificates `yaml:"certificates"`
	// TLS settings of all listeners.
	TLS TLS `yaml:"tls"`
	// Which TLS handshakes are logged, in what format and where.
	Handshakes Handshakes `yaml:"handshakes"`
	// The access log: one line for each request and each TCP connection.
	AccessLog AccessLog `yaml:"access_log"`
	// Exports requests and handshakes to a collector as OpenTelemetry spans. Off unless `endpoint` is set.
	Tracing Tracing `yaml:"tracing"`
	// How long padlock waits for clients and targets.
	Timeouts Timeouts `yaml:"timeouts"`
	// Limits on what clients can use. Every value is above zero.
	Limits Limits `yaml:"limits"`
	// Networks of the proxies in front of padlock. padlock takes the client's address, protocol and host from their
	// X-Forwarded-* and Forwarded headers; those of everybody else are dropped.
	Trusted []Network `yaml:"trusted_proxies" empty:"may"`
	// What happens to request headers whose names contain underscores or dots. CGI and some frameworks read `X_Real_IP`
	// as `X-Real-IP`. `drop_known` drops such spellings of the headers that padlock sets, removes or frames messages by;
	// `drop` drops every header whose name contains anything but letters, digits and hyphens; `keep` drops none.
	UnderscoresInHeaders string `yaml:"underscores_in_headers"` // drop_known | drop | keep
	// DNS servers for the names of targets. By default the system's resolver.
	Resolvers []string `yaml:"resolvers" empty:"may"` // list of host:port
	// Show the target and the reason of the failure on error pages. For development only.
	ErrorDetails bool `yaml:"error_details"`
	// The sites that padlock serves: host names and what happens to their requests.
	Sites []Site `yaml:"sites" empty:"may"`
	// Creates sites from the labels of containers. `docker: on` uses the defaults. Off unless set.
	Docker *Docker `yaml:"docker"`
}

// Listen holds the addresses to accept on, as host:port.
type Listen struct {
	// Addresses that accept HTTPS.
	HTTPS []string `yaml:"https" empty:"may"` // list of host:port
	// Addresses that accept plain HTTP and redirect it to https://, unless a site's `http` says otherwise. `[]` turns plain
	// HTTP off.
	HTTP []string `yaml:"http" empty:"may"` // list of host:port
	// Also accept HTTP/3, on the UDP ports with the same numbers as `https`.
	HTTP3 bool `yaml:"http3"`

	// Whether responses announce HTTP/3 with Alt-Svc. `auto` omits it when the local CA signed the certificate,
	// because Chromium and Firefox accept HTTP/3 from public CAs only.
	AltSvc string `yaml:"alt_svc"` // auto | always | never

	// Reads the client's address from a PROXY protocol header (version 1 or 2) at the start of a connection. Set it
	// behind a TCP load balancer.
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
}

// ProxyProtocol says who puts a PROXY header, of version 1 or 2, in front of each connection. Nobody else's is read.
type ProxyProtocol struct {
	// Networks of the load balancers. Their connections must begin with a PROXY header; padlock does not read headers
	// from other addresses.
	From []Network `yaml:"from"`
}

// Docker finds sites in the labels of containers.
type Docker struct {
	// The engine's API. By default the value of DOCKER_HOST, or `unix:///var/run/docker.sock`.
	Endpoint string `yaml:"endpoint" mask:"url"` // `unix:PATH` or `tcp://host:port`
	// The network in which padlock reaches containers. By default one that padlock is also in.
	Network string `yaml:"network"`
	// Labels that a container must have; containers without all of them are ignored. By default no label is required.
	Labels []string `yaml:"labels"` // list of `name` or `name=value`
	// Domains that containers may use for their hosts, including all names below them. By default any.
	Domains []string `yaml:"domains"`
	// Wildcard hosts of the file's own sites, such as `*.example.com`, below which containers may take names.
	Override []string `yaml:"override" empty:"may"` // list of wildcards
	// Access rules that a container chooses by name, with the label `padlock.access`. Containers cannot say these
	// themselves: the rules read files and reach services.
	Access []NamedAccess `yaml:"access"`
}

// NamedAccess are access rules for containers.
type NamedAccess struct {
	// The name, as in the label `padlock.access`.
	Name   string `yaml:"name" empty:"never"`
	Access `yaml:",inline"`
}

// Certificates says where certificates come from, besides the local CA.
type Certificates struct {
	// Certificates from files, for names whose certificate something else issues and renews. padlock reloads the files
	// when they change.
	Files []CertificateFile `yaml:"files" empty:"may"`
	// Contact address of the ACME account. Optional; a CA may use it for notices.
	Email string `yaml:"email"`
	// ACME CAs (RFC 8555), tried in order. An entry can be just a name or a directory URL.
	Issuers []Issuer `yaml:"issuers" empty:"may"`
	// The ACME client. `autocert` is smaller and has no wildcards, DNS-01, profiles or second issuer.
	Client string `yaml:"client"` // certmagic | autocert
	// Use the test CAs of the known issuers, whose limits are generous and which browsers do not trust. Enable it
	// while you try a setup.
	Staging bool `yaml:"staging"`
	// ACME challenges that padlock may use. Remove one when its port (80 for http-01, 443 for tls-alpn-01) is not
	// reachable. Not used when `dns` is set.
	Challenges []string `yaml:"challenges"` // http-01 | tls-alpn-01
	// DNS-01 challenges. Required for wildcard certificates, and for machines that the internet cannot reach.
	DNS DNS `yaml:"dns"`
	// Key types; padlock obtains one certificate for each. Add an RSA type for clients without ECDSA support.
	KeyTypes []string `yaml:"key_types"` // p256 | p384 | rsa2048 | rsa4096
	// Fraction of the lifetime that is left when padlock renews a certificate, 0.02 to 0.9, unless the CA names a time
	// (ARI).
	RenewRatio float64 `yaml:"renew_ratio"`
	// Obtains a certificate during the first handshake for a name. For names that are not known in advance, such as
	// customers' domains. Off unless set; certificates are then limited to the hosts of sites.
	OnDemand *OnDemand `yaml:"on_demand"`
}

// CertificateFile is a PEM pair, where Cert holds the leaf first and then its chain; a PKCS#12 file; or a directory
// of either. They are read again when they change.
type CertificateFile struct {
	// The certificate, followed by its chain.
	Cert string `yaml:"cert" path:"yes"` // PEM file
	// The private key of `cert`. By default `cert` contains it.
	Key string `yaml:"key" path:"yes"` // PEM file
	// A certificate with its chain and private key, instead of `cert` and `key`.
	PKCS12 string `yaml:"pkcs12" path:"yes"` // PKCS#12 file
	// The password of the `pkcs12` file.
	Password string `yaml:"password" secret:"yes" path:"file:"` // string or `file:PATH`
	// Reads all PEM and PKCS#12 files in the directory, instead of `cert` or `pkcs12`.
	Directory string `yaml:"directory" path:"yes"` // directory
	// Intermediate certificates that complete the chain, if the files lack them.
	Intermediates string `yaml:"intermediates" path:"yes"` // PEM file
}

// Issuer is a CA with ACME: a known one by its name, or any by its directory.
type Issuer struct {
	// A known CA.
	Name string `yaml:"name"` // letsencrypt | letsencrypt-staging | zerossl | google
	// The ACME directory of any other CA, instead of `name`.
	Directory string `yaml:"directory" mask:"url"` // URL
	// Root certificates for the TLS connection to `directory`. Set it for a private CA.
	Root string `yaml:"root" empty:"never" path:"yes"` // PEM file
	// External account binding: credentials of an existing account at the CA. ZeroSSL and Google require them.
	EAB EAB `yaml:"eab"`
	// Certificate profile to request, for example `shortlived` at Let's Encrypt.
	Profile string `yaml:"profile"`
	// Common name of the root to prefer when the CA offers several chains.
	PreferredChain string `yaml:"preferred_chain"`
}

// EAB binds the account to one that the CA knows already (RFC 8555 section 7.3.4).
type EAB struct {
	// Key identifier from the CA.
	KID string `yaml:"kid"`
	// HMAC key from the CA.
	HMACKey string `yaml:"hmac_key" secret:"yes"` // base64url
}

// DNS says where challenges of dns-01 are published. The provider's own settings are environment variables, as lego
// documents them.
type DNS struct {
	// The DNS provider, by its name in lego, for example `cloudflare`. Credentials are environment variables.
	Provider string `yaml:"provider"`
	// DNS servers that padlock queries to check that the record is visible. By default the system's resolver.
	Resolvers []string `yaml:"resolvers" empty:"may"` // list of host:port
	// How long to wait until the record is visible. By default the provider's own value.
	Timeout time.Duration `yaml:"timeout"`
}

// OnDemand orders certificates at a name's first handshake, for names that Ask or Allow agree to.
type OnDemand struct {
	// padlock requests this URL with `?domain=NAME`; a 2xx status permits the name. Either `ask` or `allow` is
	// required.
	Ask string `yaml:"ask" mask:"url"` // URL
	// Permitted names, instead of `ask`.
	Allow []string `yaml:"allow"` // list of names or `*.name`
	// New names that one client address can request per minute, whether permitted or not.
	PerSource int `yaml:"per_source"`
	// Permitted names for which padlock orders certificates per minute, in total.
	PerMinute int `yaml:"per_minute"`
	// Number of certificates that padlock keeps in memory.
	Cache int `yaml:"cache"`
}

// TLS is the policy of every listener.
type TLS struct {
	// The lowest TLS version that padlock accepts. Raise it when all clients support TLS 1.3.
	MinVersion string `yaml:"min_version"` // "1.2" | "1.3"
}

// Handshakes says which handshakes are told, how and where.
type Handshakes struct {
	// Which handshakes to log.
	Show string `yaml:"show"` // all | failures | off
	// `story` is a description of every stage, `line` a single line, `json` a JSON object per line.
	Format string `yaml:"format"` // story | line | json
	// Where to write handshakes.
	Output string `yaml:"output" path:"or"` // `stderr`, `stdout` or a file
	// Log one in this many completed handshakes. Failures are always logged. Raise it under heavy load.
	Sample int `yaml:"sample"`

	// Rotation of the file in `output`.
	Rotate Rotate `yaml:"rotate"`
	// Reduces personal data in handshake records, logs and traces.
	Privacy HandshakePrivacy `yaml:"privacy"`

	// Write handshakes to a pcapng file for Wireshark, with the secrets that decrypt them. For debugging; requires
	// `insecure_export_secrets`.
	Capture string `yaml:"capture" path:"yes"` // file
	// Allow padlock to write handshake traffic secrets to captures.
	InsecureExportSecrets bool `yaml:"insecure_export_secrets"`
}

// Rotate bounds what a log file takes on the disk.
type Rotate struct {
	// Size at which padlock starts a new file.
	MaxSize int `yaml:"max_size_mib"` // MiB
	// Number of older files to keep.
	Keep int `yaml:"keep"`
}

// HandshakePrivacy says how much of what identifies a person is kept.
type HandshakePrivacy struct {
	// `truncated` keeps 24 bits of IPv4 addresses and 48 bits of IPv6 addresses.
	Addresses string `yaml:"addresses"` // full | truncated
	// `hashed` replaces server names with a keyed hash.
	Names string `yaml:"names"` // full | hashed
}

// AccessLog says how requests are logged.
type AccessLog struct {
	// `combined` is Apache's combined log format.
	Format string `yaml:"format"` // json | combined | off
	// Where to write the access log.
	Output string `yaml:"output" path:"or"` // `stderr`, `stdout` or a file
	// Rotation of the file in `output`.
	Rotate Rotate `yaml:"rotate"`
	// Request headers to include, with the format `json`.
	Headers []string `yaml:"headers" empty:"may"`
	// Query parameters and headers whose values are replaced with `REDACTED`. Cookies and Authorization are never
	// logged.
	Redact []string `yaml:"redact" empty:"may"`
}

// Timeouts bound how long a peer may keep padlock waiting. Zero means the default, never unbounded.
type Timeouts struct {
	// From the accepted TCP connection to the end of the TLS handshake.
	Handshake time.Duration `yaml:"handshake"`
	// From the first byte of a request to the end of its header.
	Header time.Duration `yaml:"header"`
	// How long a client's connection stays open between requests.
	Idle time.Duration `yaml:"idle"`
	// How long a request or response body may make no progress because of the client.
	BodyIdle time.Duration `yaml:"body_idle"`
	// How long a response may make no progress while the client pauses, for example a stopped video player. At most a
	// tenth of `limits.connections` get this time; others get `body_idle`.
	Send time.Duration `yaml:"send"`
	// How long a WebSocket or another upgraded connection may carry no data.
	Tunnel time.Duration `yaml:"tunnel"`
	// How long to wait for a connection to a target.
	Connect time.Duration `yaml:"connect"`
	// From the request to the header of the target's response. Raise it, or set `off`, for targets that take longer.
	ResponseHeader Patience `yaml:"response_header"`
	// How long open requests and WebSockets may take to finish after SIGTERM.
	Shutdown time.Duration `yaml:"shutdown"`
	// How long connections may stay with the old process after a restart with SIGUSR2.
	Handover time.Duration `yaml:"handover"`
}

// Limits bound what a peer may send. In a file they are above zero.
type Limits struct {
	// Open client connections. Above this, a connection of the client with the most is closed, an idle one first; if
	// no client has more than another, an idle connection is closed, or new ones wait.
	Connections int `yaml:"connections"`
	// Open connections of one client address, or of one IPv6 /64 network; four times as many of a /48 network. Above
	// this, new ones are closed. Unlimited by default; set it only if clients connect to padlock directly, because a
	// proxy in front makes them share its address.
	PerAddress int `yaml:"connections_per_address"`
	// Connections with an unfinished TLS handshake, and the same number of plain HTTP connections.
	Handshakes int `yaml:"handshakes"`
	// Size of a request header.
	HeaderSize int `yaml:"header_size"` // bytes
	// Number of header fields in a request.
	HeaderFields int `yaml:"header_fields"`
	// Average rate that a request body must reach once it has taken longer than `timeouts.body_idle`.
	BodyRate int `yaml:"body_rate"` // bytes per second
	// Concurrent requests on one HTTP/2 or HTTP/3 connection.
	Streams int `yaml:"streams"`
	// Streams that can be reset on one connection within 10 seconds, by the client or because of its errors.
	Resets int `yaml:"resets"`
	// HTTP/2 frames without effect, such as PING, that one connection can send within 10 seconds.
	NoopFrames int `yaml:"noop_frames"`
	// Memory for the `buffer` of all routes. One client can use half of it, and an eighth of what is beyond that. The
	// same amount is for request bodies over HTTP/2 and HTTP/3 that no target has read yet, and a quarter of it for headers
	// of requests that wait for their responses.
	Buffers Size `yaml:"buffers"`
	// Memory for the requests that all sites with `inspect` remember. The oldest are forgotten first.
	Inspect Size `yaml:"inspect"`
}

// Site is a set of names with one policy.
type Site struct {
	// Host names, addresses, wildcards such as `*.example.com` (one label), or `*` for any name. The most specific
	// site answers.
	Hosts []string `yaml:"hosts"` // list of names
	// TLS settings of the site.
	TLS SiteTLS `yaml:"tls"`
	// Also serve the other form of each host, and redirect: `add` to the name with `www.`, `remove` to the name
	// without it. Off by default.
	WWW string `yaml:"www"` // add | remove
	// What happens on the addresses of `listen.http`: a redirect to https://, the site's routes without TLS, or a refusal
	// (421). ACME challenges are answered in any case. By default `redirect`.
	HTTP string `yaml:"http"` // redirect | serve | off
	// Strict-Transport-Security (RFC 6797): tells browsers to use HTTPS only. A header from the target takes
	// precedence. `hsts: off` sends none.
	HSTS   HSTS   `yaml:"hsts"`
	Access Access `yaml:",inline"`
	// Compress responses. `compress: true` uses the defaults. A route's own setting takes precedence. Off by default.
	Compress *Compress `yaml:"compress"`
	// Which pages of other origins may read responses (CORS). padlock answers preflight requests, and replaces what the
	// target says about it. A route's own setting takes precedence. By default the target decides.
	CORS *CORS `yaml:"cors"`
	// Headers that make browsers more careful with responses: `true`, `strict` or a mapping. Headers from the target
	// take precedence. A route's own setting replaces the site's. Off by default.
	SecurityHeaders *SecurityHeaders `yaml:"security_headers"`
	// What happens to a path that a target may read differently from padlock: reject it with 400, forward its normal
	// form, or forward it unchanged. By default `strict` when a rule restricts access; otherwise `raw`, except for
	// paths that would leave the ones routed to the target.
	Paths string `yaml:"paths"` // strict | normalize | raw
	// Routes match paths in upper and lower case. Set it if the target ignores case.
	NoCase bool `yaml:"ignore_case"`
	// Header rules. They apply before those of the route.
	Fields HeaderRules `yaml:"headers"`
	// HTML pages of your own for padlock's error responses, by status (`404`) or class of statuses (`5xx`): a file, or a
	// URL such as `http://pages:8080/{status}.html` that padlock fetches the page from. Clients that ask for JSON or plain
	// text get that. Error responses of targets are replaced only with `intercept`.
	Errors map[string]string `yaml:"errors" path:"or"` // statuses and files or URLs
	// Statuses of targets' responses that the pages of `errors` replace, such as `[404, 5xx]`. By default none. Responses
	// to gRPC, Upgrade and Range requests stay as they are.
	Intercept []string `yaml:"intercept"` // list of statuses
	// Answers requests with 503 and Retry-After while it is on. `padlock maintenance on SITE` switches it on without a
	// change of the file, and uses what the file says beside it. `maintenance: true` uses the defaults. Off by default.
	Maintenance *Maintenance `yaml:"maintenance"`
	// Remember requests with their headers and content, for the console and `padlock watch --requests`. `inspect: true`
	// uses the defaults. On by default for `padlock TARGET` that listens on loopback or with `--lan` and for `padlock
	// dev`, off in a file.
	Inspect *Inspect `yaml:"inspect"`
	// What happens to the requests of the site. Of the routes that match, an exact path takes precedence over a
	// prefix, a longer prefix over a shorter one, a route with conditions such as `header` over one without, and a route
	// with `methods` over one without; then the first wins. A
	// site without routes serves the built-in page.
	Routes []Route `yaml:"routes" empty:"may"`
	// Addresses of this site, instead of `listen.https`.
	Listen []string `yaml:"listen"` // list of host:port
	// Forwards the decrypted bytes to a TCP service, instead of HTTP requests.
	TCP *TCP `yaml:"tcp"`
}

// Maintenance says what visitors get while a site is not served, and who is served all the same.
type Maintenance struct {
	// Maintenance is on. By default it is off, until `padlock maintenance on` is used.
	On bool `yaml:"on"`
	// What padlock's page says. By default that the site is in maintenance.
	Message string `yaml:"message"`
	// HTML page of your own. By default the page of `errors` for 503, if there is one and no message.
	Page string `yaml:"page" empty:"never" path:"yes"` // file
	// When maintenance ends, for example `2026-12-01T06:00:00Z`. By default when it is switched off.
	Until string `yaml:"until" empty:"never"` // time
	// Client addresses that are served all the same.
	Allow []Network `yaml:"allow"`
	// Paths that are served all the same, for example those of health checks.
	Paths []string `yaml:"paths"` // list of paths
}

// Inspect says how much of a site's requests is remembered. All sites share the memory of `limits.inspect`.
type Inspect struct {
	// Number of requests to remember, the latest ones.
	Requests int `yaml:"requests"`
	// How much of each request's content to remember, and of each response's.
	Body Size `yaml:"body"`
	// Do not keep the values of Authorization, cookies and what `access_log.redact` lists. By default they are kept, and
	// hidden until you click on them; a replay sends them again.
	Redact bool `yaml:"redact"`
	// Remember nothing.
	Off bool `yaml:"off"`
}

// PathMode is Paths, or what it is by default: strict where a rule keeps anybody out, so that nobody may go around
// it; agreed where a target gets some paths only, so that it gets no others; else raw.
func (s *Site) PathMode() string {
	ruled := s.Access.rules() || s.TLS.ClientAuth != nil
	for i := range s.Routes {
		ruled = ruled || s.Routes[i].Access.rules() || s.Routes[i].Refuses()
	}

	switch {
	case s.Paths != "":
		return s.Paths
	case ruled:
		return "strict"
	}

	for i := range s.Routes {
		if len(s.Routes[i].To) > 0 && !s.opens(s.Routes[i].To) {
			return "agreed"
		}
	}

	return "raw"
}

// opens reports whether a route leads to all paths of these targets, or whether none says which.
func (s *Site) opens(to []Backend) bool {
	limited := false
	for i := range s.Routes {
		r := &s.Routes[i]
		if !reflect.DeepEqual(r.To, to) {
			continue
		}
		all := r.Path == "" && r.Exact == ""
		if all && len(r.Methods) == 0 && !r.Conditional() {
			return true
		}
		limited = limited || !all || r.Match != ""
	}
	return !limited
}

// Passthrough reports whether TLS of this site is the target's affair.
func (s *Site) Passthrough() bool { return s.TCP != nil && s.TCP.Passthrough }

// TCP forwards what comes through TLS to any service.
type TCP struct {
	Upstream `yaml:",inline"`

	// How long a connection may carry no data in either direction.
	Idle time.Duration `yaml:"idle"`
	// Open connections of the site. Unlimited by default.
	Connections int `yaml:"connections"`
	// Send the target a PROXY protocol header with the client's address. Off by default.
	ProxyProtocol string `yaml:"proxy_protocol"` // v1 | v2
	// Also start TLS after an SSLRequest, as PostgreSQL clients do.
	StartTLS string `yaml:"starttls"` // `postgres`
	// Protocols that clients can negotiate. By default none; `postgresql` with `starttls: postgres`.
	ALPN []string `yaml:"alpn"`
	// Forward the encrypted connection. The target terminates TLS; padlock only reads the server name.
	Passthrough bool `yaml:"passthrough"`
}

// HSTS tells browsers to come by HTTPS only. A target's own field stands.
type HSTS struct {
	// How long browsers remember the rule. By default a year; off for local names.
	MaxAge time.Duration `yaml:"max_age"`
	// Apply the rule to all names below the host.
	IncludeSubdomains bool `yaml:"include_subdomains"`
	// Consent to inclusion in the browsers' preload lists.
	Preload bool `yaml:"preload"`
	// Send no header.
	Off bool `yaml:"off"`
}

// Access says who may come.
type Access struct {
	// Client addresses that are allowed. By default all.
	Allow []Network `yaml:"allow"`
	// Client addresses that are refused. Takes precedence over `allow`.
	Deny []Network `yaml:"deny"`
	// Requires a user name and password (RFC 7617).
	BasicAuth *BasicAuth `yaml:"basic_auth"`
	// Requires an API key, which names the client.
	APIKeys *APIKeys `yaml:"api_keys"`
	// Requires a JSON Web Token (RFC 7519) that the keys of its issuer verify.
	JWT *JWT `yaml:"jwt"`
	// Asks a service about each request, as Authelia, Authentik and oauth2-proxy document it: a 2xx status lets the
	// request through, any other answer is the client's. A route's own setting takes precedence over the site's.
	ForwardAuth *ForwardAuth `yaml:"forward_auth"`
	// Limits how many requests each client can send, and how many at once. Further ones get 429. The limits of a site and
	// of its route both apply. Each padlock counts for itself, unless `redis` is set.
	RateLimit *RateLimit `yaml:"rate_limit"`
}

// rules reports whether anybody is kept out.
func (a *Access) rules() bool {
	return len(a.Allow)+len(a.Deny) > 0 || a.ofHTTP()
}

// ofHTTP reports whether there are rules that mean something for HTTP alone.
func (a *Access) ofHTTP() bool {
	return a.BasicAuth != nil || a.APIKeys != nil || a.JWT != nil || a.ForwardAuth != nil || a.RateLimit != nil
}

// RateLimit says how many requests each client may send.
type RateLimit struct {
	// Number of requests in each span of `per`.
	Requests int `yaml:"requests"`
	// The span of time.
	Per time.Duration `yaml:"per"`
	// Requests that a client can send at once after a pause. By default `requests`.
	Burst int `yaml:"burst"`
	// What counts as one client: its address (an IPv6 /64 network; a /48 counts as four clients at most), the user of
	// `basic_auth` or another access rule, the JA4 fingerprint of its TLS handshake, which all clients of the same
	// software have in common, or the value of a header or cookie. Clients without that value count by address. Choose
	// ja4, a header or a cookie only if clients cannot invent its value, or beside a limit by address.
	By string `yaml:"by"` // address | user | ja4 | header:NAME | cookie:NAME
	// Requests of a client that can be under way at once, WebSockets included. Each padlock counts for itself. By default
	// any number. `requests` can be left out then.
	Concurrent int `yaml:"concurrent"`
	// The Redis in which several nodes count `requests` together: a URL as for `storage`, or `storage` for that one.
	Redis string `yaml:"redis" empty:"never" secret:"yes"` // `storage` or a `redis://` URL
	// What happens while Redis does not answer: each padlock counts for itself (`open`, the default), or requests get 503
	// (`closed`).
	OnFailure string `yaml:"on_failure"` // open | closed
}

// BasicAuth asks for a name and a password (RFC 7617).
type BasicAuth struct {
	// The realm that browsers show. By default `padlock`.
	Realm string `yaml:"realm"`
	// Users and their password hashes: of bcrypt, as `htpasswd -nB NAME` prints them, or of Argon2id (`$argon2id$…`).
	Users map[string]string `yaml:"users"` // names and hashes
	// A file with a `name:hash` line per user, as `htpasswd -B` writes it. padlock reads it again when it changes.
	UsersFile string `yaml:"users_file" empty:"never" path:"yes"` // file
}

// APIKeys asks for a key that a client has.
type APIKeys struct {
	// A file with a line for each key: `NAME:sha256:HASH` with the SHA-256 hash of the key in hexadecimal digits, or
	// `NAME:KEY`. padlock reads it again when it changes.
	File string `yaml:"file" empty:"never" path:"yes"` // file
	// Header in which clients send the key. In Authorization, it is `Bearer KEY`.
	Header string `yaml:"header"` // name
	// Header in which targets receive the name of the client, in addition to X-Forwarded-User.
	Copy string `yaml:"copy"` // name
	// Also pass the key to targets. By default padlock removes it.
	Forward bool `yaml:"forward"`
}

// JWT asks for a token that an issuer has signed.
type JWT struct {
	// The issuer's public keys as a JSON Web Key Set (RFC 7517). padlock fetches a URL again every 10 minutes and for keys
	// that it does not know, and reads a file again when it changes. `http://` is for private networks only.
	JWKS string `yaml:"jwks" empty:"never" mask:"url" path:"or"` // URL or file
	// Root certificates for `jwks`. By default the system's.
	CA string `yaml:"ca" empty:"never" path:"yes"` // PEM file
	// The issuer that tokens name (`iss`).
	Issuer string `yaml:"issuer" empty:"never"`
	// Audiences of which a token must name one (`aud`). `"*"` accepts tokens for any.
	Audience []string `yaml:"audience"`
	// Signature algorithms that tokens may use.
	Algorithms []string `yaml:"algorithms"` // RS256 | RS384 | RS512 | PS256 | PS384 | PS512 | ES256 | ES384 | ES512 | EdDSA
	// Header in which clients send the token. In Authorization, it is `Bearer TOKEN`. By default Authorization, unless
	// `cookie` is set.
	Header string `yaml:"header"` // name
	// Cookie in which clients send the token.
	Cookie string `yaml:"cookie"` // name
	// Claims that a token must have, each with one of these values. Of a list, one of the items counts, of `scope` one of
	// the words; dots lead into objects, as in `realm_access.roles`.
	Claims map[string][]string `yaml:"claims"` // names and values
	// Claims that targets receive, each in a header of its own. The client's own headers of these names never reach a
	// target.
	Copy map[string]string `yaml:"copy"` // claims and headers
	// The claim that names the user. By default `sub`.
	User string `yaml:"user"` // claim
	// Difference between the clocks of the issuer and padlock that is accepted.
	Leeway time.Duration `yaml:"leeway"`
	// How long keys remain valid if `jwks` cannot be fetched.
	KeepKeys time.Duration `yaml:"keep_keys"`
	// Also pass the token to targets. By default padlock removes it.
	Forward bool `yaml:"forward"`
}

// ForwardAuth asks a service whether a request may go on. The service gets a GET with the client's header fields, and
// with X-Forwarded-Method, -Proto, -Host, -Uri and -For, but no content.
type ForwardAuth struct {
	Upstream `yaml:",inline"`
	// Path, with its query if any, that the service answers such requests at.
	URI string `yaml:"uri"` // path
	// Headers of the service's 2xx answer that targets receive. The client's own headers of these names never reach a
	// target.
	Copy []string `yaml:"copy"` // list of names
	// The header of `copy` that names the user for the access log, `{user}` and rate limits. By default Remote-User,
	// X-Auth-Request-User, X-Authentik-Username, X-Forwarded-User or X-Remote-User, if `copy` has it.
	User string `yaml:"user"` // name
	// How long the service may take to answer. Clients get 504 if it takes longer.
	Timeout time.Duration `yaml:"timeout"`
}

// SiteTLS is the part of the TLS policy that a site decides.
type SiteTLS struct {
	// Requests a client certificate.
	ClientAuth *ClientAuth `yaml:"client_auth"`
	// Also accept TLS 1.2 with RSA key exchange, which has no forward secrecy. Only for clients that support nothing
	// better.
	LegacyRSA bool `yaml:"legacy_rsa_key_exchange"`
}

// ClientAuth asks clients for a certificate.
type ClientAuth struct {
	// `require` refuses clients without a valid certificate, `optional-verify` refuses invalid certificates only, and
	// `request` refuses nobody and reports the result.
	Mode string `yaml:"mode"` // require | optional-verify | request
	// The CAs that issue client certificates.
	CA string `yaml:"ca" empty:"never" path:"yes"` // PEM file
	// Certificate revocation lists in PEM or DER, each signed by one of the CAs.
	CRL []string `yaml:"crl" path:"yes"` // list of files
	// Restricts access to certificates with one of these names or organizations.
	Allow *ClientNames `yaml:"allow"`
	// Also send the certificate to targets, in Client-Cert (RFC 9440).
	Forward bool `yaml:"forward_certificate"`
}

// ClientNames are what a verified certificate must have one of.
type ClientNames struct {
	// Subject alternative names: `app.example.com`, `*.example.com` (one label), `email:a@example.com`,
	// `uri:spiffe://example.com/app` or `ip:10.0.0.1`.
	Names []string `yaml:"names"`
	// Organizations in the certificate's subject.
	Organizations []string `yaml:"organizations"`
}

// Route is what happens to the requests that it matches: they are forwarded, redirected or answered. Of the routes of
// a site that match, an exact path goes before a prefix, a longer prefix before a shorter one, named methods before
// any, and then the first.
type Route struct {
	// Prefix of the paths that the route matches, up to a slash or the end of the path: `/api` matches `/api` and
	// `/api/x`. By default all paths.
	Path string `yaml:"path"` // path
	// The one path that the route matches, instead of `path`.
	Exact string `yaml:"exact" empty:"never"` // path
	// HTTP methods that the route matches. By default all.
	Methods []string `yaml:"methods"`

	Conditions `yaml:",inline"`
	Upstream   `yaml:",inline"`
	// Answers with a redirect.
	Redirect *Redirect `yaml:"redirect"`
	// Answers with a fixed response.
	Respond *Respond `yaml:"respond"`
	// Answers with the files below a directory.
	Files *Files `yaml:"files"`

	// Remove `path` from the request before forwarding it. Targets see it in X-Forwarded-Prefix.
	StripPrefix bool `yaml:"strip_prefix"`
	// Replace `path` with this before forwarding the request.
	ReplacePrefix string `yaml:"replace_prefix"` // path
	// Replace the target's own scheme, host and prefix with the client's in Location, Content-Location, Refresh and
	// Set-Cookie, and the reverse in Destination and If. Set it for targets that do not read X-Forwarded-*.
	RewriteURLs bool `yaml:"rewrite_urls"`
	// The Host header that targets receive: the client's (`keep`, the default), the target's (`upstream`) or a fixed one.
	Host string `yaml:"host"` // `keep`, `upstream` or a name
	// Header rules of the route.
	Fields HeaderRules `yaml:"headers"`
	Access Access      `yaml:",inline"`
	// Translate gRPC-Web (`application/grpc-web` and `-text`), which browsers can send, into gRPC for the target.
	GRPCWeb bool `yaml:"grpc_web"`
	// Largest request body; larger ones are rejected with 413. Unlimited by default.
	BodyLimit Size `yaml:"body_limit"`
	// Sends copies of requests to another target as well, whose responses are discarded.
	Mirror *Mirror `yaml:"mirror"`
	// Compress responses of this route, instead of the site's setting; `compress: false` compresses none.
	Compress *Compress `yaml:"compress"`
	// Which pages of other origins may read responses of this route, instead of the site's setting.
	CORS *CORS `yaml:"cors"`
	// Headers that make browsers more careful with responses of this route, instead of the site's setting.
	SecurityHeaders *SecurityHeaders `yaml:"security_headers"`
	// Buffers bodies, so that a slow client does not occupy a target. A larger body is streamed from there.
	Buffer Buffer `yaml:"buffer"`

	// Protocols that clients can switch to with Upgrade over HTTP/1.1. `[]` allows none. Once switched, padlock
	// forwards any protocol but WebSocket unread.
	Upgrades []string `yaml:"upgrades" empty:"may"`

	// Also send Forwarded (RFC 7239).
	Forwarded bool `yaml:"forwarded"`
	// Also send Padlock-Handshake, which describes the client's handshake: ID, TLS version, fingerprint and client
	// certificate.
	Handshake bool `yaml:"handshake_header"`
}

// CORS lets pages of other origins read responses (Fetch section 3.3).
type CORS struct {
	// Origins of the pages: `https://app.example.com`, `https://*.example.com` (one label) or `"*"`.
	Origins []string `yaml:"origins"`
	// Methods that pages may use.
	Methods []string `yaml:"methods"`
	// Request headers that pages may send, in addition to those that every page may.
	Headers []string `yaml:"headers"` // list of names
	// Response headers that pages may read, in addition to those that every page may.
	Expose []string `yaml:"expose"` // list of names
	// Let pages send cookies and other credentials. Not with `"*"`.
	Credentials bool `yaml:"credentials"`
	// How long browsers may remember the answer to a preflight request.
	MaxAge time.Duration `yaml:"max_age"`
}

// SecurityHeaders make browsers more careful with responses.
type SecurityHeaders struct {
	// `standard` adds X-Content-Type-Options, Referrer-Policy, and lets only the site's own pages frame responses;
	// `strict` also forbids frames, referrers, camera, microphone and location, and isolates pages from other origins.
	Preset string `yaml:"preset"` // standard | strict
	// Pages that may frame responses: `none`, `self`, `any` or origins. By default what the preset says.
	Frames []string `yaml:"frames"` // list of origins
	// Value of Referrer-Policy, instead of the preset's.
	ReferrerPolicy string `yaml:"referrer_policy"`
	// Value of Permissions-Policy, instead of the preset's.
	PermissionsPolicy string `yaml:"permissions_policy"`
	// Value of Content-Security-Policy, without frame-ancestors. By default none.
	ContentSecurityPolicy string `yaml:"content_security_policy"`
	// Replace the target's own headers.
	Replace bool `yaml:"replace"`
	// Add none.
	Off bool `yaml:"off"`
}

// Mirror copies requests to another target. Clients see nothing of it.
type Mirror struct {
	// Targets that share the copies.
	To []Backend `yaml:"to"` // list of targets
	// Share of the requests, in percent.
	Percent Percent `yaml:"percent"` // 0.01 to 100
	// Requests with larger content are not copied. Content that is copied is kept in memory, within `limits.buffers`.
	Body Size `yaml:"body"`
	// Copies keep Cookie, Authorization and other headers that hold keys and tokens.
	Secrets bool `yaml:"secrets"`
}

// Compress encodes responses for clients that accept it. Responses that are encoded already, partial, or marked
// `no-transform` stay as they are.
type Compress struct {
	// Codings that padlock may use, in the order of preference. Clients' weights take precedence.
	Prefer []string `yaml:"prefer"` // zstd | br | gzip
	// Size of the smallest response to compress.
	Min Size `yaml:"min"`
	// Content types to compress, with `*` for any text. By default the usual types of text, and fonts and images that are
	// not compressed themselves. Event streams are compressed only if this names `text/event-stream`.
	Types []string `yaml:"types"`
	// `fast` needs the least processor time, `best` makes the smallest responses.
	Level string `yaml:"level"` // fast | default | best
	// Whether to compress responses to requests with cookies, an Authorization header or a client certificate. With
	// `same_site`, not if a script of another site sent the request, which protects secrets in pages (BREACH).
	Cookies string `yaml:"cookies"` // same_site | always | never
	// Compress nothing.
	Off bool `yaml:"off"`
}

// Buffer holds content back, so that slow clients do not keep targets waiting. What is larger is streamed on from
// there.
type Buffer struct {
	// How much of a request body to read before the target receives it. Off by default.
	Request Size `yaml:"request"`
	// How much of a response body to read before the client receives it. Off by default.
	Response Size `yaml:"response"`
}

// Upstream is a set of targets, and how one is chosen and reached.
type Upstream struct {
	// The targets, which share the requests. An entry can be just the target.
	To []Backend `yaml:"to"`
	// How to choose a target. `random` takes the less loaded of two; `hash` keeps a client at one target by `hash_by`.
	Balance string `yaml:"balance"` // round_robin | least_conn | random | hash
	// What `balance: hash` uses. By default `address`, which is the only choice for `tcp`.
	HashBy string `yaml:"hash_by"` // `address`, `cookie:NAME` or `header:NAME`
	// Keep each client at its target with this cookie. HTTP only.
	Sticky string `yaml:"sticky"` // cookie name
	// Checks the targets in regular intervals. Targets of `tcp` are checked by connecting.
	Health *Health `yaml:"health"`
	// Ejects a target after failed requests. `passive_health: off` ejects none.
	PassiveHealth PassiveHealth `yaml:"passive_health"`
	// Limits the concurrent requests to a target.
	Circuit Circuit `yaml:"circuit"`
	// Sends a request to another target if padlock could not connect to the first, or if the request is idempotent and
	// the first closed the connection without a response.
	Retry Retry `yaml:"retry"`
	// Timeouts of this route; they replace the general `timeouts`.
	Timeouts UpstreamTimeouts `yaml:"timeouts"`
	// Idle connections to targets that padlock keeps for further requests. A duration alone is `idle`; `keepalive:
	// off` keeps none. HTTP only.
	KeepAlive KeepAlive `yaml:"keepalive"`
	// What a target's name means. `any` treats it as one target and looks it up for each connection; `each` treats
	// every address of it as a target.
	Resolve string `yaml:"resolve"` // any | each

	// How to speak to http and https targets. `auto`, the default, offers HTTP/2 and HTTP/1.1 to https targets (ALPN), and
	// speaks HTTP/1.1 to others. `http2` without TLS needs a target that expects it, as `h2c://` does.
	Protocol string `yaml:"protocol"` // auto | http1 | http2

	// Root certificates for https targets. By default the system's.
	CA string `yaml:"ca" empty:"never" path:"yes"` // PEM file
	// Client certificate for https targets that request one.
	ClientCert string `yaml:"client_cert" path:"yes"` // PEM file
	// The private key of `client_cert`.
	ClientKey string `yaml:"client_key" path:"yes"` // PEM file
	// Server name to request from https targets and to verify. By default the target's host.
	ServerName string `yaml:"server_name"`
	// Do not verify the certificates of https targets. Anyone on the network path can then read and change the
	// traffic.
	Insecure bool `yaml:"insecure_skip_verify"`
}

// Backend is a target with its share.
type Backend struct {
	// A port, host:port, http://, https:// or h2c:// URL, `unix:PATH`, or `srv+http://NAME`; for `tcp` host:port,
	// `tls://host:port` or `unix:PATH`.
	Target Target `yaml:"target"`
	// Share of the requests, relative to other targets. By default 1.
	Weight int `yaml:"weight"` // 1 to 1000
}

// Health asks targets whether they are well.
type Health struct {
	// Path to request. Required in routes, rejected in `tcp`.
	Path string `yaml:"path"` // path
	// Host header of the check. By default the target's. HTTP only.
	Host string `yaml:"host"`
	// Statuses that count as success. HTTP only.
	Status string `yaml:"status"` // status or range
	// Time between checks.
	Interval time.Duration `yaml:"interval"`
	// How long a check may take.
	Timeout time.Duration `yaml:"timeout"`
	// Successful checks in a row until a target is healthy.
	Rise int `yaml:"rise"`
	// Failed checks in a row until a target is unhealthy.
	Fall int `yaml:"fall"`
	// How long a target that has recovered takes to reach its full share. By default it gets it at once.
	SlowStart time.Duration `yaml:"slow_start"`
}

// PassiveHealth ejects a target that fails requests.
type PassiveHealth struct {
	// Failed requests in a row until a target is ejected.
	Failures int `yaml:"failures"`
	// How long an ejected target gets no requests.
	Cooldown time.Duration `yaml:"cooldown"`
	// Never eject a target.
	Off bool `yaml:"off"`
}

// Circuit bounds what a target is burdened with.
type Circuit struct {
	// Concurrent requests to each target, of which one client can use three quarters. Unlimited by default.
	Requests int `yaml:"requests"`
	// Requests that can wait for a free target; others get 503. By default none waits.
	Pending int `yaml:"pending"`
	// How long a request can wait.
	Wait time.Duration `yaml:"wait"`
}

// Retry sends a request to another target, where the first has not got it, or acting on it twice does no harm.
type Retry struct {
	// Attempts in total, and never more than there are targets.
	Attempts int `yaml:"attempts"`
	// Retries as a fraction of the requests.
	Budget Fraction `yaml:"budget"` // above 0, up to 1
}

// UpstreamTimeouts are those of one route; zero means the general ones.
type UpstreamTimeouts struct {
	// How long to wait for a connection to a target.
	Connect time.Duration `yaml:"connect"`
	// From the request to the header of the target's response. HTTP only.
	ResponseHeader Patience `yaml:"response_header"`
}

// KeepAlive says how long connections to targets are kept for further requests.
type KeepAlive struct {
	// How long padlock keeps an idle connection. If a target announces a shorter time with `Keep-Alive: timeout`,
	// padlock uses that, less a second.
	Idle time.Duration `yaml:"idle"`
	// Idle connections to keep for each target. HTTP/2 connections (h2c) are not limited.
	Connections int `yaml:"connections"`
	// Use a new connection for each request. For targets that serve one connection at a time.
	Off bool `yaml:"off"`
}

// Redirect answers with another address. {host}, {path}, {query}, {uri} and the other variables of field values stand
// in it.
type Redirect struct {
	// The address to redirect to: a path or URL. Variables such as `{host}`, `{path}`, `{query}` and `{uri}` are
	// replaced.
	To string `yaml:"to"`
	// Status of the redirect.
	Status int `yaml:"status"` // 301, 302, 303, 307 or 308
}

// Refuses reports whether nobody gets anything from a route, however it is reached.
func (r *Route) Refuses() bool {
	return r.Respond != nil && slices.Contains([]int{401, 403, 404, 410, 451}, r.Respond.Status)
}

// Respond answers without a target.
type Respond struct {
	// Status of the response.
	Status int `yaml:"status"`
	// Body of the response, without variables.
	Body string `yaml:"body"`
	// Content-Type of the response.
	ContentType string `yaml:"content_type"`
}

// Files answers with files. A request's path, without what `strip_prefix` removes, is the path of the file.
type Files struct {
	// Directory of the files. Links that lead out of it, or to files under other rules, are not followed.
	Root string `yaml:"root" empty:"never" path:"yes"` // directory
	// File to serve for a directory. By default `index.html`.
	Index string `yaml:"index"`
	// Serve the index of `root` for paths without a file, for apps that have their routes in the browser. Paths with
	// a file extension still get 404.
	SPA bool `yaml:"spa"`
	// List directories that have no index.
	Listing bool `yaml:"listing"`
	// Codings of compressed files to look for beside each file (`app.js.br`), in the order of preference. By default
	// all; `[]` looks for none.
	Precompressed []string `yaml:"precompressed" empty:"may"` // zstd | br | gzip
	// Names of files and directories that are not served, with `*` and `?`. Names that begin with a dot never are,
	// except `.well-known`.
	Hide []string `yaml:"hide"` // list of patterns
	// Cache-Control of files. By default none: browsers decide by the time of the last change.
	CacheControl string `yaml:"cache_control"`
}

// HeaderRules change the fields of requests and responses.
type HeaderRules struct {
	// Rules for request headers. They apply in the order `remove`, `replace`, `set`, `add`.
	Request FieldRules `yaml:"request"`
	// Rules for response headers. They apply in the order `remove`, `replace`, `set`, `add`.
	Response ResponseRules `yaml:"response"`
}

// ResponseRules are rules for what a target answers.
type ResponseRules struct {
	// Headers of targets to pass on that padlock drops by default. The only one is Alt-Svc.
	Keep       []string `yaml:"keep"`
	FieldRules `yaml:",inline"`
}

// FieldRules remove, then replace, then set, then add.
type FieldRules struct {
	// Headers to remove.
	Remove []string `yaml:"remove" empty:"may"`
	// Text to replace in header values. Only the variables `{host}` and `{scheme}` are allowed.
	Replace Replacements `yaml:"replace"` // names, each with `from` and `to`
	// Headers to set; they replace existing values. Variables such as `{client_ip}` are allowed.
	Set FieldValues `yaml:"set"`
	// Headers to add to existing values. Variables such as `{client_ip}` are allowed.
	Add FieldValues `yaml:"add"`
}

// Target is a backend: where to connect and how to speak.
type Target struct {
	Scheme  string // http | https | h2c: HTTP/2 without TLS, for gRPC | tcp | tls; "" until Validate: http or tcp, as the site is
	Network string // tcp | unix
	Address string // host:port, the socket's path, or the name of an SRV record
	SRV     bool   // hosts and ports come by DNS (RFC 2782)
}

// StateDirectory holds what belongs to this machine alone: the local CA and the admin endpoint's socket.
func (c *Config) StateDirectory() string {
	if strings.Contains(c.Storage, "://") {
		return defaultStorage()
	}
	return c.Storage
}
