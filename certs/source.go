// Package certs has a certificate for every name: from listed files, else from a CA by ACME, else from the local CA.
//
//	source := certs.New(certs.Options{Files: files, Manager: manager, Local: ca})
//	config.GetCertificate = source.GetCertificate
package certs

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"padlock/certs/localca"
	"padlock/config"
)

// Options of New. Each may be nil.
type Options struct {
	Files   *Files
	Manager *Manager
	Local   *localca.CA
	Serves  func(name string) bool // whether a site has a canonical name; nil: any. Others get no certificate on demand
	// Whether a canonical name or address stands among a site's hosts, by itself; nil: none does.
	Names func(host string) bool
}

// Source chooses certificates. It is safe for use from many goroutines.
type Source struct{ o Options }

// New makes a source.
func New(o Options) *Source {
	if o.Files == nil {
		o.Files = &Files{}
		o.Files.publish()
	}
	return &Source{o}
}

var errNothingLeft = errors.New("no certificate with its key is left")

// GetCertificate is for tls.Config. (nil, nil) refuses the name, which crypto/tls tells the client as
// unrecognized_name.
func (s *Source) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" {
		return s.unnamed(hello)
	}

	name, ok := config.CanonicalHost(hello.ServerName)
	if !ok {
		return nil, nil
	}

	listed := s.o.Files.index.Load().named(name).choose(hello)
	if listed != nil {
		if s.o.Manager != nil && !validAt(listed.Leaf, time.Now()) {
			if pair := s.o.Manager.valid(hello, name); pair != nil {
				return pair, nil
			}
		}
		return listed, nil
	}

	if s.o.Manager != nil && (s.o.Serves == nil || s.o.Serves(name)) {
		if pair := s.o.Manager.certificate(hello, name); pair != nil {
			return pair, nil
		}
	}

	if s.o.Local != nil && s.o.Local.Permits(name) {
		return s.o.Local.Leaf(name)
	}

	return nil, nil
}

// Private reports whether a client that asks for a name, or for none and comes to an address, is shown a certificate
// of the local CA, which is nothing to a client that accepts public CAs alone.
func (s *Source) Private(name string, to net.Addr) bool {
	if s.o.Local == nil {
		return false
	}
	canonical, ok := config.CanonicalHost(name)
	if name == "" {
		host, _, _ := net.SplitHostPort(to.String())
		if canonical, ok = config.CanonicalHost(host); !s.names(canonical) && !s.o.Files.index.Load().fallback.none() {
			return false
		}
	}
	managed := s.o.Manager != nil && s.o.Manager.Manages(canonical)
	return ok && !managed && !s.Listed(canonical) && s.o.Local.Permits(canonical)
}

// Forget has the local CA make what it shows to such a client anew.
func (s *Source) Forget(hello *tls.ClientHelloInfo) {
	name, ok := config.CanonicalHost(hello.ServerName)
	if !ok && hello.ServerName == "" {
		name = localAddress(hello)
	}
	if s.o.Local != nil {
		s.o.Local.Forget(name)
	}
}

// localAddress is that which a client came to, "" where it is none.
func localAddress(hello *tls.ClientHelloInfo) string {
	host, _, _ := net.SplitHostPort(hello.Conn.LocalAddr().String())
	address, _ := config.CanonicalHost(host)
	return address
}

// Status lists what is known of every certificate: those of CAs, those of files, and the local CA's root.
func (s *Source) Status() (all []Status) {
	if s.o.Manager != nil {
		all = s.o.Manager.Status()
	}
	all = append(all, s.o.Files.Status()...)
	if s.o.Local != nil {
		all = append(all, LocalStatus(s.o.Local)...)
	}
	return all
}

// Unusable are files that cannot be used as they are now.
func (s *Source) Unusable() []Unusable { return s.o.Files.Unusable() }

// Covers reports whether there is, or can be made, a certificate for a canonical name, address or *.name.
func (s *Source) Covers(pattern string) bool {
	return s.Listed(pattern) || s.o.Manager != nil && s.o.Manager.Manages(pattern) || s.o.Local != nil && s.o.Local.Permits(pattern)
}

// Listed reports whether a file has a certificate for a canonical name, address or *.name.
func (s *Source) Listed(pattern string) bool { return !s.o.Files.index.Load().named(pattern).none() }

// names reports whether a site has an address among its hosts.
func (s *Source) names(address string) bool { return s.o.Names != nil && s.o.Names(address) }

// unnamed serves clients that connect to an address, for which TLS has no server name (RFC 6066 section 3): with a
// certificate for the address where there is one or a site names it, else with that of the first file.
func (s *Source) unnamed(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	files := s.o.Files.index.Load()
	if address := localAddress(hello); address != "" {
		if pair := files.named(address).choose(hello); pair != nil {
			return pair, nil
		}

		if s.o.Manager != nil && s.o.Manager.Manages(address) {
			if pair := s.o.Manager.certificate(hello, address); pair != nil {
				return pair, nil
			}
		}

		if (files.fallback.none() || s.names(address)) && s.o.Local != nil && s.o.Local.Permits(address) {
			return s.o.Local.Leaf(address)
		}
	}
	return files.fallback.choose(hello), nil
}
