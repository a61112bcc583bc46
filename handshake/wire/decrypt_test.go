package wire

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"testing"
)

// The label expansion is the standard library's, made without allocations.
func TestExpandLabelIsHKDF(t *testing.T) {
	for length := range 33 {
		secret := bytes.Repeat([]byte{byte(length)}, 32)
		info := string([]byte{0, byte(length), 9}) + "tls13 key\x00"
		want, err := hkdf.Expand(sha256.New, secret, info, length)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, length)
		if expandLabel256(secret, "key", got); !bytes.Equal(got, want) {
			t.Errorf("SHA-256, %d bytes: %x, not %x", length, got, want)
		}
		secret = bytes.Repeat([]byte{byte(length)}, 48)
		if want, err = hkdf.Expand(sha512.New384, secret, info, length); err != nil {
			t.Fatal(err)
		}
		if expandLabel384(secret, "key", got); !bytes.Equal(got, want) {
			t.Errorf("SHA-384, %d bytes: %x, not %x", length, got, want)
		}
	}
}
