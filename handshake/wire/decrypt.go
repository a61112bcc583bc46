package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"
)

// Decrypter opens the records of one direction under a TLS 1.3 traffic secret (RFC 8446 section 5.2). It counts records
// itself.
type Decrypter struct {
	aead     cipher.AEAD
	iv       [12]byte
	nonce    [12]byte
	header   [5]byte // additional data
	sequence uint64
}

// NewDecrypter derives key and IV from a traffic secret (RFC 8446 section 7.3).
func NewDecrypter(suite uint16, secret []byte) (*Decrypter, error) {
	var key [32]byte
	d := &Decrypter{}
	var err error
	switch suite {
	case 0x1301:
		expandLabel256(secret, "key", key[:16])
		expandLabel256(secret, "iv", d.iv[:])
		d.aead, err = gcm(key[:16])
	case 0x1302:
		expandLabel384(secret, "key", key[:])
		expandLabel384(secret, "iv", d.iv[:])
		d.aead, err = gcm(key[:])
	case 0x1303:
		expandLabel256(secret, "key", key[:])
		expandLabel256(secret, "iv", d.iv[:])
		d.aead, err = chacha20poly1305.New(key[:])
	default:
		return nil, ErrMalformed
	}

	return d, err
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// expandLabel256 is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1), for outputs of at most one hash.
// crypto/hkdf does the same with a dozen allocations, which every record here would pay for four times. The secret is
// no longer than a hash.
func expandLabel256(secret []byte, label string, out []byte) {
	var inner, outer [2 * sha256.BlockSize]byte
	n := pads(secret, inner[:sha256.BlockSize], outer[:sha256.BlockSize], inner[sha256.BlockSize:], label, len(out))
	sum := sha256.Sum256(inner[:sha256.BlockSize+n])
	sum = sha256.Sum256(append(outer[:sha256.BlockSize], sum[:]...))
	copy(out, sum[:])
}

func expandLabel384(secret []byte, label string, out []byte) {
	var inner, outer [2 * sha512.BlockSize]byte
	n := pads(secret, inner[:sha512.BlockSize], outer[:sha512.BlockSize], inner[sha512.BlockSize:], label, len(out))
	sum := sha512.Sum384(inner[:sha512.BlockSize+n])
	sum = sha512.Sum384(append(outer[:sha512.BlockSize], sum[:]...))
	copy(out, sum[:])
}

// pads fills HMAC's two blocks (RFC 2104) and puts HKDF's info and counter behind the inner one; it returns their
// length.
func pads(secret, inner, outer, info []byte, label string, length int) int {
	for i := range inner {
		inner[i], outer[i] = 0x36, 0x5c
		if i < len(secret) {
			inner[i] ^= secret[i]
			outer[i] ^= secret[i]
		}
	}
	const prefix = "tls13 "
	info = append(info[:0], byte(length>>8), byte(length), byte(len(prefix)+len(label)))
	info = append(append(append(info, prefix...), label...), 0, 1)
	return len(info)
}

// Open decrypts one record behind dst, and returns its inner type and content without padding.
// A record that does not open leaves the sequence number alone.
func (d *Decrypter) Open(dst []byte, r Record) (kind byte, content []byte, ok bool) {
	d.nonce = d.iv
	// The nonce is the IV with the record's sequence number XORed into its end (RFC 8446 section 5.3).
	low := d.nonce[len(d.nonce)-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^d.sequence)
	n := len(r.Fragment)
	d.header = [5]byte{r.Type, byte(r.Version >> 8), byte(r.Version), byte(n >> 8), byte(n)}
	plain, err := d.aead.Open(dst, d.nonce[:], r.Fragment, d.header[:])
	if err != nil {
		return 0, nil, false
	}
	plain = plain[len(dst):]
	d.sequence++
	// Padding is zeros behind the inner type (RFC 8446 section 5.4).
	for len(plain) > 0 && plain[len(plain)-1] == 0 {
		plain = plain[:len(plain)-1]
	}

	// A record of zeros alone has no type, which section 5.4 makes an error.
	if len(plain) == 0 {
		return 0, nil, false
	}

	return plain[len(plain)-1], plain[:len(plain)-1], true
}
