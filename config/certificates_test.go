package config

import (
	"strings"
	"testing"
)

// What the chosen way cannot do is refused when the configuration is checked, with the reason and the alternative.
func TestWhatTheChosenWayCannotDoIsRefused(t *testing.T) {
	for _, c := range []struct{ certificates, host, want string }{
		{"client: autocert", `"*.example.com"`, "client autocert cannot get wildcard certificates: use client certmagic"},
		{"client: autocert", "203.0.113.7", "client autocert cannot get certificates for addresses"},
		{"client: autocert", strings.Repeat("a", 60) + ".example.com", "client autocert cannot get certificates for names of more than 64 characters"},
		{"{client: autocert, dns: {provider: cloudflare}}", "a.example.com", "client autocert cannot: dns-01; client certmagic can"},
		{"{client: autocert, issuers: [{name: letsencrypt, profile: shortlived}]}", "a.example.com", "profiles; client certmagic can"},
		{"{client: autocert, key_types: [rsa2048]}", "a.example.com", "key types other than p256"},
		{"{client: autocert, issuers: [letsencrypt, \"https://ca.internal/dir\"]}", "a.example.com", "several issuers"},
		{"{client: autocert, challenges: [http-01]}", "a.example.com", "client autocert cannot: leave tls-alpn-01 out"},
		{"{}", `"*.example.com"`, "a wildcard certificate needs dns-01"},
		{"{dns: {provider: cloudfare}}", "a.example.com", "\"cloudfare\" must be one of"},
		{"{dns: {provider: cloudflare}}", "203.0.113.7", "dns-01 is not for addresses"},
		{"{issuers: [zerossl]}", "a.example.com", "zerossl only takes accounts with an external account binding"},
		{"{issuers: [{name: zerossl, eab: {kid: a, hmac_key: \"&secret&\"}}]}", "a.example.com", "is not base64url"},
		{"{issuers: [\"http://ca.example.com/dir\"]}", "a.example.com", "is not an https:// URL"},
		{"{issuers: [buypass]}", "a.example.com", "must be one of: letsencrypt"},
		{"{on_demand: {}}", `"*"`, "anybody could order certificates for invented names"},
		{"{on_demand: {ask: \"ftp://x\"}}", `"*"`, "is not an http:// or https:// URL"},
		{"{key_types: [p521]}", "a.example.com", "must be one of: p256, p384, rsa2048, rsa4096"},
		{"{renew_ratio: 1.5}", "a.example.com", "must be a part of the lifetime"},
		{"{email: \"a@b,c@d\"}", "a.example.com", "is not an address"},
		{"{files: [{cert: a.pem, pkcs12: b.p12}]}", "a.example.com", "needs one of cert"},
		{"{challenges: [dns-01]}", "a.example.com", "must be one of: http-01, tls-alpn-01"},
		{"{}", "intranet", "no name that a public CA knows"},
	} {
		text := c.certificates
		if !strings.HasPrefix(text, "{") {
			text = "{" + text + "}"
		}
		_, err := Parse("padlock.yaml", []byte("storage: /tmp/x\nlisten: {https: [\":443\"]}\ncertificates: "+text+"\nsites: [{hosts: ["+c.host+"]}]\n"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v\ndoes not say %q", c.certificates, c.host, err, c.want)
		} else if strings.Contains(err.Error(), "&secret&") {
			t.Errorf("a secret is repeated: %v", err)
		}
	}
}
