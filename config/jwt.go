package config

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"padlock/internal/jwks"
	"padlock/internal/regular"
)

// Remote reports whether the keys are fetched, and not read from a file.
func (j *JWT) Remote() bool { return strings.Contains(j.JWKS, "://") }

// Proof is what of the rule decides by which proof of a client a token is good, beside the token's audience and claims.
// What targets learn of the client is no part of it.
func (j *JWT) Proof() JWT {
	p := *j
	p.Audience, p.Claims = nil, nil
	p.Copy, p.User, p.Forward, p.Leeway, p.KeepKeys = nil, "", false, 0, 0
	return p
}

// ReadJWKS reads a file of keys.
func ReadJWKS(file string) (*jwks.Set, error) {
	data, err := regular.Named(file, jwks.MaxSet)
	if err != nil {
		return nil, err
	}
	set, err := jwks.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	return set, nil
}

const (
	maxLeeway = 10 * time.Minute
	maxStale  = 30 * 24 * time.Hour
)

func (v *validator) jwt(path string, j *JWT) {
	v.jwks(path, j)
	if j.Issuer == "" {
		v.fail(path+".issuer", "is missing: the value of iss in tokens, such as https://login.example.com/")
	}
	if len(j.Audience) == 0 {
		v.fail(path+".audience", `is missing: without it, tokens for other services of the issuer would be accepted; "*" accepts those of any`)
	}

	if j.Algorithms == nil {
		j.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	for i, name := range j.Algorithms {
		at := fmt.Sprintf("%s.algorithms[%d]", path, i)
		if strings.HasPrefix(name, "HS") || strings.EqualFold(name, "none") {
			v.fail(at, "%s proves nothing with keys that are public: take one of %s", name, strings.Join(jwks.Algorithms(), ", "))
			continue
		}
		v.oneOf(at, name, jwks.Algorithms()...)
	}

	v.whereToken(path, j)
	standard(&j.User, "sub")
	if standard(&j.Leeway, time.Minute); j.Leeway > maxLeeway {
		v.fail(path+".leeway", "%v is more than %v: tokens would be good long after their end", j.Leeway, maxLeeway)
	}
	if standard(&j.KeepKeys, 24*time.Hour); j.KeepKeys < time.Minute || j.KeepKeys > maxStale {
		v.fail(path+".keep_keys", "%v must be from 1m to 720h", j.KeepKeys)
	}
	v.claims(path, j)
}

// jwks checks where the keys are.
func (v *validator) jwks(path string, j *JWT) {
	if j.CA != "" {
		v.bundle(path+".ca", j.CA)
		if !strings.HasPrefix(j.JWKS, "https://") {
			v.fail(path+".ca", "goes with a jwks that is fetched from https:// only")
		}
	}

	switch {
	case j.JWKS == "":
		v.fail(path+".jwks", "is missing: the URL or the file of the issuer's keys, such as https://login.example.com/.well-known/jwks.json")
	case !j.Remote():
		if _, err := ReadJWKS(j.JWKS); err != nil {
			v.fail(path+".jwks", "%v", v.inDirectory(j.JWKS, err))
		}
	default:
		if u, err := url.Parse(j.JWKS); err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
			v.fail(path+".jwks", "is neither a file nor a URL such as https://login.example.com/.well-known/jwks.json")
		} else if u.Scheme == "http" && !near(u.Hostname()) {
			v.fail(path+".jwks", "http:// to %s: whoever is on the way could put keys of their own there; use https://", u.Hostname())
		}
	}
}

// near reports whether a host is one of this machine or of a private network: an address, or a name without dots as
// containers have.
func near(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
	}
	return IsLoopback(host) || !strings.Contains(host, ".")
}

// whereToken checks where clients put tokens.
func (v *validator) whereToken(path string, j *JWT) {
	if j.Header == "" && j.Cookie == "" {
		j.Header = "Authorization"
	}
	if j.Header != "" {
		v.readName(path+".header", "header", j.Header)
		if strings.EqualFold(j.Header, "Cookie") {
			v.fail(path+".header", "the key cookie names the cookie that holds the token")
		}
	}
	if j.Cookie != "" && !isToken(j.Cookie) {
		v.fail(path+".cookie", "%q is not the name of a cookie", j.Cookie)
	}
}

// claims checks what tokens must hold, and what targets learn of them.
func (v *validator) claims(path string, j *JWT) {
	for name, values := range j.Claims {
		if name == "" || len(values) == 0 {
			v.fail(path+".claims."+name, "has no value: one of those that the claim must have")
		}
	}

	fields := map[string]string{}
	for _, claim := range slices.Sorted(maps.Keys(j.Copy)) {
		at, name := path+".copy."+claim, j.Copy[claim]
		v.fieldName(at, name)
		if other := fields[strings.ToLower(name)]; other != "" {
			v.fail(at, "%s is the header of %s already", name, other)
		}
		fields[strings.ToLower(name)] = claim
	}
}
