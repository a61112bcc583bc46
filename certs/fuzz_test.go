package certs

import (
	"crypto/sha256"
	"log/slog"
	"testing"
)

// Whatever stands in a file or in an import, reading it ends, and what it makes has a key and a chain.
func FuzzFile(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "")
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "x")
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		m := &material{files: map[string][sha256.Size]byte{}}
		if m.pem("", data, slog.New(slog.DiscardHandler)) != nil {
			return
		}
		pairs, _ := m.pairs(nil)
		for _, pair := range pairs {
			if pair.PrivateKey == nil || len(pair.Certificate.Certificate) == 0 || pair.Leaf == nil {
				t.Error("half a pair")
			}
		}
		_ = m.pkcs12("x", data, password)
	})
}
