package gateway

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/internal/jwks"
	"padlock/internal/mask"
	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// issuers have the keys that are fetched, for all sites and over reloads. They are safe for use from many goroutines.
type issuers struct {
	mu  sync.Mutex
	all map[string]*jwks.Remote
}

// of finds the keys of a rule, or begins to fetch them.
func (i *issuers) of(j *sites.JWT, log *slog.Logger) jwks.Keys {
	if j.Set != nil {
		return j.Set
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.all == nil {
		i.all = map[string]*jwks.Remote{}
	}

	key := issuerKey(j)
	if i.all[key] == nil {
		i.all[key] = jwks.NewRemote(jwks.RemoteOptions{URL: j.JWKS, Shown: mask.URL(j.JWKS), Roots: rootsOf(j.Roots), Keep: j.KeepKeys, Log: log})
	}
	i.all[key].Prepare()
	return i.all[key]
}

func issuerKey(j *sites.JWT) string {
	key := fmt.Sprintf("%s\n%v\n", j.JWKS, j.KeepKeys)
	for _, ca := range j.Roots {
		key += string(ca.Raw)
	}
	return key
}

func rootsOf(cas []*x509.Certificate) *x509.CertPool {
	if cas == nil {
		return nil
	}
	roots := x509.NewCertPool()
	for _, ca := range cas {
		roots.AddCert(ca)
	}
	return roots
}

// keep ends fetching what a snapshot does not ask for.
func (i *issuers) keep(s *sites.Snapshot) {
	kept := map[string]bool{}
	for _, site := range s.Sites {
		for _, route := range site.Routes {
			if j := route.JWT(site); j != nil {
				kept[issuerKey(j)] = true
			}
		}
	}
	i.end(func(key string) bool { return !kept[key] })
}

func (i *issuers) close() { i.end(func(string) bool { return true }) }

func (i *issuers) end(over func(key string) bool) {
	i.mu.Lock()
	var ended []*jwks.Remote
	for key, remote := range i.all {
		if over(key) {
			ended = append(ended, remote)
			delete(i.all, key)
		}
	}
	i.mu.Unlock()
	for _, remote := range ended {
		remote.Close()
	}
}

// tokened finds out whose token a client shows, and refuses whoever shows none that is good (RFC 6750).
func (h *Gateway) tokened(j *sites.JWT) func(*message.Context, *Exchange) error {
	keys := h.issuers.of(j, h.Log)
	return func(ctx *message.Context, x *Exchange) error {
		if !x.secure() {
			return readable("a token")
		}
		text, err := shownToken(j, x.request.Fields)
		if err != nil {
			return err
		}

		token, err := jwks.Verify(ctx, text, keys, &j.Rules, time.Now())
		switch {
		case ctx.Err() != nil:
			return errGone
		case errors.Is(err, jwks.ErrKeys):
			page := busy(503, "Tokens cannot be verified at the moment")
			page.Cause = "jwt: " + err.Error()
			return page
		case err != nil:
			return noToken(401, "This token is not good here", "jwt: "+err.Error(), `, error="invalid_token"`)
		}
		if claim := lacking(token, j.Claims); claim != "" {
			return noToken(403, "This token does not allow this", "jwt: the claim "+claim+" has none of the values that this needs", `, error="insufficient_scope"`)
		}

		x.believe(j, token)
		return nil
	}
}

// noToken is a refusal with its challenge (RFC 6750 section 3).
func noToken(status int, text, cause, more string) error {
	return &StatusError{Status: status, Text: text, Cause: cause, Fields: message.Fields{{Name: "WWW-Authenticate", Value: `Bearer realm="padlock"` + more}}}
}

// shownToken is the only token that a request has. Of two, the target might go by the one that was not verified.
func shownToken(j *sites.JWT, fields message.Fields) (string, error) {
	var shown []string
	if j.Header != "" {
		for value := range fields.Lines(j.Header) {
			scheme, rest, spaced := strings.Cut(value, " ")
			switch bearer := spaced && message.Is(scheme, "Bearer"); {
			case bearer:
				shown = append(shown, strings.Trim(rest, " "))
			case message.Is(j.Header, "Authorization"):
				shown = append(shown, "")
			default:
				shown = append(shown, value)
			}
		}
	}
	if j.Cookie != "" {
		shown = slices.AppendSeq(shown, fields.Cookies(j.Cookie))
	}

	switch {
	case len(shown) > 1, j.Cookie != "" && len(shown) > 0 && fields.CookieAliased(j.Cookie):
		return "", noToken(400, "A request has one token", "jwt: several tokens", `, error="invalid_request"`)
	case len(shown) == 0 || shown[0] == "":
		return "", noToken(401, "A token is needed", "jwt: no token", "")
	}
	return shown[0], nil
}

// lacking is a claim that a token does not have as it must; "" for none.
func lacking(token *jwks.Token, claims map[string][]string) string {
	for name, wanted := range claims {
		has := jwks.Texts(token.Claim(name))
		if len(has) == 1 && (name == "scope" || name == "scp") {
			has = strings.Fields(has[0])
		}
		if !slices.ContainsFunc(wanted, func(value string) bool { return slices.Contains(has, value) }) {
			return name
		}
	}
	return ""
}

// maxClaim is how long a claim may be that is passed on.
const maxClaim = 4 << 10

// believe takes from a token what it says of the client.
func (x *Exchange) believe(j *sites.JWT, token *jwks.Token) {
	x.proof.token, x.proof.rule = token, j.JWT
	if user, ok := token.Claim(j.User).(string); ok && said(user) {
		x.user = user
	}
	for claim, name := range j.Copy {
		// A comma within an item would make two of it.
		values := slices.DeleteFunc(jwks.Texts(token.Claim(claim)), func(value string) bool { return !said(value) })
		if _, list := token.Claim(claim).([]any); list {
			values = slices.DeleteFunc(values, func(value string) bool { return strings.Contains(value, ",") })
		}
		if value := strings.Join(values, ","); len(values) > 0 && len(value) <= maxClaim {
			x.proof.copied.Add(name, value)
		}
	}

	if j.Forward {
		return
	}
	if j.Header != "" {
		x.proof.spent = append(x.proof.spent, j.Header)
	}
	x.proof.cookie = j.Cookie
}

// said reports whether a claim can stand in a field.
func said(value string) bool {
	return value != "" && len(value) <= maxClaim && message.FieldValue(value) && strings.Trim(value, " \t") == value
}
