package gateway

import (
	"crypto/sha256"
	"strings"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// keyed finds out whose key a client shows, and refuses whoever shows none that is known.
func keyed(k *sites.APIKeys) func(*message.Context, *Exchange) error {
	bearer := message.Is(k.Header, "Authorization")
	challenge := `ApiKey realm="padlock"`
	if bearer {
		challenge = `Bearer realm="padlock"`
	}
	refuse := func(text, cause, more string) error {
		return &StatusError{Status: 401, Text: text, Cause: "api_keys: " + cause, Fields: message.Fields{{Name: "WWW-Authenticate", Value: challenge + more}}}
	}

	return func(_ *message.Context, x *Exchange) error {
		if !x.secure() {
			return readable("a key")
		}
		// Of two, the target might go by the other.
		shown, ok := single(x.request.Fields.Lines(k.Header))
		if bearer {
			var scheme string
			scheme, shown, _ = strings.Cut(shown, " ")
			ok = ok && message.Is(scheme, "Bearer")
		}
		if !ok {
			return refuse("A key is needed", "no key, or several", "")
		}

		key, known := k.Find(sha256.Sum256([]byte(strings.Trim(shown, " "))))
		if !known {
			return refuse("This key is not known here", "the key is not in "+k.File, invalid(bearer))
		}

		x.user, x.proof.key = key.Name, key
		if !k.Forward {
			x.proof.spent = append(x.proof.spent, k.Header)
		}
		if k.Copy != "" {
			x.proof.copied.Add(k.Copy, key.Name)
		}
		return nil
	}
}

// invalid is what RFC 6750 section 3.1 adds to the challenge for a token that was shown and is not good.
func invalid(bearer bool) string {
	if bearer {
		return `, error="invalid_token"`
	}
	return ""
}
