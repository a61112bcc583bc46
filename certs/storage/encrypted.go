package storage

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrSealed is what reading a secret gives without the key that it was encrypted with. It is never a reason to replace it.
var ErrSealed = errors.New("encrypted with another storage_key, or without one here")

// sealed begins an encrypted value: this text, a nonce of 12 bytes, the ciphertext with its tag (AES-256-GCM, NIST SP 800-38D).
// The value's key is authenticated with it, so that values cannot be exchanged.
var sealed = []byte("padlock sealed 1\n")

// encrypted seals values with private keys in them before they reach a Store. What stands there in the clear is read as it is,
// and sealed when it is next written.
type encrypted struct {
	backend
	aead cipher.AEAD
}

type backend = Store // as the field of this name cannot stand beside the method

func encrypt(inner Store, key []byte) (Store, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("storage key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	return &encrypted{inner, aead}, err
}

// secret reports whether a value must not be seen.
func secret(key string, value []byte) bool {
	return bytes.Contains(value, []byte("PRIVATE KEY")) || strings.HasPrefix(key, "tickets/")
}

func (e *encrypted) seal(key string, value []byte) ([]byte, error) {
	if !secret(key, value) {
		return value, nil
	}
	nonce := make([]byte, e.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	out := append(bytes.Clone(sealed), nonce...)
	return e.aead.Seal(out, nonce, value, []byte(key)), nil
}

// Store implements certmagic.Storage.
func (e *encrypted) Store(ctx context.Context, key string, value []byte) error {
	value, err := e.seal(key, value)
	if err != nil {
		return fmt.Errorf("encrypting %s: %w", key, err)
	}
	return e.backend.Store(ctx, key, value)
}

// StoreFenced implements Store.
func (e *encrypted) StoreFenced(ctx context.Context, lock, key string, value []byte) error {
	value, err := e.seal(key, value)
	if err != nil {
		return fmt.Errorf("encrypting %s: %w", key, err)
	}
	return e.backend.StoreFenced(ctx, lock, key, value)
}

// Load implements certmagic.Storage.
func (e *encrypted) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := e.backend.Load(ctx, key)
	if err != nil || !Sealed(value) {
		return value, err
	}
	value = value[len(sealed):]
	if len(value) < e.aead.NonceSize() {
		return nil, fmt.Errorf("reading %s: cut short", key)
	}
	nonce, text := value[:e.aead.NonceSize()], value[e.aead.NonceSize():]
	if value, err = e.aead.Open(nil, nonce, text, []byte(key)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, ErrSealed)
	}
	return value, nil
}

// Sealed reports whether a loaded value is still encrypted, as it is when the store was opened without a key.
func Sealed(value []byte) bool { return bytes.HasPrefix(value, sealed) }

// ParseKey reads a storage key: 32 bytes in hexadecimal or base64, or file: and the path of a file that holds them so.
func ParseKey(text string) ([]byte, error) {
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text = string(data)
	}
	text = strings.TrimSpace(text)
	if key, err := hex.DecodeString(text); err == nil && len(key) == 32 {
		return key, nil
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(text); err == nil && len(key) == 32 {
			return key, nil
		}
	}
	return nil, errors.New("must be 32 bytes in base64 or hexadecimal, such as openssl rand -base64 32 prints, or file:PATH")
}
