// Package config turns padlock's file, flags and environment into one validated Config.
//
//	cfg, err := config.Load("padlock.yaml")   // every error at once, each with file:line:column
//
// It reads no network and changes nothing. The quick commands build the same Config, so there is one way through the program.
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
	Listen       Listen       `yaml:"listen"`
	Admin        Admin        `yaml:"admin"`
	TrustPage    bool         `yaml:"trust_page"`                                          // plain HTTP, asked for at this machine's private addresses, serves a page that gets devices to trust the local CA
	Storage      string       `yaml:"storage" secret:"yes" path:"or"`                      // directory, redis:// or postgres:// URL for certificates and what nodes share
	StorageKey   string       `yaml:"storage_key" secret:"yes" empty:"never" path:"file:"` // 32 bytes in base64 or hexadecimal, or file:PATH: encrypts what the storage holds, but for the local CA
	User         string       `yaml:"user" empty:"never"`                                  // that padlock becomes when its listeners are open, where root starts it
	Organization string       `yaml:"organization"`                                        // subject organization of the local CA and its leaves
	Certificates Certificates `yaml:"certificates"`
	TLS          TLS          `yaml:"tls"`
	Handshakes   Handshakes   `yaml:"handshakes"`
	AccessLog    AccessLog    `yaml:"access_log"`
	Tracing      Tracing      `yaml:"tracing"`
	Timeouts     Timeouts     `yaml:"timeouts"`
	Limits       Limits       `yaml:"limits"`
	Trusted      []Network    `yaml:"trusted_proxies" empty:"may"` // whose X-Forwarded-* and Forwarded are believed
	DropAliases  string       `yaml:"drop_aliases"`                // known | all | none: fields such as X_Real_IP, which some backends take for X-Real-IP
	Resolvers    []string     `yaml:"resolvers" empty:"may"`       // host:port of DNS servers for targets' names; none: the system's
	ErrorDetails bool         `yaml:"error_details"`               // error pages name the target and what went wrong; for development
	Docker       *Docker      `yaml:"docker"`                      // nil: containers bring no sites
	Sites        []Site       `yaml:"sites" empty:"may"`
}

// Listen holds the addresses to accept on, as host:port.
type Listen struct {
	HTTPS []string `yaml:"https" empty:"may"` // addresses that speak HTTPS
	HTTP  []string `yaml:"http" empty:"may"`  // redirects to https://; empty: off
	HTTP3 bool     `yaml:"http3"`             // also HTTP/3, by UDP on the ports of HTTPS

	AltSvc string `yaml:"alt_svc"` // auto | always | never: whether responses announce HTTP/3; auto: not where the local CA has signed, as browsers take HTTP/3 from public CAs alone

	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
}

// ProxyProtocol says who puts a PROXY header, of version 1 or 2, in front of each connection. Nobody else's is read.
type ProxyProtocol struct {
	From []Network `yaml:"from"` // networks; nobody else's header is read
}

// Docker finds sites in the labels of containers.
type Docker struct {
	Endpoint string   `yaml:"endpoint" mask:"url"`  // of the engine: unix:PATH or tcp://host:port; by default DOCKER_HOST, or unix:/var/run/docker.sock
	Network  string   `yaml:"network"`              // by which targets are reached; "": one that padlock is in, too
	Labels   []string `yaml:"labels"`               // name or name=value: containers without all of them are not looked at
	Domains  []string `yaml:"domains"`              // that containers' hosts are in, or below; none: any
	Override []string `yaml:"override" empty:"may"` // wildcards of the file's own sites, such as *.example.com, of which containers may take names
}

// Certificates says where certificates come from, besides the local CA.
type Certificates struct {
	Files      []CertificateFile `yaml:"files" empty:"may"`
	Email      string            `yaml:"email"`               // that a CA may write to; optional
	Issuers    []Issuer          `yaml:"issuers" empty:"may"` // CAs with ACME (RFC 8555), tried in order
	Client     string            `yaml:"client"`              // certmagic | autocert
	Staging    bool              `yaml:"staging"`             // known issuers' test CAs, which browsers do not trust
	Challenges []string          `yaml:"challenges"`          // http-01 | tls-alpn-01; not used where DNS is
	DNS        DNS               `yaml:"dns"`                 // dns-01, which wildcards need
	KeyTypes   []string          `yaml:"key_types"`           // p256 | p384 | rsa2048 | rsa4096; one certificate for each
	RenewRatio float64           `yaml:"renew_ratio"`         // of a certificate's lifetime that is left when it is renewed
	OnDemand   *OnDemand         `yaml:"on_demand"`           // nil: only the names of sites
}

// CertificateFile is a PEM pair, where Cert holds the leaf first and then its chain; a PKCS#12 file; or a directory of either.
// They are read again when they change.
type CertificateFile struct {
	Cert          string `yaml:"cert" path:"yes"`                    // PEM, the leaf first and then its chain
	Key           string `yaml:"key" path:"yes"`                     // "": the key stands in Cert
	PKCS12        string `yaml:"pkcs12" path:"yes"`                  // file with certificate, chain and key
	Password      string `yaml:"password" secret:"yes" path:"file:"` // of PKCS12, or file:PATH
	Directory     string `yaml:"directory" path:"yes"`               // whose PEM and PKCS#12 files are all read
	Intermediates string `yaml:"intermediates" path:"yes"`           // PEM file that completes the chain
}

// Issuer is a CA with ACME: a known one by its name, or any by its directory.
type Issuer struct {
	Name           string `yaml:"name"`                          // letsencrypt | letsencrypt-staging | zerossl | google
	Directory      string `yaml:"directory" mask:"url"`          // URL, instead of a name
	Root           string `yaml:"root" empty:"never" path:"yes"` // PEM bundle that the directory's own certificate is verified against
	EAB            EAB    `yaml:"eab"`                           // external account binding
	Profile        string `yaml:"profile"`                       // such as shortlived
	PreferredChain string `yaml:"preferred_chain"`               // common name of the root that the chain should lead to
}

// EAB binds the account to one that the CA knows already (RFC 8555 section 7.3.4).
type EAB struct {
	KID     string `yaml:"kid"`                   // the account's name at the CA
	HMACKey string `yaml:"hmac_key" secret:"yes"` // base64url
}

// DNS says where challenges of dns-01 are published. The provider's own settings are environment variables, as lego documents them.
type DNS struct {
	Provider  string        `yaml:"provider"`              // lego's name for it, such as cloudflare
	Resolvers []string      `yaml:"resolvers" empty:"may"` // host:port that are asked whether the record is there; "": the system's
	Timeout   time.Duration `yaml:"timeout"`               // for the record to be seen; 0: the provider's
}

// OnDemand orders certificates at a name's first handshake, for names that Ask or Allow agree to.
type OnDemand struct {
	Ask       string   `yaml:"ask" mask:"url"` // URL that is asked with ?domain=NAME, and agrees with a status of 2xx
	Allow     []string `yaml:"allow"`          // names and *.name, instead of asking
	PerSource int      `yaml:"per_source"`     // new names that one client address may bring in a minute, whether they are agreed to or not
	PerMinute int      `yaml:"per_minute"`     // names in a minute that are agreed to, and ordered, in total
	Cache     int      `yaml:"cache"`          // certificates kept in memory
}

// TLS is the policy of every listener.
type TLS struct {
	MinVersion string `yaml:"min_version"` // "1.2" or "1.3"
}

// Handshakes says which handshakes are told, how and where.
type Handshakes struct {
	Show   string `yaml:"show"`             // all | failures | off
	Format string `yaml:"format"`           // story | line | json
	Output string `yaml:"output" path:"or"` // stderr, stdout, or a file's path
	Sample int    `yaml:"sample"`           // of complete handshakes one in this many is told

	Rotate  Rotate           `yaml:"rotate"`
	Privacy HandshakePrivacy `yaml:"privacy"`

	Capture               string `yaml:"capture" path:"yes"`      // pcapng file; needs InsecureExportSecrets
	InsecureExportSecrets bool   `yaml:"insecure_export_secrets"` // handshake traffic secrets may be written out
}

// Rotate bounds what a log file takes on the disk.
type Rotate struct {
	MaxSize int `yaml:"max_size_mib"` // of one file, in MiB
	Keep    int `yaml:"keep"`         // older files
}

// HandshakePrivacy says how much of what identifies a person is kept.
type HandshakePrivacy struct {
	Addresses string `yaml:"addresses"` // full | truncated
	Names     string `yaml:"names"`     // full | hashed
}

// AccessLog says how requests are logged.
type AccessLog struct {
	Format  string   `yaml:"format"`           // json | combined | off
	Output  string   `yaml:"output" path:"or"` // stderr, stdout, or a file's path
	Rotate  Rotate   `yaml:"rotate"`
	Headers []string `yaml:"headers" empty:"may"` // fields of requests that are logged too, with json
	Redact  []string `yaml:"redact" empty:"may"`  // parameters of queries, and fields, whose values are not written
}

// Timeouts bound how long a peer may keep padlock waiting. Zero means the default, never unbounded.
type Timeouts struct {
	Handshake      time.Duration `yaml:"handshake"`       // 10s: TCP accept to TLS Finished
	Header         time.Duration `yaml:"header"`          // 10s: first byte of a request to the end of its head
	Idle           time.Duration `yaml:"idle"`            // 2m: between requests
	Stall          time.Duration `yaml:"stall"`           // 20s: no progress in a body, in either direction, with the client at fault
	Send           time.Duration `yaml:"send"`            // 10m: no progress in a response, for as many clients as limits.connections/10; others have stall
	Tunnel         time.Duration `yaml:"tunnel"`          // 1h: without a byte through a WebSocket
	Connect        time.Duration `yaml:"connect"`         // 5s: to a target
	ResponseHeader Patience      `yaml:"response_header"` // 1m: request sent to the target's response head; off: however long it takes
	Shutdown       time.Duration `yaml:"shutdown"`        // 30s: for open requests, and WebSockets' goodbyes, after SIGTERM
	Handover       time.Duration `yaml:"handover"`        // 10m: for connections after another padlock has taken over
}

// Limits bound what a peer may send. In a file they are above zero.
type Limits struct {
	Connections int  `yaml:"connections"`             // 20,000 open client connections
	PerAddress  int  `yaml:"connections_per_address"` // of one client's address, or IPv6 network of 64 bits; 0: any number
	Handshakes  int  `yaml:"handshakes"`              // 1,024 connections whose handshake has not ended, and as many of plain HTTP
	Head        int  `yaml:"head"`                    // 65,536 bytes of request head
	Fields      int  `yaml:"fields"`                  // 200 fields of a request
	BodyRate    int  `yaml:"body_rate"`               // 240 bytes a second that a request's content must bring on average, after timeouts.stall
	Streams     int  `yaml:"streams"`                 // 100 requests at once on a connection of HTTP/2 or HTTP/3
	Resets      int  `yaml:"resets"`                  // 1,000 streams of a connection in 10 s that its client resets, or has padlock reset
	Frames      int  `yaml:"frames"`                  // 10,000 frames of HTTP/2 in 10 s that nothing comes of
	Buffers     Size `yaml:"buffers"`                 // 256MiB of what routes buffer, of all clients at once; of one of them all of half of it, and an eighth of it beyond
}

// Site is a set of names with one policy.
type Site struct {
	Hosts  []string    `yaml:"hosts"` // canonical: lower case, no trailing dot; "*.example.com" and "*" (any name) allowed
	TLS    SiteTLS     `yaml:"tls"`
	WWW    string      `yaml:"www"`  // add | remove: each host is also served with or without www., and redirects there
	HSTS   HSTS        `yaml:"hsts"` // Strict-Transport-Security (RFC 6797)
	Access Access      `yaml:",inline"`
	Paths  string      `yaml:"paths"`       // strict | normalize | raw: paths that targets may read in another way than padlock are refused, forwarded in their normal form, or forwarded as they are; by default strict where anybody is kept out, else raw, but for what leads a target out of the paths that are routed to it
	NoCase bool        `yaml:"ignore_case"` // routes match paths in any case, for targets that do
	Fields HeaderRules `yaml:"headers"`     // before those of the route
	Routes []Route     `yaml:"routes" empty:"may"`
	Listen []string    `yaml:"listen"` // addresses of this site's own, instead of listen.https
	TCP    *TCP        `yaml:"tcp"`    // bytes are forwarded, whatever they mean; nil: HTTP
}

// PathMode is Paths, or what it is by default: strict where a rule keeps anybody out, so that nobody may go around it; agreed where a
// target gets some paths only, so that it gets no others; else raw.
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
		if all && len(r.Methods) == 0 {
			return true
		}
		limited = limited || !all
	}
	return !limited
}

// Passthrough reports whether TLS of this site is the target's affair.
func (s *Site) Passthrough() bool { return s.TCP != nil && s.TCP.Passthrough }

// TCP forwards what comes through TLS to any service.
type TCP struct {
	Upstream `yaml:",inline"`

	Idle          time.Duration `yaml:"idle"`           // 1h: without a byte either way
	Connections   int           `yaml:"connections"`    // open at once; 0: any number
	ProxyProtocol string        `yaml:"proxy_protocol"` // v1 | v2: tell the target of the client; "": no
	StartTLS      string        `yaml:"starttls"`       // postgres: also after an SSLRequest
	ALPN          []string      `yaml:"alpn"`           // protocols that clients may choose among; none: not negotiated
	Passthrough   bool          `yaml:"passthrough"`    // TLS is the target's affair; only the server name is read
}

// HSTS tells browsers to come by HTTPS only. A target's own field stands.
type HSTS struct {
	MaxAge            time.Duration `yaml:"max_age"`            // 0: off for local names, a year for others
	IncludeSubdomains bool          `yaml:"include_subdomains"` // for all names below too
	Preload           bool          `yaml:"preload"`            // browsers may know it beforehand
	Off               bool          `yaml:"off"`                // no field is sent
}

// Access says who may come.
type Access struct {
	Allow     []Network  `yaml:"allow"` // client addresses; none: all
	Deny      []Network  `yaml:"deny"`  // client addresses; stronger than allow
	BasicAuth *BasicAuth `yaml:"basic_auth"`
}

// rules reports whether anybody is kept out.
func (a *Access) rules() bool { return len(a.Allow)+len(a.Deny) > 0 || a.BasicAuth != nil }

// BasicAuth asks for a name and a password (RFC 7617).
type BasicAuth struct {
	Realm     string            `yaml:"realm"`                               // "padlock"
	Users     map[string]string `yaml:"users"`                               // name to bcrypt hash
	UsersFile string            `yaml:"users_file" empty:"never" path:"yes"` // lines of name:hash, as htpasswd -B writes them
}

// SiteTLS is the part of the TLS policy that a site decides.
type SiteTLS struct {
	ClientAuth *ClientAuth `yaml:"client_auth"`
	LegacyRSA  bool        `yaml:"legacy_rsa_key_exchange"` // TLS 1.2 without forward secrecy, for clients that know nothing better
}

// ClientAuth asks clients for a certificate.
type ClientAuth struct {
	Mode    string       `yaml:"mode"`                        // require | optional-verify (verified if given) | request (whatever is given is told, and not refused)
	CA      string       `yaml:"ca" empty:"never" path:"yes"` // PEM bundle of the accepted CAs
	CRL     []string     `yaml:"crl" path:"yes"`              // lists of revoked certificates, in PEM or DER, each signed by one of the CAs
	Allow   *ClientNames `yaml:"allow"`
	Forward bool         `yaml:"forward_certificate"` // also send Client-Cert (RFC 9440)
}

// ClientNames are what a verified certificate must have one of.
type ClientNames struct {
	Names         []string `yaml:"names"`         // subject alternative names: app.example.com, *.example.com (one label), email:a@example.com, uri:spiffe://example.com/app, ip:10.0.0.1
	Organizations []string `yaml:"organizations"` // of the subject
}

// Route is what happens to the requests that it matches: they are forwarded, redirected or answered. Of the routes of a site that match, an exact path goes before a prefix, a longer prefix before a shorter one, named
// methods before any, and then the first.
type Route struct {
	Path    string   `yaml:"path"`                // prefix that ends at a slash or the path's end: /api matches /api and /api/x; "" matches all
	Exact   string   `yaml:"exact" empty:"never"` // whole path, instead of path
	Methods []string `yaml:"methods"`             // none: all

	Upstream `yaml:",inline"`
	Redirect *Redirect `yaml:"redirect"`
	Respond  *Respond  `yaml:"respond"`

	StripPrefix   bool        `yaml:"strip_prefix"`   // take path off before forwarding
	ReplacePrefix string      `yaml:"replace_prefix"` // put this in the place of path
	RewriteURLs   bool        `yaml:"rewrite_urls"`   // the target's own scheme, host and prefix become the client's in Location, Content-Location, Refresh and Set-Cookie, and the client's the target's in Destination and If
	Host          string      `yaml:"host"`           // keep (the client's) | upstream (the target's) | a name
	Fields        HeaderRules `yaml:"headers"`
	Access        Access      `yaml:",inline"`
	BodyLimit     Size        `yaml:"body_limit"` // of a request's content; 0: none
	Buffer        Buffer      `yaml:"buffer"`

	Upgrades []string `yaml:"upgrades" empty:"may"` // protocols that clients may go over to from HTTP/1.1: websocket; also such as tcp, SPDY/3.1 or h2c, of which padlock reads nothing

	Forwarded bool `yaml:"forwarded"`        // also send Forwarded (RFC 7239)
	Handshake bool `yaml:"handshake_header"` // also send Padlock-Handshake: id, version, fingerprint and client certificate
}

// Buffer holds content back, so that slow clients do not keep targets waiting. What is larger is streamed on from there.
type Buffer struct {
	Request  Size `yaml:"request"`  // 0: a target gets the content as it comes
	Response Size `yaml:"response"` // 0: a client does
}

// Upstream is a set of targets, and how one is chosen and reached.
type Upstream struct {
	To        []Backend        `yaml:"to"`
	Balance   string           `yaml:"balance"` // round_robin | least_conn | random | hash
	HashBy    string           `yaml:"hash_by"` // address | cookie:NAME | header:NAME
	Sticky    string           `yaml:"sticky"`  // name of a cookie that keeps a client at its target
	Health    *Health          `yaml:"health"`
	Passive   Passive          `yaml:"passive"`
	Circuit   Circuit          `yaml:"circuit"`
	Retry     Retry            `yaml:"retry"`
	Timeouts  UpstreamTimeouts `yaml:"timeouts"`
	KeepAlive KeepAlive        `yaml:"keepalive"`
	Resolve   string           `yaml:"resolve"` // any: a target's name is one target | each: every address of it

	CA         string `yaml:"ca" empty:"never" path:"yes"` // PEM bundle that https targets are verified against
	ClientCert string `yaml:"client_cert" path:"yes"`      // PEM, for https targets that ask for one
	ClientKey  string `yaml:"client_key" path:"yes"`       // of client_cert
	ServerName string `yaml:"server_name"`                 // asked for and verified, instead of the target's host
	Insecure   bool   `yaml:"insecure_skip_verify"`        // https targets are not verified: whoever is in between can read along
}

// Backend is a target with its share.
type Backend struct {
	Target Target `yaml:"target"` // host:port, a URL, unix:PATH, or srv+http://NAME
	Weight int    `yaml:"weight"` // 1 to 1,000; 0: 1
}

// Health asks targets whether they are well.
type Health struct {
	Path      string        `yaml:"path"`       // that is asked for
	Host      string        `yaml:"host"`       // "": the target's
	Status    string        `yaml:"status"`     // 200-399; a status or a range of them
	Interval  time.Duration `yaml:"interval"`   // 10s
	Timeout   time.Duration `yaml:"timeout"`    // 2s
	Rise      int           `yaml:"rise"`       // 2 good answers in a row make it well
	Fall      int           `yaml:"fall"`       // 3 bad ones unwell
	SlowStart time.Duration `yaml:"slow_start"` // over which a target that is well again gets its whole share; 0: at once
}

// Passive leaves out a target that fails requests.
type Passive struct {
	Failures int           `yaml:"failures"` // 3 in a row
	Cooldown time.Duration `yaml:"cooldown"` // 10s without requests
	Off      bool          `yaml:"off"`      // failures leave nothing out
}

// Circuit bounds what a target is burdened with.
type Circuit struct {
	Requests int           `yaml:"requests"` // at once, for each target, of one client three quarters at most; 0: any number
	Pending  int           `yaml:"pending"`  // that may wait for one of the targets; 0: none
	Wait     time.Duration `yaml:"wait"`     // 5s at most
}

// Retry sends a request to another target, where the first has surely not acted on it.
type Retry struct {
	Attempts int     `yaml:"attempts"` // in all; 3, and never more than there are targets
	Budget   float64 `yaml:"budget"`   // retries as a part of requests; 0.2
}

// UpstreamTimeouts are those of one route; zero means the general ones.
type UpstreamTimeouts struct {
	Connect        time.Duration `yaml:"connect"`         // to a target
	ResponseHeader Patience      `yaml:"response_header"` // request sent to the response's head; off: however long it takes
}

// KeepAlive says how long connections to targets are kept for further requests.
type KeepAlive struct {
	Idle        time.Duration `yaml:"idle"`        // 90s without a request; a second less than what a target says itself (Keep-Alive: timeout), where that is shorter
	Connections int           `yaml:"connections"` // 256 that are idle, to each target; with h2c as many as there are
	Off         bool          `yaml:"off"`         // each request has a connection of its own, for targets that serve one at a time
}

// Redirect answers with another address. {host}, {path}, {query}, {uri} and the other variables of field values stand in it.
type Redirect struct {
	To     string `yaml:"to"`     // an address, with variables
	Status int    `yaml:"status"` // 308; or 301, 302, 303, 307
}

// Refuses reports whether nobody gets anything from a route, however it is reached.
func (r *Route) Refuses() bool {
	return r.Respond != nil && slices.Contains([]int{401, 403, 404, 410, 451}, r.Respond.Status)
}

// Respond answers without a target.
type Respond struct {
	Status      int    `yaml:"status"`       // 200
	Body        string `yaml:"body"`         // content, with no variables
	ContentType string `yaml:"content_type"` // text/plain; charset=utf-8
}

// HeaderRules change the fields of requests and responses.
type HeaderRules struct {
	Request  FieldRules    `yaml:"request"`
	Response ResponseRules `yaml:"response"`
}

// ResponseRules are rules for what a target answers.
type ResponseRules struct {
	Keep       []string `yaml:"keep"` // Alt-Svc of targets, which is dropped otherwise
	FieldRules `yaml:",inline"`
}

// FieldRules remove, then replace, then set, then add.
type FieldRules struct {
	Remove  []string     `yaml:"remove" empty:"may"` // names
	Replace Replacements `yaml:"replace"`            // parts of values: from, and what to put in its place; {host} and {scheme} stand in them
	Set     FieldValues  `yaml:"set"`                // in place of what is there
	Add     FieldValues  `yaml:"add"`                // beside what is there
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
