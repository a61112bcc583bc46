//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// idSecrets are how everything begins that opens something, whoever's it is: sessions and keys, tokens, the base64 of an account, passwords.
var idSecrets = []string{secretHead + markerHead, tokenHead, "YWNjb3VudC0", "password of"}

const secretHead = "secret-"

// tokenHead is the same in all tokens.
var tokenHead = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"harness","typ":"JWT"}`))

// secretIn is a secret's beginning in a text that should have none.
func secretIn(text string) string {
	for _, head := range idSecrets {
		if strings.Contains(text, head) {
			return head
		}
	}
	return ""
}

// secret is what its user alone has: a session, for example.
func (u *idUser) secret(of string) string { return secretHead + u.marker() + "-" + of }

// idSelves are those who share a user's connections, as clients of a proxy do. Each has a name, a key, a token and an account of its own.
const idSelves = 2

// self is the name of one of them.
func (u *idUser) self(n int) string {
	return fmt.Sprintf("%s%03x%s%08xz", markerHead, u.number, numberOfUser, n)
}

// keyOf is the key of one of them.
func (u *idUser) keyOf(n int) string { return secretHead + u.self(n) + "-key" }

// self is the number of the one who sends the request.
func (j *idJob) self() int { return int(j.turn>>20) % idSelves }

// sender is the name of the one who sends the request.
func (j *idJob) sender() string { return j.user.self(j.self()) }

// account is what basic_auth knows the sender by: few, as each costs a comparison with bcrypt after every reload.
func (j *idJob) account() string { return accountOf(j.user.number + j.self()) }

func accountOf(n int) string { return fmt.Sprintf("account-%d", n%idAccounts) }

const idAccounts = 4

// idCredentials are files of what users are known by.
type idCredentials struct{ accounts, keys, tokens string }

// enrol makes passwords, keys and tokens of the users.
func (h *identity) enrol() {
	t := h.t
	var accounts, keys strings.Builder
	for n := range idAccounts {
		account := accountOf(n)
		hash, err := bcrypt.GenerateFromPassword([]byte("password of "+account), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&accounts, "%s:%s\n", account, hash)
	}

	issuer, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range h.users {
		for n := range idSelves {
			u.tokens[n] = tokenOf(t, issuer, u.self(n))
			if u.number%2 == 0 {
				fmt.Fprintf(&keys, "%s:%s\n", u.self(n), u.keyOf(n))
			} else {
				fmt.Fprintf(&keys, "%s:sha256:%x\n", u.self(n), sha256.Sum256([]byte(u.keyOf(n))))
			}
		}
	}
	h.credentials = idCredentials{write(t, "accounts", accounts.String()), write(t, "keys", keys.String()), write(t, "tokens.json", keySet(t, issuer))}
}

// tokenOf is a token with a name.
func tokenOf(t *testing.T, issuer *ecdsa.PrivateKey, name string) string {
	claims, err := json.Marshal(map[string]any{
		"iss": "https://issuer.test", "aud": "app", "sub": name, "exp": time.Now().Add(24 * time.Hour).Unix(), "roles": []string{"user", name},
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := tokenHead + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(crand.Reader, issuer, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// keySet is the issuer's JSON Web Key Set.
func keySet(t *testing.T, issuer *ecdsa.PrivateKey) string {
	point, err := issuer.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys": [{"kty": "EC", "crv": "P-256", "kid": "harness", "x": %q, "y": %q}]}`, encode(point[1:33]), encode(point[33:]))
}

// Where a token or a key is, which the route draws.
const (
	tokenCookie = "token"
	keyField    = "x-api-key"
)

func (c idCombo) tokenInCookie() bool { return c.auth(authToken) && c.draw("token", 2) == 1 }
func (c idCombo) keyIsBearer() bool   { return c.auth(authKey) && c.draw("key", 2) == 1 }

// access is the rule that says who may use the route.
func (h *identity) access(c idCombo) string {
	switch c[idAuth] {
	case authBasic:
		return fmt.Sprintf("basic_auth: {users_file: %q}", h.credentials.accounts)
	case authForward:
		return fmt.Sprintf(`forward_auth: {to: %q, uri: /ask, copy: [Remote-User, X-Vouched], timeout: 40s, passive_health: "off"}`, h.service)
	case authToken:
		cookie := ""
		if c.tokenInCookie() {
			cookie = ", cookie: " + tokenCookie
		}
		return fmt.Sprintf("jwt: {jwks: %q, issuer: 'https://issuer.test', audience: app, copy: {sub: X-Claim-Sub, roles: X-Claim-Roles}%s}", h.credentials.tokens, cookie)
	case authKey:
		header := ""
		if c.keyIsBearer() {
			header = ", header: Authorization"
		}
		return fmt.Sprintf("api_keys: {file: %q, copy: X-Client%s}", h.credentials.keys, header)
	}
	return ""
}

// credentials are what a request shows: the value of Authorization, more cookies, and more fields.
func (j *idJob) credentials() (authorization, cookie string, fields [][2]string) {
	u := j.user
	authorization = "Bearer " + u.secret("bearer")
	switch c := j.combo; {
	case c.auth(authBasic):
		password := "password of " + j.account()
		if j.rebuffed {
			password = j.marker
		}
		authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(j.account()+":"+password))

	case c.auth(authToken):
		token := u.tokens[j.self()]
		if j.rebuffed {
			token += "AAAA" // the signature is another
		}
		if c.tokenInCookie() {
			cookie = "; " + tokenCookie + "=" + token
		} else {
			authorization = "Bearer " + token
		}

	case c.auth(authKey):
		key := u.keyOf(j.self())
		if j.rebuffed {
			key += "-of-nobody"
		}
		if c.keyIsBearer() {
			authorization = "Bearer " + key
		} else {
			fields = append(fields, [2]string{keyField, key})
		}
	}
	return authorization, cookie, fields
}

// spent is what the target gets of a field whose value was for padlock.
func (j *idJob) spent(name, value string) string {
	c := j.combo
	switch {
	case name == "authorization" && (c.auth(authBasic) || c.auth(authToken) && !c.tokenInCookie() || c.keyIsBearer()), name == keyField && c.auth(authKey):
		return ""
	case name == "cookie" && c.tokenInCookie():
		_, token, _ := j.credentials()
		return strings.Replace(value, token, "", 1)
	}
	return value
}

// idForged are fields by which a client would pass for another.
var idForged = []string{"x-vouched", "x-claim-sub", "x-client"}

// vouched are the fields in which the target learns who the client is. Those of the client's own never get there.
func (j *idJob) vouched() map[string]string {
	name := j.sender()
	switch j.combo[idAuth] {
	case authForward:
		return map[string]string{"Remote-User": name, "X-Vouched": j.marker}
	case authToken:
		return map[string]string{"X-Claim-Sub": name, "X-Claim-Roles": "user," + name}
	case authKey:
		return map[string]string{"X-Client": name}
	}
	return nil
}

// readable reports whether the route refuses the request, as others could read its secret on the way.
func (j *idJob) readable() bool {
	c := j.combo
	return c.plain() && (c.auth(authBasic) || c.auth(authToken) || c.auth(authKey))
}

// known is who the request is known to be from; "": nobody.
func (j *idJob) known() string {
	switch {
	case j.combo.auth(0), j.rebuffed, j.readable(), j.preflighted():
		return ""
	case j.combo.auth(authBasic):
		return j.account()
	}
	return j.sender()
}

// idService is asked about requests by forward_auth, and has pages of errors.
type idService struct{ h *identity }

func (s idService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI != "/ask" {
		s.page(w, r)
		return
	}
	m := firstRequest(r.Header.Get("X-Forwarded-Uri"))
	j := s.h.find(m)
	switch {
	case j == nil:
		s.h.mixed(nil, "service", "a question about a request that was not sent", m, dump(r))
		return
	case j.forgotten():
		return
	}
	for part, text := range headTexts(r) {
		if theirs := stranger(text, m); theirs != "" {
			s.h.mixed(j, "service", "it sees another's "+part, theirs, dump(r))
			return
		}
	}
	if what := j.checkQuestion(r); what != "" {
		s.h.mixed(j, "service", "it is asked what was not sent: "+what, m, dump(r))
	}

	s.h.note("questions")
	head := w.Header()
	head["Set-Cookie"] = []string{j.asked()}
	head.Set("X-Unasked", m)
	if j.rebuffed {
		head.Set("X-Refused", m)
		head.Set("Location", "https://login.test/"+m)
		w.WriteHeader(j.refusal())
		_, _ = w.Write(stamped(m, refusalSize))
		return
	}
	head.Set("Remote-User", j.sender())
	head.Set("X-Vouched", m)
	_, _ = w.Write([]byte(m))
}

const refusalSize = 300

// refusal is the status by which the service refuses.
func (j *idJob) refusal() int { return []int{302, 403}[j.turn>>9&1] }

// asked is the cookie that the service gives to the client.
func (j *idJob) asked() string { return "asked=" + j.marker + "; Path=/" }

// checkQuestion holds what a service is asked against what was sent.
func (j *idJob) checkQuestion(r *http.Request) string {
	if r.Method != "GET" || r.ContentLength != 0 {
		return fmt.Sprintf("%s, with %d bytes of content", r.Method, r.ContentLength)
	}
	for name, want := range map[string]string{
		"X-Forwarded-Uri": j.target, "X-Forwarded-Method": j.method, "X-Original-Url": j.scheme() + "://" + j.host + j.target, "X-Forwarded-Host": j.host,
		"X-Forwarded-Proto": j.scheme(), "X-Forwarded-For": "127.0.0.1", "X-Ssl-Client-Subject": j.subject(), "X-Forwarded-User": "",
	} {
		if got := r.Header.Get(name); got != want {
			return fmt.Sprintf("%s: %q, not %q", name, got, want)
		}
	}
	vouched := j.vouched()
	for _, f := range j.fields {
		name, want := http.CanonicalHeaderKey(f[0]), f[1]
		if _, ours := vouched[name]; ours || f[0] == "te" {
			want = ""
		}
		if what := j.checkField(r.Header, f[0], want); what != "" {
			return what
		}
	}
	return ""
}

// checkField holds a field that a server has got against what it should be.
func (j *idJob) checkField(fields http.Header, name, want string) string {
	got := fields[http.CanonicalHeaderKey(name)]
	if name == "traceparent" && len(got) == 1 && len(got[0]) >= 35 && got[0][3:35] == j.trace() { // the span is another
		return ""
	}
	if strings.Join(got, "|") != want {
		return fmt.Sprintf("%s: %q, not %q", name, got, want)
	}
	return ""
}

// checkRefusal tells what is wrong with the answer of the service that a client gets.
func (j *idJob) checkRefusal(got idGot) string {
	if got.call {
		if cookies := strings.Join(j.own(got.fields["Set-Cookie"]), "|"); cookies != j.asked() || got.fields.Get("X-Refused") != "" {
			return fmt.Sprintf("a refusal of a call with the cookies %q", cookies)
		}
		return ""
	}
	for name, want := range map[string]string{"X-Refused": j.marker, "Location": "https://login.test/" + j.marker, "Set-Cookie": j.asked()} {
		if value := strings.Join(j.own(got.fields[name]), "|"); value != want {
			return fmt.Sprintf("%s of a refusal: %q, not %q", name, value, want)
		}
	}
	if j.method != "HEAD" && (len(got.content) != refusalSize || unstamped(got.content, j.marker) >= 0) {
		return fmt.Sprintf("a refusal of %d bytes", len(got.content))
	}
	return ""
}

// own are values of a field without the cookies that padlock gives.
func (j *idJob) own(values []string) (kept []string) {
	for _, value := range values {
		if !strings.HasPrefix(value, "stick=") && !(strings.HasPrefix(value, idShare+"=") && j.combo[idChosen] == chosenPercent) {
			kept = append(kept, value)
		}
	}
	return kept
}

// checkVouched tells what is wrong with the fields in which a target learns who the client is.
func (j *idJob) checkVouched(fields http.Header) string {
	want := map[string]string{"X-Forwarded-User": j.known(), "X-Unasked": ""}
	maps.Copy(want, j.vouched())
	for name, value := range want {
		if got := strings.Join(fields[name], "|"); got != value {
			return fmt.Sprintf("%s: %q, not %q", name, got, value)
		}
	}
	return ""
}
