package acme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"padlock/config"
	"padlock/handshake"
	"padlock/internal/dnsquery"
)

// Preflight checks beforehand what a CA will check. Its result may be wrong behind NAT or a load balancer, so it
// stops nothing. It is safe for use from many goroutines.
type Preflight struct {
	certificates config.Certificates
	http, https  string
	resolvers    []string // host:port
}

// NewPreflight is for a padlock that listens on these addresses, as host:port; an empty one means nothing does.
func NewPreflight(c config.Certificates, http, https string) *Preflight {
	a := &Preflight{certificates: c, http: http, https: https, resolvers: c.DNS.Resolvers}
	if len(a.resolvers) == 0 {
		if system, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil {
			for _, server := range system.Servers {
				a.resolvers = append(a.resolvers, net.JoinHostPort(server, system.Port))
			}
		}
	}
	return a
}

const (
	adviceTimeout = 5 * time.Second
	dialTimeout   = 2 * time.Second
)

// Check says what would keep a CA from validating a canonical name; nothing when nothing is amiss.
func (a *Preflight) Check(ctx context.Context, name string) (advice []string) {
	ctx, cancel := context.WithTimeout(ctx, adviceTimeout)
	defer cancel()
	address := net.ParseIP(name) != nil
	if !address {
		if text := a.caa(ctx, name); text != "" {
			advice = append(advice, text)
		}
	}

	if a.certificates.DNS.Provider != "" || strings.HasPrefix(name, "*.") {
		// With dns-01, nothing needs to lead to this machine.
		return advice
	}

	addresses := []string{name}
	if !address {
		var err error
		if addresses, err = a.lookup(ctx, name); err != nil {
			return append(advice, "the address records of "+name+" cannot be looked up: "+handshake.Escape(err.Error()))
		}
		if len(addresses) == 0 {
			return append(advice, "add an A or AAAA record for "+name+" that leads to this machine: there is none")
		}
	}

	return append(advice, a.ports(ctx, name, addresses)...)
}

// publicIssuer reports whether a CA of the internet is asked, which knows ports 80 and 443 and public addresses only.
func (a *Preflight) publicIssuer() bool {
	return slices.ContainsFunc(a.certificates.Issuers, func(i config.Issuer) bool { return i.Directory == "" })
}

func (a *Preflight) ports(ctx context.Context, name string, addresses []string) (advice []string) {
	// Public CAs refuse to validate at private addresses, whatever is forwarded.
	if a.publicIssuer() && !slices.ContainsFunc(addresses, func(addr string) bool { return !config.IsLocal(addr) }) {
		return []string{fmt.Sprintf("%s leads to %s, where no public CA can come: use dns-01 (certificates.dns)", name, strings.Join(addresses, ", "))}
	}

	var reached bool
	for _, c := range []struct{ challenge, listen, port string }{{"http-01", a.http, "80"}, {"tls-alpn-01", a.https, "443"}} {
		if !slices.Contains(a.certificates.Challenges, c.challenge) || c.listen == "" {
			continue
		}

		_, port, err := net.SplitHostPort(c.listen)
		if err != nil {
			continue
		}

		// Public CAs know the standard ports only. A private CA may be set to another one.
		if a.publicIssuer() {
			if port != c.port {
				advice = append(advice, fmt.Sprintf("the CA comes to port %s for %s, and padlock listens on %s: forward the one to the other", c.port, c.challenge, port))
			}
			port = c.port
		}

		text := knock(ctx, addresses, port)
		if text == "" {
			reached = true
		} else {
			advice = append(advice, text)
		}
	}

	if reached {
		// One challenge that can be answered is enough.
		return nil
	}
	return advice
}

// knock connects to the first address, which is what a CA does.
func knock(ctx context.Context, addresses []string, port string) string {
	dialer := net.Dialer{Timeout: dialTimeout}
	at := net.JoinHostPort(addresses[0], port)
	conn, err := dialer.DialContext(ctx, "tcp", at)
	if err == nil {
		conn.Close()
		return ""
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Sprintf("%s refuses connections: nothing listens there, or a firewall is in the way", at)
	}
	return fmt.Sprintf("%s does not answer from here; if it does not from elsewhere either, open the port (some networks only lead out)", at)
}

// identities are what CAA records call the known issuers (RFC 8659 section 4.2).
var identities = map[string]string{"letsencrypt": "letsencrypt.org", "letsencrypt-staging": "letsencrypt.org", "zerossl": "sectigo.com", "google": "pki.goog"}

// caa finds records that allow other CAs only: those of the name, else of the nearest domain above it that has some
// (RFC 8659 section 3).
func (a *Preflight) caa(ctx context.Context, name string) string {
	var allowed []string
	for _, issuer := range a.certificates.Issuers {
		identity, known := identities[issuer.Name]
		if !known {
			// What a private CA calls itself in CAA records is not known here.
			return ""
		}
		allowed = append(allowed, identity)
	}

	wildcard := strings.HasPrefix(name, "*.")
	for domain := strings.TrimPrefix(name, "*."); strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
		answers, err := dnsquery.Ask(ctx, a.resolvers, domain, dns.TypeCAA)
		if err != nil {
			// If the name has a problem, the address records will show it.
			return ""
		}
		issue, wild := records(answers)
		if wildcard && len(wild) > 0 {
			issue = wild
		}
		if len(issue) == 0 {
			continue
		}

		if slices.ContainsFunc(issue, func(v string) bool { return slices.Contains(allowed, v) }) {
			return ""
		}

		return fmt.Sprintf("the CAA records of %s allow %s only: add one for %s, or choose another CA (certificates.issuers)",
			handshake.Escape(domain), handshake.Escape(strings.Join(issue, ", ")), strings.Join(allowed, " or "))
	}

	return ""
}

// records are the CAs that may issue, and those that may issue wildcards; "" as a value means that none may.
func records(answers []dns.RR) (issue, wild []string) {
	for _, rr := range answers {
		caa, ok := rr.(*dns.CAA)
		if !ok {
			continue
		}
		value, _, _ := strings.Cut(caa.Value, ";")
		value = strings.ToLower(strings.TrimSpace(value))
		if value == "" {
			value = "no CA"
		}

		switch strings.ToLower(caa.Tag) {
		case "issue":
			issue = append(issue, value)
		case "issuewild":
			wild = append(wild, value)
		}
	}
	return issue, wild
}

// lookup finds addresses in the DNS alone: a CA does not know this machine's hosts file.
func (a *Preflight) lookup(ctx context.Context, name string) (addresses []string, err error) {
	// CAs prefer IPv6 where a name has both.
	for _, kind := range []uint16{dns.TypeAAAA, dns.TypeA} {
		answers, err := dnsquery.Ask(ctx, a.resolvers, name, kind)
		if err != nil {
			return nil, err
		}

		for _, rr := range answers {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}

			if addr, ok := netip.AddrFromSlice(ip); ok {
				addresses = append(addresses, addr.Unmap().String())
			}
		}
	}
	return addresses, nil
}
