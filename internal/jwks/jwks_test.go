package jwks_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"padlock/internal/jwks"
)

// issuer signs tokens.
type issuer struct {
	rsa     *rsa.PrivateKey
	ec      *ecdsa.PrivateKey
	ed      ed25519.PrivateKey
	weak    *rsa.PrivateKey
	private []byte // the set, with what must not be in it
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	i.weak, err = jwksWeak()
	if err != nil {
		t.Fatal(err)
	}
	if i.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	_, i.ed, _ = ed25519.GenerateKey(rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: &i.rsa.PublicKey, KeyID: "rsa"}, {Key: &i.ec.PublicKey, KeyID: "ec", Use: "sig"}, {Key: i.ed.Public(), KeyID: "ed", Algorithm: "EdDSA"},
		{Key: &i.weak.PublicKey, KeyID: "weak"}, {Key: other, KeyID: "private"}, {Key: []byte("a secret of 32 bytes that is out"), KeyID: "secret"},
		{Key: &i.rsa.PublicKey, KeyID: "enc", Use: "enc"}, {Key: &i.rsa.PublicKey, KeyID: "ps", Algorithm: "PS256"}, {Key: &other.PublicKey, KeyID: "p384"},
	}}
	if i.private, err = json.Marshal(set); err != nil {
		t.Fatal(err)
	}
	return i
}

func encode(v any) string {
	text, ok := v.(string)
	if !ok {
		data, _ := json.Marshal(v)
		text = string(data)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// sign signs a header and claims, each of which may be a text that is no JSON.
func (i *issuer) sign(head, claims any, how string) string {
	signed := encode(head) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	switch how {
	case "RS256":
		signature, _ = rsa.SignPKCS1v15(nil, i.rsa, crypto.SHA256, sum[:])
	case "weak":
		signature, _ = rsa.SignPKCS1v15(nil, i.weak, crypto.SHA256, sum[:])
	case "PS256":
		signature, _ = rsa.SignPSS(rand.Reader, i.rsa, crypto.SHA256, sum[:], nil)
	case "ES256":
		r, s, _ := ecdsa.Sign(rand.Reader, i.ec, sum[:])
		signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "EdDSA":
		signature = ed25519.Sign(i.ed, []byte(signed))
	case "psychic": // CVE-2022-21449
		signature = make([]byte, 64)
	default: // a secret
		mac := hmac.New(sha256.New, []byte(how))
		mac.Write([]byte(signed))
		signature = mac.Sum(nil)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

var now = time.Unix(1_800_000_000, 0)

func good() map[string]any {
	return map[string]any{"iss": "https://login.test/", "aud": []string{"other", "app"}, "sub": "ada", "exp": now.Unix() + 60, "iat": now.Unix() - 60}
}

func with(key string, value any) map[string]any {
	claims := good()
	if claims[key] = value; value == nil {
		delete(claims, key)
	}
	return claims
}

var rules = &jwks.Rules{Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, Issuer: "https://login.test/", Audience: []string{"app", "api"}, Leeway: 30 * time.Second}

func head(algorithm, id string, more ...string) map[string]any {
	h := map[string]any{"alg": algorithm, "kid": id, "typ": "JWT"}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = json.RawMessage(more[i+1])
	}
	return h
}

// Every token that its issuer has signed for this audience is good, and none of those by which others have been deceived (RFC 8725 section 2).
func TestTokensOfTheIssuerAloneAreGood(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	set, err := jwks.Parse(i.private)
	if err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string]string{
		"RS256": i.sign(head("RS256", "rsa"), good(), "RS256"), "PS256": i.sign(head("PS256", "rsa"), good(), "PS256"), "ES256": i.sign(head("ES256", "ec"), good(), "ES256"),
		"EdDSA": i.sign(head("EdDSA", "ed"), good(), "EdDSA"), "no ID": i.sign(map[string]any{"alg": "ES256"}, good(), "ES256"), "one audience": i.sign(head("ES256", "ec"), with("aud", "api"), "ES256"),
		"just over": i.sign(head("ES256", "ec"), with("exp", now.Unix()-29), "ES256"), "almost": i.sign(head("ES256", "ec"), with("nbf", now.Unix()+29), "ES256"), "a fraction": i.sign(head("ES256", "ec"), with("exp", float64(now.Unix())+0.5), "ES256"),
	} {
		if got, err := jwks.Verify(t.Context(), token, set, rules, now); err != nil || got.Claims["sub"] != "ada" || !set.Has(got.Key) {
			t.Errorf("%s: %v %v", what, got, err)
		}
	}

	public, _ := x509.MarshalPKIXPublicKey(&i.rsa.PublicKey)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	valid := i.sign(head("ES256", "ec"), good(), "ES256")
	parts := strings.Split(valid, ".")
	mine, _ := json.Marshal(jose.JSONWebKey{Key: &i.weak.PublicKey, KeyID: "rsa"})
	doubled := strings.Replace(mustJSON(good()), `"sub":"ada"`, `"sub":"root","sub":"ada"`, 1)
	tokens := map[string]string{
		"none": encode(head("none", "ec")) + "." + parts[1] + ".", "None": encode(head("None", "")) + "." + parts[1] + ".", "nOnE, signed": i.sign(head("nOnE", "ec"), good(), "ES256"),
		"without algorithm": i.sign(map[string]any{"kid": "ec"}, good(), "ES256"), "no signature": parts[0] + "." + parts[1] + ".", "two parts": parts[0] + "." + parts[1],
		"HS256 by the public key": i.sign(head("HS256", "rsa"), good(), text), "HS256 by the key in DER": i.sign(head("HS256", "rsa"), good(), string(public)),
		"HS256 by a secret of the set": i.sign(head("HS256", "secret"), good(), "a secret of 32 bytes that is out"), "HS256 by nothing": i.sign(head("HS256", ""), good(), ""),
		"a key of its own (jwk)": i.sign(head("RS256", "rsa", "jwk", string(mine)), good(), "weak"), "a set of its own (jku)": i.sign(head("RS256", "weak", "jku", `"https://evil.test/jwks"`), good(), "weak"),
		"a weak key": i.sign(head("RS256", "weak"), good(), "weak"), "a key for encryption": i.sign(head("RS256", "enc"), good(), "RS256"), "a key for PS256": i.sign(head("RS256", "ps"), good(), "RS256"),
		"RS256 said to be ES256": i.sign(head("ES256", "rsa"), good(), "RS256"), "ES256 said to be ES384": i.sign(head("ES384", "ec"), good(), "ES256"), "ES256 of a larger curve": i.sign(head("ES256", "p384"), good(), "ES256"),
		"of zeros": i.sign(head("ES256", "ec"), good(), "psychic"), "an unknown key": i.sign(head("ES256", "../../dev/null"), good(), "ES256"), "a private key of the set": i.sign(head("ES384", "private"), good(), "ES256"),
		"other claims": parts[0] + "." + encode(with("sub", "root")) + "." + parts[2], "another header": encode(head("ES256", "ec", "typ", `"x"`)) + "." + parts[1] + "." + parts[2],
		"expired": i.sign(head("ES256", "ec"), with("exp", now.Unix()-31), "ES256"), "without end": i.sign(head("ES256", "ec"), with("exp", nil), "ES256"), "an end in words": i.sign(head("ES256", "ec"), with("exp", "9999999999"), "ES256"),
		"an endless end": i.sign(head("ES256", "ec"), strings.Replace(mustJSON(good()), fmt.Sprint(now.Unix()+60), "1e400", 1), "ES256"), "a negative end": i.sign(head("ES256", "ec"), with("exp", -1), "ES256"), "a null end": i.sign(head("ES256", "ec"), strings.Replace(mustJSON(good()), fmt.Sprint(now.Unix()+60), "null", 1), "ES256"),
		"not yet": i.sign(head("ES256", "ec"), with("nbf", now.Unix()+31), "ES256"), "not yet, in words": i.sign(head("ES256", "ec"), with("nbf", "0"), "ES256"), "issued tomorrow": i.sign(head("ES256", "ec"), with("iat", now.Unix()+86400), "ES256"),
		"another issuer": i.sign(head("ES256", "ec"), with("iss", "https://login.test"), "ES256"), "a list of issuers": i.sign(head("ES256", "ec"), with("iss", []string{"https://login.test/"}), "ES256"), "no issuer": i.sign(head("ES256", "ec"), with("iss", nil), "ES256"),
		"another audience": i.sign(head("ES256", "ec"), with("aud", "application"), "ES256"), "no audience": i.sign(head("ES256", "ec"), with("aud", nil), "ES256"), "an object of audiences": i.sign(head("ES256", "ec"), with("aud", map[string]any{"app": "app"}), "ES256"), "nested audiences": i.sign(head("ES256", "ec"), with("aud", []any{[]string{"app"}}), "ES256"),
		"an extension": i.sign(head("ES256", "ec", "crit", `["exp"]`, "exp", "1"), good(), "ES256"), "b64": i.sign(head("ES256", "ec", "b64", "false", "crit", `["b64"]`), good(), "ES256"),
		"a claim twice": i.sign(head("ES256", "ec"), doubled, "ES256"), "an algorithm twice": i.sign(`{"alg":"none","alg":"ES256","kid":"ec"}`, good(), "ES256"), "in capitals": i.sign(`{"ALG":"ES256","kid":"ec"}`, good(), "ES256"),
		"claims and more": i.sign(head("ES256", "ec"), mustJSON(good())+"{}", "ES256"), "a list": i.sign(head("ES256", "ec"), "[]", "ES256"), "null": i.sign(head("ES256", "ec"), "null", "ES256"), "no JSON": i.sign(head("ES256", "ec"), "x", "ES256"),
		"in JSON": fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, parts[1], parts[0], parts[2]), "encrypted": strings.Join([]string{parts[0], "", parts[1], parts[2], "x"}, "."),
		"padded": valid + "=", "spaced": " " + valid, "a line's end": valid + "\n", "a part more": valid + ".", "large": i.sign(head("ES256", "ec"), with("x", strings.Repeat("x", 16<<10)), "ES256"), "empty": "", "dots": "..",
	}
	for what, token := range tokens {
		got, err := jwks.Verify(t.Context(), token, set, rules, now)
		if err == nil {
			t.Errorf("%s: it is good: %v", what, got)
		} else if errors.Is(err, jwks.ErrKeys) || len(token) > 20 && strings.Contains(err.Error(), token[len(token)-20:]) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func mustJSON(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}

// Sets without a key that could be used, and those that are none, are errors.
func TestSetsWithoutAKeyAreErrors(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var set map[string][]map[string]any
	_ = json.Unmarshal(i.private, &set)
	only := func(id string) string {
		for _, key := range set["keys"] {
			if key["kid"] == id {
				return mustJSON(map[string]any{"keys": []any{key}})
			}
		}
		return ""
	}
	for _, text := range []string{"", "{}", "[]", `{"keys":[]}`, `{"keys":{}}`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`, only("weak"), only("secret"), only("private"), only("enc"), `{"keys":[{}],"keys":[]}`, strings.Repeat(" ", jwks.MaxSet+1)} {
		if _, err := jwks.Parse([]byte(text)); err == nil {
			t.Errorf("%.60s is a set", text)
		}
	}
	if found, _ := must(jwks.Parse(i.private)).Find(context.Background(), ""); len(found) != 5 {
		t.Errorf("%d keys", len(found))
	}
}

func must(set *jwks.Set, err error) *jwks.Set {
	if err != nil {
		panic(err)
	}
	return set
}

// Claims are found by their names, and by the way through objects.
func TestClaimsAreFound(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	claims := with("realm_access", map[string]any{"roles": []any{"a", 2, true, map[string]any{}, []any{"no"}}})
	maps.Copy(claims, map[string]any{"https://x.test/roles": "b", "a.b": "literal", "a": map[string]any{"b": "nested"}})
	token, err := jwks.Verify(t.Context(), i.sign(head("ES256", "ec"), claims, "ES256"), must(jwks.Parse(i.private)), rules, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"realm_access.roles": "[a 2 true]", "https://x.test/roles": "[b]", "a.b": "[literal]", "a.c": "[]", "sub.x": "[]", "": "[]"} {
		if got := fmt.Sprint(jwks.Texts(token.Claim(name))); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
