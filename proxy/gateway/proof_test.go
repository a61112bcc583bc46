package gateway

import (
	"encoding/json"
	"fmt"
	"testing"

	"padlock/config"
	"padlock/internal/jwks"
	"padlock/proxy/sites"
)

// What a token has opened stays open while the token would be good but for its end, whatever else of the rule changes: a reload that changes
// nothing about who may come ends nothing.
func TestAReloadJudgesTokensByWhatDecides(t *testing.T) {
	const rule = `jwks: http://127.0.0.1:1/keys, issuer: "https://login.test/", audience: [app, web], claims: {scope: [write]}`
	jwt := func(text string) *sites.JWT {
		cfg, err := config.Parse("padlock.yaml", fmt.Appendf(nil, "sites: [{hosts: [localhost], jwt: {%s}}]", text))
		if err != nil {
			t.Fatal(err)
		}
		return &sites.JWT{JWT: cfg.Sites[0].Access.JWT}
	}
	p := &proof{
		rule:  jwt(rule).JWT,
		token: &jwks.Token{Claims: map[string]any{"aud": "app", "scope": "read write", "exp": json.Number("1")}},
	}
	for text, want := range map[string]bool{
		rule: true,
		rule + `, copy: {email: X-Email}, user: email, leeway: 3s, keep_keys: 1h, forward: true`:                              true,
		`jwks: http://127.0.0.1:1/keys, issuer: "https://login.test/", audience: [app, api], claims: {scope: [admin, write]}`: true,
		`jwks: http://127.0.0.1:1/keys, issuer: "https://login.test/", audience: web`:                                         false,
		`jwks: http://127.0.0.1:1/keys, issuer: "https://login.test/", audience: [app, web], claims: {scope: [admin]}`:        false,
		`jwks: http://127.0.0.1:1/keys, issuer: "https://other.test/", audience: [app, web], claims: {scope: [write]}`:        false,
		`jwks: http://127.0.0.1:2/keys, issuer: "https://login.test/", audience: [app, web], claims: {scope: [write]}`:        false,
		rule + `, algorithms: [ES256]`: false,
		rule + `, cookie: session`:     false,
	} {
		if got := p.holdsToken(jwt(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if (&proof{}).holdsToken(jwt(rule)) {
		t.Error("without a token")
	}
}
