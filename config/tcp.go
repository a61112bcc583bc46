package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

func (v *validator) tcp(path string, s *Site) {
	t := s.TCP
	at := path + ".tcp"
	if s.hasHTTP() {
		v.fail(path, "routes, www, http, hsts, headers, basic_auth, api_keys, jwt, forward_auth, rate_limit, compress, cors, security_headers, errors, intercept, maintenance, inspect, paths and ignore_case are for HTTP, and this site forwards TCP")
	}

	if len(t.To) == 0 {
		v.fail(at+".to", "at least one target is needed")
	}
	if t.KeepAlive != (KeepAlive{}) {
		v.fail(at+".keepalive", "is for HTTP: each connection of a client has one to the target")
	}

	v.upstream(at, &t.Upstream, []string{"tcp", "tls"})
	if t.Sticky != "" || t.HashBy != "" && t.HashBy != "address" {
		v.fail(at, "cookies and headers are HTTP's: use balance: hash, which goes by the client's address")
	}
	if t.Timeouts.ResponseHeader != 0 {
		v.fail(at+".timeouts.response_header", "is for HTTP; idle bounds how long nothing may pass")
	}

	standard(&t.Idle, time.Hour)
	if t.ProxyProtocol != "" {
		v.oneOf(at+".proxy_protocol", t.ProxyProtocol, "v1", "v2")
	}

	if t.StartTLS != "" {
		v.oneOf(at+".starttls", t.StartTLS, "postgres")
		if len(t.ALPN) == 0 {
			// Clients with sslnegotiation=direct refuse a server that does not choose this protocol.
			t.ALPN = []string{"postgresql"}
		}
	}

	v.alpn(at+".alpn", t.ALPN)
	if t.Passthrough {
		v.passthrough(at, s)
	}
}

func (v *validator) alpn(path string, protocols []string) {
	for i, protocol := range protocols {
		if protocol == "" || len(protocol) > 255 || protocol == "acme-tls/1" {
			v.fail(fmt.Sprintf("%s[%d]", path, i), "%q is not a protocol's name of 1 to 255 bytes", protocol)
		}
	}
}

// hasHTTP reports whether a site has keys that mean something for HTTP alone.
func (s *Site) hasHTTP() bool {
	return len(s.Routes) > 0 || s.WWW != "" || s.HSTS != (HSTS{}) || s.Access.ofHTTP() || s.HTTP != "" || s.Compress != nil || s.Paths != "" || s.NoCase ||
		!s.Fields.empty() || len(s.Errors) > 0 || len(s.Intercept) > 0 || s.Maintenance != nil || s.Inspect != nil || s.CORS != nil || s.SecurityHeaders != nil
}

func (v *validator) passthrough(at string, s *Site) {
	t := s.TCP
	if s.TLS.ClientAuth != nil || s.TLS.LegacyRSA || t.StartTLS != "" || len(t.ALPN) > 0 {
		v.fail(at+".passthrough", "leaves TLS to the target, so tls, starttls and alpn have no meaning here")
	}
	if slices.ContainsFunc(t.To, func(b Backend) bool { return b.Target.Scheme == "tls" }) {
		v.fail(at+".passthrough", "the client's TLS is passed on as it is: the targets are tcp, not tls")
	}
}

// empty reports whether no rule of any kind is given, those of kinds that are added later included.
func (h *HeaderRules) empty() bool { return reflect.ValueOf(*h).IsZero() }

// listeners finds addresses that are given for different things.
func (v *validator) listeners(c *Config) {
	uses := map[string]string{}
	for i, a := range c.Listen.HTTPS {
		uses[a] = fmt.Sprintf("listen.https[%d]", i)
	}

	for i, a := range c.Listen.HTTP {
		v.onlyUse(uses, a, fmt.Sprintf("listen.http[%d]", i))
	}

	sets := map[string]string{} // of addresses to the site that has brought them
	for i, s := range c.Sites {
		set := fmt.Sprint(s.Listen)
		if _, known := sets[set]; known {
			continue
		}
		sets[set] = fmt.Sprintf("sites[%d]", i)
		for j, a := range s.Listen {
			v.onlyUse(uses, a, fmt.Sprintf("sites[%d].listen[%d]", i, j))
		}
	}

	// Port 0 is another one each time.
	if other, taken := uses[c.Admin.TCP()]; taken && !strings.HasSuffix(c.Admin.TCP(), ":0") {
		v.beside("admin", other, "%s already stands at %s: the console needs an address of its own, such as 127.0.0.1:2020", c.Admin.TCP(), other)
	}
}

func (v *validator) onlyUse(uses map[string]string, address, path string) {
	if other, taken := uses[address]; taken {
		v.fail(path, "%s already stands at %s; sites that share addresses of their own list the same ones", address, other)
	}
	uses[address] = path
}
