package lab

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// Wherever the lab listens, the endpoint without a name is there, and the address in a certificate is the one that a
// client connects to.
func TestTheEndpointWithoutANameIsWhereTheLabListens(t *testing.T) {
	t.Parallel()
	for listen, host := range map[string]string{"127.0.0.1:0": "127.0.0.1", "127.0.0.2:0": "127.0.0.2", "[::1]:0": "::1", "0.0.0.0:0": "127.0.0.1"} {
		probe, err := net.Listen("tcp", listen)
		if err != nil {
			// A machine may have no IPv6, and some systems have one address of the loopback alone.
			t.Logf("not at %s: %v", listen, err)
			continue
		}
		probe.Close()
		l := opened(t, Options{Listen: []string{listen}})
		report := checked(t, l, &tls.Config{RootCAs: roots(l)}, "address*")
		if e := l.named(addressName); e.Hostname() != host || len(with(report, OK)) != 2 {
			show(t, report)
			t.Errorf("at %s: the host is %s", listen, e.Hostname())
		}

		for name, verify := range map[string]string{addressName: host, "address-for-name": l.Address()} {
			chain, err := l.certificate(l.named(name), nil)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(chain.Certificate[0])
			if err != nil || leaf.VerifyHostname(verify) != nil || len(leaf.DNSNames) > 0 {
				t.Errorf("at %s: the certificate of %s is not for %s: %v, %v", listen, name, verify, leaf.IPAddresses, err)
			}
		}
		if !slices.ContainsFunc(direct(nil, l.Address()), func(v string) bool { return strings.HasPrefix(v, "NO_PROXY=") && strings.HasSuffix(v, ","+l.Address()) }) {
			t.Errorf("at %s: a client comes by a proxy: %q", listen, direct(nil, l.Address()))
		}

		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, l.PageURL(), nil)
		l.servePage(w, r)
		source := "https://" + host + ":" + l.Port()
		if strings.Contains(host, ":") {
			source = " https:;" // a policy has no addresses of IPv6
		}
		if policy := w.Header().Get("Content-Security-Policy"); w.Code != http.StatusOK || !strings.Contains(policy, source) {
			t.Errorf("at %s: the page cannot ask its endpoint: %d, %s", listen, w.Code, policy)
		}
	}
}
