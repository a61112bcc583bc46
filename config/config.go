// Package config turns padlock's file, flags and environment into one validated Config.
//
//	cfg, err := config.Load("padlock.yaml")   // every error at once, each with file:line:column
//
// It reads no network and changes nothing. The quick commands build the same Config, so there is one way through the program.
package config

import (
	"path/filepath"
	"strings"
	"time"
)

// Config is everything that padlock does. A Config that Validate has accepted is never changed afterwards;
// it may be read from any goroutine.
type Config struct {
	Listen       Listen       `yaml:"listen"`
	Admin        string       `yaml:"admin"`        // "off", a loopback host:port, unix:PATH, or "" for a socket in the storage directory
	Storage      string       `yaml:"storage"`      // directory that holds the local CA
	Organization string       `yaml:"organization"` // subject organization of the local CA and its leaves
	Certificates Certificates `yaml:"certificates"`
	TLS          TLS          `yaml:"tls"`
	Handshakes   Handshakes   `yaml:"handshakes"`
	AccessLog    AccessLog    `yaml:"access_log"`
	Timeouts     Timeouts     `yaml:"timeouts"`
	Limits       Limits       `yaml:"limits"`
	ErrorDetails bool         `yaml:"error_details"` // error pages name the target and what went wrong; for development
	Sites        []Site       `yaml:"sites"`
}

// Listen holds the addresses to accept on, as host:port.
type Listen struct {
	HTTPS []string `yaml:"https"`
	HTTP  []string `yaml:"http"` // redirects to https://; empty: off
}

// Certificates says where certificates come from, besides the local CA.
type Certificates struct {
	Files []CertificateFile `yaml:"files"`
}

// CertificateFile is one PEM pair; Cert holds the leaf first, then its chain.
type CertificateFile struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// TLS is the policy of every listener.
type TLS struct {
	MinVersion string `yaml:"min_version"` // "1.2" or "1.3"
}

// Handshakes says which handshakes are told, how and where.
type Handshakes struct {
	Show   string `yaml:"show"`   // all | failures | off
	Format string `yaml:"format"` // story | line | json
	Output string `yaml:"output"` // stderr, stdout, or a file's path
	Sample int    `yaml:"sample"` // of complete handshakes one in this many is told

	Rotate  Rotate           `yaml:"rotate"`
	Privacy HandshakePrivacy `yaml:"privacy"`

	Capture               string `yaml:"capture"`                 // pcapng file; needs InsecureExportSecrets
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
	Format string `yaml:"format"` // json | off
	Output string `yaml:"output"` // stderr, stdout, or a file's path
	Rotate Rotate `yaml:"rotate"`
}

// Timeouts bound how long a peer may keep padlock waiting. Zero means the default, never unbounded.
type Timeouts struct {
	Handshake      time.Duration `yaml:"handshake"`       // 10s: TCP accept to TLS Finished
	Header         time.Duration `yaml:"header"`          // 10s: first byte of a request to the end of its head
	Idle           time.Duration `yaml:"idle"`            // 2m: between requests
	Stall          time.Duration `yaml:"stall"`           // 20s: no progress in a body, in either direction, with the client at fault
	Connect        time.Duration `yaml:"connect"`         // 5s: to a target
	ResponseHeader time.Duration `yaml:"response_header"` // 1m: request sent to the target's response head
	Shutdown       time.Duration `yaml:"shutdown"`        // 30s: for open requests after SIGTERM
}

// Limits bound what a peer may send. In a file they are above zero.
type Limits struct {
	Connections int `yaml:"connections"` // 20,000 open client connections
	Head        int `yaml:"head"`        // 65,536 bytes of request head
	Fields      int `yaml:"fields"`      // 200 fields of a request
	BodyRate    int `yaml:"body_rate"`   // 240 bytes a second that a request's content must bring on average, after timeouts.stall
}

// Site is a set of names with one policy.
type Site struct {
	Hosts  []string `yaml:"hosts"` // canonical: lower case, no trailing dot; "*.example.com" and "*" (any name) allowed
	TLS    SiteTLS  `yaml:"tls"`
	Routes []Route  `yaml:"routes"`
}

// SiteTLS is the part of the TLS policy that a site decides.
type SiteTLS struct {
	ClientAuth *ClientAuth `yaml:"client_auth"`
	LegacyRSA  bool        `yaml:"legacy_rsa_key_exchange"` // TLS 1.2 without forward secrecy, for clients that know nothing better
}

// ClientAuth asks clients for a certificate.
type ClientAuth struct {
	Mode string `yaml:"mode"` // require | request (verified if given)
	CA   string `yaml:"ca"`   // PEM bundle of the accepted CAs
}

// Route forwards requests to a target. Without targets it serves the built-in page.
type Route struct {
	To        []Target `yaml:"to"`
	Forwarded bool     `yaml:"forwarded"`        // also send Forwarded (RFC 7239)
	Handshake bool     `yaml:"handshake_header"` // also send Padlock-Handshake: id, version, fingerprint and client certificate
	Insecure  bool     `yaml:"insecure_skip_verify"`
	CA        string   `yaml:"ca"` // PEM bundle that https targets are verified against
}

// Target is a backend: where to connect and how to speak.
type Target struct {
	Scheme  string // http | https | h2c: HTTP/2 without TLS, for gRPC
	Network string // tcp | unix
	Address string // host:port, or the socket's path
}

// AdminAddress is where the admin endpoint listens, as network and address; "" for the network when it is off.
func (c *Config) AdminAddress() (network, address string) {
	switch path, socket := strings.CutPrefix(c.Admin, "unix:"); {
	case c.Admin == "off":
		return "", ""
	case c.Admin == "":
		return "unix", filepath.Join(c.Storage, "admin.sock")
	case socket:
		return "unix", path
	}
	return "tcp", c.Admin
}
