package proxy_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"padlock/certs/localca"
	"padlock/proxy"
)

// offered answers for one token, as a node of the storage has offered it.
type offered struct{ host, token string }

func (o offered) AnswerHTTP(w http.ResponseWriter, r *http.Request) bool {
	if r.Host != o.host || r.URL.Path != "/.well-known/acme-challenge/"+o.token {
		return false
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, o.token+".thumbprint")
	return true
}

func (offered) ChallengeCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }

// A CA that was redirected to HTTPS gets its answer before any route, over every protocol. Other tokens are the app's.
func TestACAThatComesByHTTPSIsAnswered(t *testing.T) {
	const path = "/.well-known/acme-challenge/"
	app := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "the app's "+r.URL.Path) })
	e := startWith(t, app, nil, func(_ *localca.CA, deps *proxy.Dependencies) { deps.Challenges = offered{"localhost", "ours"} })
	clients := e.clients(t)
	clients["HTTP/3"] = e.three(t, nil)
	for name, client := range clients {
		for _, c := range []struct{ method, path, want string }{
			{"GET", path + "ours", "ours.thumbprint"}, {"GET", path + "ours?x=1", "ours.thumbprint"}, {"GET", path + "theirs", "the app's " + path + "theirs"},
			{"POST", path + "ours", "the app's " + path + "ours"}, {"GET", "/ours", "the app's /ours"}, {"GET", path, "the app's " + path},
		} {
			response, body := visit(t, client, c.method, "https://localhost"+c.path, "")
			if response.StatusCode != 200 || body != c.want {
				t.Errorf("%s: %s %s: %s %q", name, c.method, c.path, response.Status, body)
			}
		}
	}
}
