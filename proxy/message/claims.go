package message

import "strings"

// claims are fields by which a backend learns about the client from the proxy in front of it. A client's own are a
// claim, not a fact.
var claims = NewNames("Forwarded", "X-Forwarded", "Forwarded-For", "X-Original-Forwarded-For", "X-Original-Host", "Front-End-Https", "X-Url-Scheme", "X-Scheme", "X-Client-Cert", "X-Client-Verify",
	"Client-Cert", "Client-Cert-Chain", "X-ARR-ClientCert", "Padlock-Handshake",
	"Proxy") // which CGI makes HTTP_PROXY of, by which some programs choose their own proxy

var claimFamilies = [...]string{"X-Forwarded-", "X-SSL-", "SSL-Client-", "Client-Cert-"}

// addresses are claims that name one client address, which a proxy that is trusted may have put there.
var addresses = NewNames("X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Remote-IP", "X-Remote-Addr", "X-ProxyUser-Ip", "X-Originating-IP", "Client-IP", "Proxy-Client-IP", "WL-Proxy-Client-IP",
	"CF-Connecting-IP", "CF-Connecting-IPv6", "Fastly-Client-IP", "X-Envoy-External-Address", "X-Azure-ClientIP", "X-Appengine-User-IP")

// otherRequests are claims that another target or host was asked for, which a proxy that rewrites it tells and some
// frameworks believe.
var otherRequests = NewNames("X-Original-URL", "X-Original-URI", "X-Original-Path", "X-Rewrite-URL", "X-Rewrite-URI", "X-Rewrite-Path",
	"X-Request-URI", "X-Script-Name", "X-Path-Info", "X-Envoy-Original-Path", "X-Host", "X-HTTP-Host-Override", "X-Host-Override")

// variables are those of a gateway that come from a request line, a connection or a login (RFC 3875 section 4.1), and
// those that servers have added. Some targets take them from fields under these very names: gunicorn takes SCRIPT_NAME,
// and routes by what is left of the path. Content-Type and Content-Length are fields, and not among them.
var variables = NewNames("Auth-Type", "Gateway-Interface", "Path-Info", "Path-Translated", "Query-String", "Remote-Addr", "Remote-Host",
	"Remote-Ident", "Remote-Port", "Remote-User", "Request-Method", "Request-Scheme", "Request-URI", "Request-URL", "Script-Filename",
	"Script-Name", "Script-URI", "Script-URL", "Server-Addr", "Server-Name", "Server-Port", "Server-Protocol", "Server-Software",
	"Document-Root", "Document-URI", "Orig-Path-Info", "Orig-Script-Name", "Unencoded-URL", "HTTPS")

// ClaimsRequest reports whether a field says that another target or host was asked for: it would go around rules for
// them.
func ClaimsRequest(name string) bool { return otherRequests.Has(name) }

// Variable reports whether a field, by the name that Alias makes plain, is called as a gateway's variable.
func Variable(plain string) bool { return variables.Has(plain) }

// otherMethods are claims that another method is meant, which frameworks believe of a POST.
var otherMethods = NewNames("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method", "X-Original-Method",
	"X-Original-HTTP-Method")

// ClaimsMethod reports whether a field says that another method is meant: it would go around rules for methods.
func ClaimsMethod(name string) bool { return otherMethods.Has(name) }

// Claims reports whether a field tells a backend what only the proxy in front of it may tell.
func Claims(name string) bool {
	return claims.Has(name) || begins(name, claimFamilies[:])
}

func begins(name string, families []string) bool {
	for _, family := range families {
		if len(name) >= len(family) && strings.EqualFold(name[:len(family)], family) {
			return true
		}
	}
	return false
}

// identities are claims that tell who a client has proved to be, which a proxy that asks for logins or certificates may
// have put there. Those that begin with other words than X-Forwarded are what applications believe of the gateways that
// they are most used with: of oauth2-proxy, Authelia, Authentik, Kubernetes, Cloudflare, Google, Microsoft and
// Tailscale, and Grafana of any.
var identities = NewNames("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Client-Cert",
	"X-Remote-User", "X-Remote-Group", "X-Remote-Email", "X-Remote-Name", "Remote-Groups", "Remote-Group", "Remote-Email", "Remote-Name", "X-Authenticated-User")

var identityFamilies = [...]string{"X-Auth-Request-", "X-WEBAUTH-", "X-Authentik-", "X-Remote-Extra-", "X-MS-Client-Principal", "Tailscale-User-",
	"Cf-Access-Authenticated-User-", "X-Goog-Authenticated-User-"}

// ClaimsIdentity reports whether a field tells who the client has proved to be.
func ClaimsIdentity(name string) bool {
	return identities.Has(name) || begins(name, identityFamilies[:])
}

// ClaimsAddress reports whether a field tells the client's address and nothing else.
func ClaimsAddress(name string) bool { return addresses.Has(name) }

// Alias reports whether some backends take a field for another: CGI and its like make one variable of X-Real-IP,
// X_Real_IP and X.Real.IP. plain is that other name.
func Alias(name string) (plain string, ok bool) {
	for i := range len(name) {
		if !plainByte(rune(name[i])) {
			return strings.Map(func(r rune) rune {
				if plainByte(r) {
					return r
				}
				return '-'
			}, name), true
		}
	}
	return name, false
}

// plainByte reports whether a character of a name means itself to CGI: letters, digits and the dash.
func plainByte(r rune) bool {
	return r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
}
