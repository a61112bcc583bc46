// Package jwks verifies JSON Web Tokens (RFC 7519) with the public keys of a JSON Web Key Set (RFC 7517), as RFC 8725
// asks for.
//
//	set, err := jwks.Parse(data)                       // or a Remote, which fetches one
//	token, err := jwks.Verify(ctx, text, set, &jwks.Rules{Algorithms: …, Issuer: …, Audience: …}, time.Now())
//
// Errors never hold a token, or a part of one.
package jwks

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	// Its decoder refuses objects that name something twice, of which two readers may take different ones.
	"github.com/go-jose/go-jose/v4/json"
)

// Algorithms are all that can be asked for: those with a public key. Without symmetric ones, nobody can pass a public
// key off as a secret, and none is no algorithm.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Rules say which tokens are good.
type Rules struct {
	Algorithms []string
	Issuer     string
	Audience   []string // one of them; "*": any, or none
	Leeway     time.Duration
}

// Keys finds keys by their ID; "" finds all.
type Keys interface {
	Find(ctx context.Context, id string) ([]jose.JSONWebKey, error)
}

// Token is one that has been verified.
type Token struct {
	Claims map[string]any // numbers are json.Number
	Key    string         // thumbprint of the key that has signed it
}

// ErrKeys is given where no keys are at hand: whether the token is good is not known.
var ErrKeys = errors.New("there are no keys to verify tokens with")

// maxToken is the size of the largest token; a head of a request is not much larger.
const maxToken = 16 << 10

// header is that of a token (RFC 7515 section 4.1).
type header struct {
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Critical  json.RawMessage `json:"crit"`
	Encoded   json.RawMessage `json:"b64"`
	Type      string          `json:"typ"`
}

// Verify checks a token. Its errors are ErrKeys, the context's, or say what is wrong with the token.
func Verify(ctx context.Context, text string, keys Keys, rules *Rules, now time.Time) (*Token, error) {
	head, signed, err := parse(text, rules)
	if err != nil {
		return nil, err
	}
	found, err := keys.Find(ctx, head.KeyID)
	if err != nil {
		return nil, err
	}

	payload, key, err := signature(signed, head, found)
	if err != nil {
		return nil, err
	}
	token := &Token{Key: key}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.SetNumberType(json.UnmarshalJSONNumber)
	if err := decoder.Decode(&token.Claims); err != nil || token.Claims == nil || decoder.More() {
		return nil, errors.New("the claims are not one JSON object without repeated names")
	}
	return token, token.check(rules, now)
}

// parse reads a token without believing it.
func parse(text string, rules *Rules) (head header, signed *jose.JSONWebSignature, err error) {
	if len(text) > maxToken {
		return head, nil, fmt.Errorf("the token is larger than %d KiB", maxToken>>10)
	}
	parts := strings.Split(text, ".")
	// Go's base64 passes over the ends of lines.
	if len(parts) != 3 || strings.ContainsAny(text, "\r\n") {
		return head, nil, errors.New("this is not a signed token of three parts")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err == nil {
		err = json.Unmarshal(raw, &head)
	}
	if err != nil {
		return head, nil, errors.New("the token's header cannot be read")
	}

	switch {
	case !slices.Contains(rules.Algorithms, head.Algorithm):
		return head, nil, fmt.Errorf("the token's algorithm %.20q is not one of: %s", head.Algorithm, strings.Join(rules.Algorithms, ", "))
	// No extension is known here (RFC 7515 section 4.1.11, RFC 7797).
	case len(head.Critical) > 0, len(head.Encoded) > 0:
		return head, nil, errors.New("the token needs an extension (crit)")
	}

	var algorithms []jose.SignatureAlgorithm
	for _, name := range rules.Algorithms {
		algorithms = append(algorithms, jose.SignatureAlgorithm(name))
	}
	if signed, err = jose.ParseSignedCompact(text, algorithms); err != nil {
		return head, nil, errors.New("the token is malformed")
	}
	return head, signed, nil
}

// maxTried is how many keys a token is verified with that names none, or one of several with one ID.
const maxTried = 16

// signature is the payload of a token that one of the keys has signed. Keys that come with the token, or that it
// points to (jwk, jku, x5c, x5u), are never looked at.
func signature(signed *jose.JSONWebSignature, head header, keys []jose.JSONWebKey) (payload []byte, key string, err error) {
	tried := 0
	for i := range keys {
		k := &keys[i]
		if !fits(k, head.Algorithm) {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		if payload, err := signed.Verify(k.Key); err == nil {
			return payload, thumbprint(k), nil
		}
	}
	if tried == 0 {
		return nil, "", errors.New("no key of the token's ID and algorithm is known")
	}
	return nil, "", errors.New("the token's signature is wrong")
}

// check judges the claims of a token whose signature is right.
func (t *Token) check(rules *Rules, now time.Time) error {
	expires, ok := t.date("exp")
	if !ok {
		return errors.New("the token says nothing of its end (exp)")
	}
	if !now.Before(expires.Add(rules.Leeway)) {
		return errors.New("the token has expired")
	}

	for _, claim := range []string{"nbf", "iat"} {
		from, ok := t.date(claim)
		if _, given := t.Claims[claim]; given && !ok || ok && now.Before(from.Add(-rules.Leeway)) {
			return fmt.Errorf("the token is not valid yet (%s)", claim)
		}
	}

	if issuer, _ := t.Claims["iss"].(string); issuer != rules.Issuer {
		return errors.New("the token is of another issuer")
	}
	if !t.For(rules.Audience) {
		return errors.New("the token is for another audience")
	}
	return nil
}

// For reports whether the token is for one of several audiences; "*" stands for any, or none.
func (t *Token) For(audiences []string) bool {
	return slices.Contains(audiences, "*") ||
		slices.ContainsFunc(Texts(t.Claims["aud"]), func(audience string) bool { return slices.Contains(audiences, audience) })
}

// maxDate is the year 9999, behind which times are mistakes.
const maxDate = 253402300800

// date reads a NumericDate (RFC 7519 section 2).
func (t *Token) date(claim string) (time.Time, bool) {
	number, ok := t.Claims[claim].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > maxDate {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(seconds * 1000)), true
}

// Claim finds a claim by its name, or by the names that lead to it with dots between them.
func (t *Token) Claim(name string) any {
	if value, ok := t.Claims[name]; ok {
		return value
	}
	var at any = t.Claims
	for part := range strings.SplitSeq(name, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[part]
	}
	return at
}

// Texts are a claim's values as texts: one, or those of a list. Objects are none.
func Texts(value any) (all []string) {
	switch value := value.(type) {
	case string:
		return []string{value}
	case json.Number:
		return []string{value.String()}
	case bool:
		return []string{fmt.Sprint(value)}
	case []any:
		for _, item := range value {
			if _, nested := item.([]any); !nested {
				all = append(all, Texts(item)...)
			}
		}
	}
	return all
}

// read is Parse of what a reader has.
func read(r io.Reader) (*Set, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSet+1))
	if err != nil {
		return nil, err
	}
	return Parse(data)
}
