package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"padlock/certs"
	"padlock/config"
	"padlock/handshake"
	"padlock/internal/netname"
	"padlock/internal/text"
)

// knowledge is what the recorder's diagnosis needs to know beyond the wire.
func (c *certificateService) knowledge() handshake.Knowledge {
	return handshake.Knowledge{
		Origin: func(pair *tls.Certificate) handshake.Origin { return c.current.Load().origin(pair) },
		Root:   func() *x509.Certificate { return c.current.Load().local.Root() },
		Unserved: func(name, local string) (why, remedy string) {
			return c.current.Load().unserved(name, local)
		},
	}
}

func (s *snapshot) origin(pair *tls.Certificate) handshake.Origin {
	place := s.source.Find(pair)
	o := handshake.Origin{
		Kind: place.Kind, File: place.File, Rooted: place.Rooted, Test: place.Kind == certs.FromCA && s.cfg.Certificates.Staging,
	}
	if place.Kind == certs.FromFile {
		o.Key = fmt.Sprintf("certificates.files[%d]", place.Index)
	}
	return o
}

// unserved says why a name gets no certificate on a listener.
func (s *snapshot) unserved(name, local string) (why, remedy string) {
	canonical, ok := config.CanonicalHost(name)
	if !ok {
		return "", ""
	}

	_, port, _ := net.SplitHostPort(local)
	elsewhere := ""
	for _, site := range s.cfg.Sites {
		host, covers := covering(&site, canonical)
		if !covers {
			continue
		}

		// Another site may serve the name on this port, so that the search goes on.
		if ports := s.ports(&site, port); !slices.Contains(ports, port) {
			elsewhere = ports[0]
			continue
		}

		return s.uncovered(host, canonical)
	}

	if elsewhere != "" {
		return "its site is served on port " + elsewhere + " only", "use port " + elsewhere + " in the client, or add this port to the site's listen"
	}

	return s.unknown(canonical)
}

// covering is the host of a site that covers a canonical name.
func covering(site *config.Site, name string) (host string, ok bool) {
	for _, host := range site.Hosts {
		if host == "*" || netname.Match(host, name) {
			return host, true
		}
	}
	return "", false
}

// ports are those that a site is served on. Of the general ones, which may have been chosen by the system or opened by
// somebody else, it is only known that none is a port that other sites have to themselves.
func (s *snapshot) ports(site *config.Site, port string) []string {
	if ports := portsOf(site.Listen); len(ports) > 0 {
		return ports
	}
	general := portsOf(s.cfg.Listen.HTTPS)
	own := slices.ContainsFunc(s.cfg.Sites, func(other config.Site) bool { return slices.Contains(portsOf(other.Listen), port) })
	if own && len(general) > 0 && !slices.Contains(general, "0") {
		return general
	}
	return []string{port}
}

func portsOf(addresses []string) (ports []string) {
	for _, address := range addresses {
		if _, port, err := net.SplitHostPort(address); err == nil {
			ports = append(ports, port)
		}
	}
	return ports
}

// uncovered says why a name that has a site has no certificate.
func (s *snapshot) uncovered(host, name string) (why, remedy string) {
	pending, ok := s.source.Pending(name)
	if !ok {
		if host == "*" {
			return "the site for all other names has no certificate for it", "list the name in sites[].hosts, add a certificate for it, or let the local CA sign for it: padlock trust --allow " + name
		}
		return "its site has no certificate that the client can be shown", "add a certificate for it: certificates.files; padlock check and padlock certs list say more"
	}

	why = "it has a site, but no certificate yet"
	if pending.Cause != "" {
		why += ": " + handshake.Escape(pending.Cause)
	}
	if pending.Tries > 0 {
		why += fmt.Sprintf(", after %d tries", pending.Tries)
	}

	switch {
	case pending.Next.IsZero():
		why += ", another is under way"
	case !pending.Next.IsZero():
		why += ", next at " + pending.Next.UTC().Format(time.TimeOnly) + " UTC"
	}

	remedy = handshake.Escape(pending.Remedy)
	if remedy == "" {
		remedy = "wait for the CA's answer; padlock certs list shows how far it is"
	}

	return why, remedy
}

// unknown says which name was probably meant, and which there are.
func (s *snapshot) unknown(name string) (why, remedy string) {
	var hosts []string
	for _, site := range s.cfg.Sites {
		hosts = append(hosts, site.Hosts...)
	}

	if len(hosts) == 0 {
		return "", ""
	}

	const add = "if the name is right, add it to a site: sites[].hosts"
	why = "padlock serves " + handshake.Escape(text.Summary(hosts))
	for _, host := range hosts {
		suffix, wildcard := strings.CutPrefix(host, "*.")
		// A wildcard covers one label only (RFC 9525 section 6.3).
		if wildcard && strings.HasSuffix(name, "."+suffix) {
			return why + "; " + host + " stands for one label only", "use a name with one label before " + suffix + ", or add this one to a site: sites[].hosts"
		}
	}

	for _, host := range hosts {
		if similar(name, host) {
			return why, "use " + host + " if that was meant; " + add
		}
	}

	return why, add
}

// similar reports whether one name is probably the other, mistyped, or with or without a first label.
func similar(a, b string) bool {
	return strings.HasSuffix(a, "."+b) || strings.HasSuffix(b, "."+a) || config.Near(a, b) && len(a) > 4
}
