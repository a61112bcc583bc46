package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// Decrypter opens the records of one direction under a TLS 1.3 traffic secret (RFC 8446 section 5.2). It counts records itself.
type Decrypter struct {
	aead     cipher.AEAD
	iv       []byte
	sequence uint64
}

// NewDecrypter derives key and IV from a traffic secret (RFC 8446 section 7.3).
func NewDecrypter(suite uint16, secret []byte) (*Decrypter, error) {
	newHash, keySize := sha256.New, 16
	newAEAD := func(key []byte) (cipher.AEAD, error) {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}
	switch suite {
	case 0x1301:
	case 0x1302:
		newHash, keySize = sha512.New384, 32
	case 0x1303:
		keySize, newAEAD = 32, chacha20poly1305.New
	default:
		return nil, ErrMalformed
	}
	key, err := expandLabel(newHash, secret, "key", keySize)
	if err != nil {
		return nil, err
	}
	d := &Decrypter{}
	if d.iv, err = expandLabel(newHash, secret, "iv", 12); err != nil {
		return nil, err
	}
	d.aead, err = newAEAD(key)
	return d, err
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
func expandLabel[H hash.Hash](newHash func() H, secret []byte, label string, length int) ([]byte, error) {
	const prefix = "tls13 "
	info := []byte{byte(length >> 8), byte(length), byte(len(prefix) + len(label))}
	info = append(append(append(info, prefix...), label...), 0)
	return hkdf.Expand(newHash, secret, string(info), length)
}

// Open decrypts one record into a buffer of its own, and returns its inner type and content without padding.
// A record that does not open leaves the sequence number alone.
func (d *Decrypter) Open(r Record) (kind byte, content []byte, ok bool) {
	nonce := make([]byte, len(d.iv))
	binary.BigEndian.PutUint64(nonce[len(nonce)-8:], d.sequence)
	for i := range nonce {
		nonce[i] ^= d.iv[i]
	}
	plain, err := d.aead.Open(nil, nonce, r.Fragment, r.Header())
	if err != nil {
		return 0, nil, false
	}
	d.sequence++
	for len(plain) > 0 && plain[len(plain)-1] == 0 {
		plain = plain[:len(plain)-1]
	}
	if len(plain) == 0 {
		return 0, nil, false
	}
	return plain[len(plain)-1], plain[:len(plain)-1], true
}
