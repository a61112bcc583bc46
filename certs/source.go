// Package certs has a certificate for every name: from listed files, else from the local CA.
//
//	source, err := certs.New(certs.Options{Files: cfg.Certificates.Files, Local: ca, Log: log})
//	config.GetCertificate = source.GetCertificate
package certs

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"padlock/certs/localca"
	"padlock/config"
)

// Options of New. Local may be nil.
type Options struct {
	Files []config.CertificateFile
	Local *localca.CA
	Log   *slog.Logger
}

// Source chooses certificates. It is safe for use from many goroutines.
type Source struct {
	byName   map[string][]*tls.Certificate // names and wildcards; several key types each
	fallback *tls.Certificate              // of listed files, for clients that send no name
	local    *localca.CA
}

// New reads the files. An expired certificate or a key that others can read is warned about; what cannot be used is an error.
func New(o Options) (*Source, error) {
	s := &Source{byName: map[string][]*tls.Certificate{}, local: o.Local}
	for _, f := range o.Files {
		pair, err := load(f, o.Log)
		if err != nil {
			return nil, err
		}
		if s.fallback == nil {
			s.fallback = pair
		}
		names := pair.Leaf.DNSNames
		for _, ip := range pair.Leaf.IPAddresses {
			names = append(names, ip.String())
		}
		for _, name := range names {
			name = strings.ToLower(name)
			s.byName[name] = append(s.byName[name], pair)
		}
	}
	return s, nil
}

func load(f config.CertificateFile, log *slog.Logger) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("loading certificate %q with key %q: %w", f.Cert, f.Key, err)
	}
	if info, err := os.Stat(f.Key); err == nil && info.Mode().Perm()&0o044 != 0 {
		log.Warn("private key can be read by others", "file", f.Key, "mode", info.Mode().Perm().String(), "remedy", "chmod 600")
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		log.Warn("certificate has expired", "file", f.Cert, "not_after", pair.Leaf.NotAfter)
	}
	if len(pair.Leaf.DNSNames)+len(pair.Leaf.IPAddresses) == 0 {
		log.Warn("certificate names no host; browsers will refuse it", "file", f.Cert)
	}
	return &pair, nil
}

// GetCertificate is for tls.Config. (nil, nil) refuses the name, which crypto/tls tells the client as unrecognized_name.
func (s *Source) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" {
		return s.unnamed(hello)
	}
	name, ok := config.CanonicalHost(hello.ServerName)
	if !ok {
		return nil, nil
	}
	if pair := s.listed(name, hello); pair != nil {
		return pair, nil
	}
	if s.local != nil && s.local.Permits(name) {
		return s.local.Leaf(name)
	}
	return nil, nil
}

// Covers reports whether there is, or can be made, a certificate for a canonical name, address or *.name.
func (s *Source) Covers(pattern string) bool {
	if len(s.named(pattern)) > 0 {
		return true
	}
	return s.local != nil && s.local.Permits(pattern)
}

// named is what the files hold for a name: under the name itself, else under the wildcard above it.
func (s *Source) named(name string) []*tls.Certificate {
	pairs := s.byName[name]
	if _, parent, ok := strings.Cut(name, "."); ok && len(pairs) == 0 {
		pairs = s.byName["*."+parent]
	}
	return pairs
}

// listed prefers the exact name to a wildcard, and a key type that the client can use to one that it cannot.
func (s *Source) listed(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	pairs := s.named(name)
	for _, pair := range pairs {
		if hello.SupportsCertificate(pair) == nil {
			return pair
		}
	}
	if len(pairs) > 0 {
		return pairs[0]
	}
	return nil
}

// unnamed serves clients that connect to an address, for which TLS has no server name (RFC 6066 section 3).
func (s *Source) unnamed(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
	if err == nil {
		if address, ok := config.CanonicalHost(host); ok {
			if pairs := s.byName[address]; len(pairs) > 0 {
				return pairs[0], nil
			}
			if s.fallback == nil && s.local != nil && s.local.Permits(address) {
				return s.local.Leaf(address)
			}
		}
	}
	return s.fallback, nil
}
