package jwks

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // for thumbprints
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Set is a JSON Web Key Set's keys for signatures. It never changes.
type Set struct{ keys []jose.JSONWebKey }

const (
	// MaxSet is the size of the largest set, in bytes.
	MaxSet  = 1 << 20
	maxKeys = 256
	minRSA  = 2048 // bits (RFC 7518 section 3.3)
)

// Parse reads a set. Keys of other kinds, or for other uses, are left out; a set without any that verifies a signature
// is an error.
func Parse(data []byte) (*Set, error) {
	var file struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if len(data) > MaxSet {
		return nil, fmt.Errorf("is larger than %d MiB", MaxSet>>20)
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("is not a JSON Web Key Set: %w", err)
	}
	if len(file.Keys) > maxKeys {
		return nil, fmt.Errorf("has more than %d keys", maxKeys)
	}

	s := &Set{}
	for _, raw := range file.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil && usable(&key) {
			s.keys = append(s.keys, key)
		}
	}
	if len(s.keys) == 0 {
		return nil, errors.New("has no public key for signatures")
	}
	return s, nil
}

// usable reports whether a key verifies signatures. A secret is none that a set would publish, and neither is a private
// key: whoever has read it could sign.
func usable(k *jose.JSONWebKey) bool {
	if !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
		return false
	}
	if key, ok := k.Key.(*rsa.PublicKey); ok {
		return key.N.BitLen() >= minRSA
	}
	return true
}

// fits reports whether a key is one for an algorithm.
func fits(k *jose.JSONWebKey, algorithm string) bool {
	if k.Algorithm != "" && k.Algorithm != algorithm {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		curve := map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
		return key.Params().Name == curve
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}

// Find implements Keys.
func (s *Set) Find(_ context.Context, id string) (found []jose.JSONWebKey, _ error) {
	if id == "" {
		return s.keys, nil
	}
	for _, k := range s.keys {
		// A key without an ID may be the one.
		if k.KeyID == id || k.KeyID == "" {
			found = append(found, k)
		}
	}
	return found, nil
}

// Has reports whether a key with a thumbprint is there.
func (s *Set) Has(print string) bool {
	for i := range s.keys {
		if thumbprint(&s.keys[i]) == print {
			return true
		}
	}
	return false
}

// thumbprint names a key (RFC 7638).
func thumbprint(k *jose.JSONWebKey) string {
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}
