package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"padlock/internal/mask"
)

// directories of the known issuers, and of their test CAs.
var directories = map[string]struct{ production, staging string }{
	"letsencrypt":         {"https://acme-v02.api.letsencrypt.org/directory", "https://acme-staging-v02.api.letsencrypt.org/directory"},
	"letsencrypt-staging": {"https://acme-staging-v02.api.letsencrypt.org/directory", "https://acme-staging-v02.api.letsencrypt.org/directory"},
	"zerossl":             {"https://acme.zerossl.com/v2/DV90", ""},
	"google":              {"https://dv.acme-v02.api.pki.goog/directory", "https://dv.acme-v02.test-api.pki.goog/directory"},
}

// KeyTypes are those of certificates; p256 is the default.
var KeyTypes = []string{"p256", "p384", "rsa2048", "rsa4096"}

// DNSProviders are the providers of dns-01 that are built in, by lego's names for them.
var DNSProviders = []string{
	"acmedns", "azuredns", "cloudflare", "desec", "digitalocean", "dnsupdate", "duckdns", "exec", "gandiv5", "gcloud",
	"hetzner", "httpreq", "manual", "namecheap", "ovh", "porkbun", "route53",
}

// UnmarshalText takes a known issuer's name, or the URL of a directory.
func (i *Issuer) UnmarshalText(text []byte) error {
	if name := string(text); strings.Contains(name, "://") {
		i.Directory = name
	} else {
		i.Name = name
	}
	return nil
}

// URL is the issuer's directory; with staging that of its test CA.
func (i *Issuer) URL(staging bool) string {
	switch known := directories[i.Name]; {
	// A directory of one's own has no known test CA, so staging changes nothing.
	case i.Directory != "":
		return i.Directory
	case staging:
		return known.staging
	default:
		return known.production
	}
}

// String is the name that logs use.
func (i *Issuer) String() string {
	if i.Name != "" {
		return i.Name
	}
	if u, err := url.Parse(i.Directory); err == nil {
		return u.Host
	}
	return i.Directory
}

// Managed reports whether a site's host, in canonical form, gets its certificate from an ACME CA unless a file has
// one. Local names do not, as no public CA knows them; with an issuer of one's own they do, but for this machine's
// own names.
func (c *Certificates) Managed(host string) bool {
	switch {
	case host == "*":
		return false
	case !IsLocal(host):
		return true
	case IsLoopback(host):
		return false
	}
	return c.ownIssuer()
}

// ownIssuer reports whether some issuer is named by its directory: a CA of one's own may sign for any name.
func (c *Certificates) ownIssuer() bool {
	return slices.ContainsFunc(c.Issuers, func(i Issuer) bool { return i.Directory != "" })
}

func (v *validator) certificates(c *Config) {
	for i, f := range c.Certificates.Files {
		v.certificateFile(fmt.Sprintf("certificates.files[%d]", i), f)
	}

	if len(c.Certificates.Issuers) == 0 {
		c.Certificates.Issuers = []Issuer{{Name: "letsencrypt"}}
	}

	for i := range c.Certificates.Issuers {
		v.issuer(fmt.Sprintf("certificates.issuers[%d]", i), &c.Certificates.Issuers[i], c.Certificates.Staging)
	}

	v.oneOf("certificates.client", c.Certificates.Client, "certmagic", "autocert")
	if len(c.Certificates.Challenges) == 0 {
		v.fail("certificates.challenges", "at least one of http-01 and tls-alpn-01 is needed")
	}

	for i, challenge := range c.Certificates.Challenges {
		v.oneOf(fmt.Sprintf("certificates.challenges[%d]", i), challenge, "http-01", "tls-alpn-01")
	}

	if provider := c.Certificates.DNS.Provider; provider != "" {
		v.oneOf("certificates.dns.provider", provider, DNSProviders...)
	}

	for i, resolver := range c.Certificates.DNS.Resolvers {
		v.address(fmt.Sprintf("certificates.dns.resolvers[%d]", i), resolver)
	}

	if len(c.Certificates.KeyTypes) == 0 {
		v.fail("certificates.key_types", "at least one is needed")
	}

	for i, kind := range c.Certificates.KeyTypes {
		v.oneOf(fmt.Sprintf("certificates.key_types[%d]", i), kind, KeyTypes...)
	}

	if r := c.Certificates.RenewRatio; r < 0.02 || r > 0.9 {
		v.fail("certificates.renew_ratio", "%v must be a part of the lifetime between 0.02 and 0.9", r)
	}

	if o := c.Certificates.OnDemand; o != nil {
		v.onDemand("certificates.on_demand", o)
	}
	if e := c.Certificates.Email; e != "" && !validEmail(e) {
		v.fail("certificates.email", "%q is not an address such as ops@example.com", e)
	}
}

// validEmail reports whether a text is one address, and no more.
func validEmail(text string) bool {
	return strings.Count(text, "@") == 1 && !strings.ContainsAny(text, " ,<>\r\n") && !strings.HasPrefix(text, "mailto:")
}

func (v *validator) certificateFile(path string, f CertificateFile) {
	given := 0
	for _, name := range []string{f.Cert, f.PKCS12, f.Directory} {
		if name != "" {
			given++
		}
	}

	switch {
	case given != 1:
		v.fail(path, "needs one of cert (with key), pkcs12 and directory")
	case f.Cert != "":
		v.file(path+".cert", f.Cert)
		if f.Key != "" {
			v.file(path+".key", f.Key)
		}
	case f.Key != "":
		v.fail(path+".key", "goes with cert only")
	case f.PKCS12 != "":
		v.file(path+".pkcs12", f.PKCS12)
	default:
		v.directory(path+".directory", f.Directory, "name one, or the file with cert")
	}

	if f.Password != "" && f.PKCS12 == "" {
		v.fail(path+".password", "goes with pkcs12 only")
	}
	if f.Intermediates != "" {
		v.bundle(path+".intermediates", f.Intermediates)
	}
}

func (v *validator) issuer(path string, i *Issuer, staging bool) {
	switch _, known := directories[i.Name]; {
	case i.Name != "" && i.Directory != "":
		v.fail(path, "takes a name or a directory, not both")
	case i.Name == "" && i.Directory == "":
		v.fail(path, "needs a name (letsencrypt, zerossl, google) or the URL of a directory")
	case i.Name != "" && !known:
		v.oneOf(path, i.Name, "letsencrypt", "letsencrypt-staging", "zerossl", "google")
	case i.URL(staging) == "":
		v.fail(path, "%s has no test CA: leave it out with staging", i.Name)
	case (i.Name == "zerossl" || i.Name == "google") && i.EAB.KID == "":
		v.fail(path+".eab", "%s only takes accounts with an external account binding: {name: %s, eab: {kid: …, hmac_key: …}}, which its web site gives out", i.Name, i.Name)
	case i.Directory != "":
		v.caDirectory(path+".directory", i.Directory)
	}

	if i.Root != "" {
		v.bundle(path+".root", i.Root)
	}

	if (i.EAB.KID == "") != (i.EAB.HMACKey == "") {
		v.fail(path+".eab", "kid and hmac_key go together")
	} else if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(i.EAB.HMACKey, "=")); err != nil {
		// The message does not repeat the value, which is a secret.
		v.fail(path+".eab.hmac_key", "is not base64url")
	}
}

// caDirectory is the URL of a CA: only on this machine is plain HTTP enough.
func (v *validator) caDirectory(path, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !IsLoopback(u.Hostname())) {
		v.fail(path, "%q is not an https:// URL", mask.URL(text))
	} else if u.User != nil {
		v.fail(path, "takes no user name or password")
	}
}

func (v *validator) onDemand(path string, o *OnDemand) {
	if o.Ask == "" && len(o.Allow) == 0 {
		v.fail(path, "needs ask (a URL) or allow (names): without one, anybody could order certificates for invented names")
	}

	if o.Ask != "" {
		if u, err := url.Parse(o.Ask); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			v.fail(path+".ask", "is not an http:// or https:// URL")
		}
	}

	for i, pattern := range o.Allow {
		name, ok := CanonicalPattern(pattern)
		if !ok || name == "*" {
			v.fail(fmt.Sprintf("%s.allow[%d]", path, i), "%q is not a host name or *.name", pattern)
		}
		o.Allow[i] = name
	}

	for _, n := range []struct {
		value    *int
		standard int
	}{{&o.PerSource, 10}, {&o.PerMinute, 60}, {&o.Cache, 10_000}} {
		if *n.value == 0 {
			*n.value = n.standard
		}
	}
}

// managedNames finds names that the chosen way cannot get a certificate for.
func (v *validator) managedNames(c *Config) {
	certificates := &c.Certificates
	for i, site := range c.Sites {
		if site.Passthrough() {
			continue
		}
		for j, host := range site.Hosts {
			// A file may have the name, which is known only once it is read.
			if _, ok := CanonicalPattern(host); ok && certificates.Managed(host) && len(certificates.Files) == 0 {
				if reason := certificates.Unobtainable(host); reason != "" {
					v.fail(fmt.Sprintf("sites[%d].hosts[%d]", i, j), "%s", reason)
				}
			}
		}
	}

	if certificates.Client != "autocert" {
		return
	}

	refuse := func(path, what string) { v.fail(path, "client autocert cannot: %s; client certmagic can", what) }
	if certificates.DNS.Provider != "" {
		refuse("certificates.dns", "dns-01")
	}

	if !slices.Contains(certificates.Challenges, "tls-alpn-01") {
		refuse("certificates.challenges", "leave tls-alpn-01 out")
	}
	if len(certificates.Issuers) > 1 {
		refuse("certificates.issuers", "several issuers in order")
	}

	if i := certificates.Issuers[0]; i.Profile != "" {
		refuse("certificates.issuers[0].profile", "profiles")
	} else if i.PreferredChain != "" {
		refuse("certificates.issuers[0].preferred_chain", "the choice of a chain")
	}

	if !slices.Equal(certificates.KeyTypes, []string{"p256"}) {
		refuse("certificates.key_types", "key types other than p256, and RSA for clients that know nothing else")
	}
}

// StoredWildcard is what *. is in the storage, where * can be in no file's name: a name that begins with it would have the
// certificate of a wildcard in its place.
const StoredWildcard = "wildcard_."

// Unobtainable says why the configured way cannot get a certificate for a managed host, or "".
func (c *Certificates) Unobtainable(host string) string {
	_, err := netip.ParseAddr(host)
	address, wildcard := err == nil, strings.HasPrefix(host, "*.")
	switch {
	case strings.HasPrefix(host, StoredWildcard):
		return "names that begin with " + StoredWildcard + " stand for wildcards in the storage: choose another"
	case wildcard && c.OnDemand != nil:
		// The names below the wildcard get certificates of their own.
		return ""
	case wildcard && c.Client == "autocert":
		return "client autocert cannot get wildcard certificates: use client certmagic with certificates.dns, or list the names"
	case wildcard && c.DNS.Provider == "":
		return "a wildcard certificate needs dns-01: name the provider in certificates.dns, or list the names, or use certificates.on_demand"
	case address && c.Client == "autocert":
		return "client autocert cannot get certificates for addresses: use client certmagic"
	// autocert's requests have the name as their common name too, which has room for 64 characters (RFC 5280 appendix
	// A.1).
	case c.Client == "autocert" && len(host) > 64:
		return "client autocert cannot get certificates for names of more than 64 characters: use client certmagic"
	case address && c.DNS.Provider != "":
		return "dns-01 is not for addresses (RFC 8738): leave certificates.dns out"
	case !wildcard && !address && !strings.Contains(host, ".") && (c.Client == "autocert" || !c.ownIssuer()):
		return fmt.Sprintf("%s is no name that a public CA knows: use its full name, or one such as %s.localhost", host, host)
	}

	return ""
}
