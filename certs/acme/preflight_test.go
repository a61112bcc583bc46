package acme

import (
	"net"
	"strings"
	"testing"

	"padlock/config"
	"padlock/internal/servicetest"
)

// What a CA will stumble over is said beforehand, from real answers of a DNS server.
func TestAdviceBeforeTheFirstOrder(t *testing.T) {
	ca := servicetest.StartPebble(t, servicetest.PebbleOptions{})
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	ca.Manage("/set-default-ipv4", map[string]string{"ip": ""})
	ca.Manage("/add-a", map[string]any{"host": "here.example.com", "addresses": []string{"127.0.0.1"}})
	ca.Manage("/add-a", map[string]any{"host": "public.example.com", "addresses": []string{"127.0.0.1"}})
	ca.Manage("/add-caa", map[string]any{"host": "example.org", "policies": []map[string]string{{"tag": "issue", "value": "digicert.com; account=1"}, {"tag": "issuewild", "value": "letsencrypt.org"}}})
	own := []config.Issuer{{Directory: ca.URL}}
	public := []config.Issuer{{Name: "letsencrypt"}}
	for _, c := range []struct {
		name, http, want string
		issuers          []config.Issuer
		provider         string
	}{
		{name: "here.example.com", http: open.Addr().String(), issuers: own},
		{name: "here.example.com", http: "127.0.0.1:1", issuers: own, want: "127.0.0.1:1 refuses connections"},
		{name: "gone.example.com", http: open.Addr().String(), issuers: own, want: "add an A or AAAA record for gone.example.com"},
		{name: "gone.example.com", http: open.Addr().String(), issuers: own, provider: "exec"},
		{name: "public.example.com", http: ":80", issuers: public, want: "where no public CA can come"},
		{name: "www.example.org", issuers: public, provider: "exec", want: "the CAA records of example.org allow digicert.com only: add one for letsencrypt.org"},
		{name: "*.example.org", issuers: public, provider: "exec"},
		{name: "*.example.org", issuers: []config.Issuer{{Name: "google"}}, provider: "exec", want: "allow letsencrypt.org only"},
	} {
		certificates := config.Default().Certificates
		certificates.Issuers, certificates.DNS = c.issuers, config.DNS{Provider: c.provider, Resolvers: []string{ca.DNS}}
		got := strings.Join(NewPreflight(certificates, c.http, "").Check(t.Context(), c.name), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q instead of %q", c.name, got, c.want)
		}
	}
	certificates := config.Default().Certificates
	certificates.Issuers, certificates.DNS.Resolvers = own, []string{"127.0.0.1:1"}
	if got := NewPreflight(certificates, "", "").Check(t.Context(), "here.example.com"); len(got) != 1 || !strings.Contains(got[0], "cannot be looked up") {
		t.Errorf("without a resolver: %q", got)
	}
}
