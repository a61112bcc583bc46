package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signer makes tokens of one key.
type signer struct {
	key *ecdsa.PrivateKey
	id  string
}

func newSigner(t *testing.T, id string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key, id}
}

// token has claims that are good, and others; a claim that is nil is left out.
func (s *signer) token(claims map[string]any) string {
	all := map[string]any{"iss": "https://login.test/", "aud": "app", "sub": "ada", "scope": "read write", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	encode := func(v any) string {
		data, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := encode(map[string]string{"alg": "ES256", "kid": s.id}) + "." + encode(all)
	sum := sha256.Sum256([]byte(signed))
	r, v, _ := ecdsa.Sign(rand.Reader, s.key, sum[:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...))
}

func (s *signer) set() []byte {
	data, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &s.key.PublicKey, KeyID: s.id}}})
	return data
}

func (s *signer) file(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "jwks.json")
	write(t, file, s.set())
	return file
}

// A token of the issuer gets its client in and tells the target who that is; no other does, and none reaches the target or the log.
func TestTokensSayWhoAClientIs(t *testing.T) {
	t.Parallel()
	s, other := newSigner(t, "one"), newSigner(t, "one")
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "user %q mail %q groups %q token %q cookie %q", r.Header["X-Forwarded-User"], r.Header["X-Email"], r.Header["X-Groups"], r.Header.Get("Authorization")+r.Header.Get("X-Token"), r.Header.Get("Cookie"))
	})
	e := startFile(t, `
access_log: {headers: [X-Token, Authorization]}
sites:
  - hosts: [localhost]
    jwt: {jwks: %[1]q, issuer: "https://login.test/", audience: [app, api], copy: {email: X-Email, groups: X-Groups}}
    routes:
      - {to: %[2]q}
      - {path: /write, jwt: {jwks: %[1]q, issuer: "https://login.test/", audience: app, claims: {scope: [admin, write], "realm.roles": editor}, forward: true}, to: %[2]q}
      - {path: /cookie, jwt: {jwks: %[1]q, issuer: "https://login.test/", audience: app, cookie: session, header: X-Token}, to: %[2]q}
      - {path: /php, jwt: {jwks: %[1]q, issuer: "https://login.test/", audience: app, cookie: app_token, header: X-Token}, to: %[2]q}
`, s.file(t), app)
	const none, bad, scope = `Bearer realm="padlock"`, `Bearer realm="padlock", error="invalid_token"`, `Bearer realm="padlock", error="insufficient_scope"`
	editor := s.token(map[string]any{"realm": map[string]any{"roles": []string{"editor"}}})
	for name, client := range e.everyClient(t) {
		for _, c := range []struct {
			path      string
			fields    []string
			status    int
			challenge string
			body      string
		}{
			{"/", nil, 401, none, ""}, {"/", []string{"Authorization", "Basic YTpi"}, 401, none, ""}, {"/", []string{"Authorization", "Bearer"}, 401, none, ""}, {"/", []string{"Cookie", "session=" + s.token(nil)}, 401, none, ""},
			{"/", []string{"Authorization", "Bearer x.y.z"}, 401, bad, ""}, {"/", []string{"Authorization", "Bearer " + other.token(nil)}, 401, bad, ""}, {"/", []string{"Authorization", "Bearer " + s.token(map[string]any{"aud": "web"})}, 401, bad, ""},
			{"/", []string{"Authorization", "Bearer " + s.token(map[string]any{"exp": 1})}, 401, bad, ""}, {"/", []string{"Authorization", "Bearer " + s.token(nil) + ", Bearer " + s.token(nil)}, 401, bad, ""},
			{"/", []string{"Authorization", "bearer  " + s.token(map[string]any{"email": "a@x.test", "groups": []string{"staff", "a,root", "chess"}}), "X-Email", "FORGED", "x_groups", "FORGED", "X-Forwarded-User", "FORGED"}, 200, "", `user ["ada"] mail ["a@x.test"] groups ["staff,chess"] token "" cookie ""`},
			{"/", []string{"Authorization", "Bearer " + s.token(map[string]any{"email": "a\r\nX-Groups: root", "groups": map[string]any{"root": true}, "sub": 7}), "X-Email", "FORGED"}, 200, "", `user [] mail [] groups [] token "" cookie ""`},
			{"/write", []string{"Authorization", "Bearer " + s.token(nil)}, 403, scope, ""}, {"/write", []string{"Authorization", "Bearer " + s.token(map[string]any{"scope": "writer", "realm.roles": "editor"})}, 403, scope, ""},
			{"/write", []string{"Authorization", "Bearer " + editor}, 200, "", `user ["ada"] mail [] groups [] token "Bearer ` + editor + `" cookie ""`},
			{"/cookie", []string{"Cookie", "a=b; session=" + editor + "; c=d"}, 200, "", `user ["ada"] mail [] groups [] token "" cookie "a=b; c=d"`}, {"/cookie", []string{"X-Token", editor, "Cookie", "c=d"}, 200, "", `user ["ada"] mail [] groups [] token "" cookie "c=d"`},
			{"/cookie", []string{"X-Token", editor, "Cookie", "session=x"}, 400, `Bearer realm="padlock", error="invalid_request"`, ""}, {"/cookie", []string{"Cookie", "session=" + editor + "; session=" + editor}, 400, `Bearer realm="padlock", error="invalid_request"`, ""},
			// PHP reads app.token as app_token.
			{"/php", []string{"Cookie", "app.token=FORGED; app_token=" + editor}, 400, `Bearer realm="padlock", error="invalid_request"`, ""}, {"/php", []string{"Cookie", "app_token=" + editor + "; app_token[x]=FORGED"}, 400, `Bearer realm="padlock", error="invalid_request"`, ""},
			{"/php", []string{"Cookie", "app.token=FORGED", "X-Token", editor}, 400, `Bearer realm="padlock", error="invalid_request"`, ""}, {"/php", []string{"Cookie", "app.token=" + editor}, 401, `Bearer realm="padlock"`, ""},
			{"/php", []string{"Cookie", "app-token=b; app_token=" + editor}, 200, "", `user ["ada"] mail [] groups [] token "" cookie "app-token=b"`},
		} {
			response, body := fetch(t, client, "GET", "https://localhost"+c.path, c.fields...)
			if response.StatusCode != c.status || response.Header.Get("WWW-Authenticate") != c.challenge || c.body != "" && body != c.body {
				t.Errorf("%s %s %.60q: %s %q %s", name, c.path, c.fields, response.Status, response.Header.Get("WWW-Authenticate"), body)
			}
		}
	}
	if answer := e.sayFields(t, "Authorization: Bearer "+s.token(nil), "authorization: Bearer x"); !strings.HasPrefix(answer, "HTTP/1.1 400") {
		t.Errorf("two tokens: %s", answer)
	}
	if err := e.stop(); err != nil { // the log is written whole
		t.Error(err)
	}
	log := e.access.String()
	if parts := strings.Split(editor, "."); strings.Contains(log, parts[0]) || strings.Contains(log, parts[1]) || strings.Contains(log, parts[2]) || !strings.Contains(log, `"user":"ada"`) || !strings.Contains(log, "jwt: the token has expired") {
		t.Errorf("the access log: %s", log)
	}
}

// Keys that are fetched are fetched once, follow a change of the issuer's, and are good while the issuer is away; where there are none, the client hears that it is not its token.
func TestKeysOfTokensAreFetched(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t, "one"), newSigner(t, "two")
	var current atomic.Pointer[signer]
	var asked atomic.Int32
	issuer := backend(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if s := current.Load(); s != nil {
			_, _ = w.Write(s.set())
			return
		}
		w.WriteHeader(500)
	})
	file := `sites: [{hosts: [localhost], routes: [{jwt: {jwks: %q, issuer: "https://login.test/", audience: app}, respond: {body: in}}]}]`
	away := startFile(t, file, issuer)
	client := away.clients(t)["h2"]
	if response, _ := fetch(t, client, "GET", "https://localhost/", "Authorization", "Bearer "+one.token(nil)); response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("without keys: %s", response.Status)
	}

	current.Store(one)
	asked.Store(0)
	e := startFile(t, file, issuer)
	client = e.clients(t)["h2"]
	get := func(s *signer) int {
		response, _ := fetch(t, client, "GET", "https://localhost/", "Authorization", "Bearer "+s.token(nil))
		return response.StatusCode
	}
	for range 5 {
		if status := get(one); status != 200 {
			t.Fatalf("by the key that was fetched: %d", status)
		}
	}
	if err := e.server.Reload(e.config, nil); err != nil {
		t.Fatal(err)
	}
	current.Store(nil)
	if get(one) != 200 || get(two) != 401 || asked.Load() != 1 {
		t.Errorf("by the keys that are known, and another: %d %d, fetched %d times", get(one), get(two), asked.Load())
	}
}

// A key that is taken out of its file is good no more, and what its tokens have opened ends.
func TestKeysOfTokensFollowTheirFile(t *testing.T) {
	t.Parallel()
	s, other := newSigner(t, "one"), newSigner(t, "one")
	file := s.file(t)
	e := startFile(t, `sites: [{hosts: [localhost], jwt: {jwks: %q, issuer: "https://login.test/", audience: app}, routes: [{to: %q}]}]`, file, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	client := e.clients(t)["h2"]
	request, _ := http.NewRequest("GET", "https://localhost/stream", nil)
	request.Header.Set("Authorization", "Bearer "+s.token(nil))
	stream, err := client.Do(request)
	if err != nil || stream.StatusCode != 200 {
		t.Fatal(stream, err)
	}
	defer stream.Body.Close()
	write(t, file, other.set())
	if n, err := stream.Body.Read(make([]byte, 1)); err == nil {
		t.Errorf("what was open goes on: %d", n)
	}
	if response, _ := fetch(t, client, "GET", "https://localhost/", "Authorization", "Bearer "+other.token(nil)); response.StatusCode != 200 {
		t.Errorf("by the new key: %s", response.Status)
	}
	if response, _ := fetch(t, client, "GET", "https://localhost/", "Authorization", "Bearer "+s.token(nil)); response.StatusCode != 401 {
		t.Errorf("by the old key: %s", response.Status)
	}
}
