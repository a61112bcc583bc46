package pki

import (
	"crypto"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// tbs is a certificate's outer structure (RFC 5280 section 4.1).
type tbs struct {
	Content   asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// Flip changes a bit of a certificate's signature.
func (m *Maker) Flip(der []byte) []byte {
	if m.err != nil {
		return nil
	}
	out := append([]byte(nil), der...)
	// The last byte belongs to the signature whatever its kind, and stays a valid integer of ECDSA.
	out[len(out)-1] ^= 1
	return out
}

// MD5 signs a certificate that an RSA key has signed with SHA-256 anew, with MD5, which crypto/x509 refuses to do.
func (m *Maker) MD5(der []byte, key *rsa.PrivateKey) []byte {
	if m.err != nil {
		return nil
	}
	var outer tbs
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		m.fail("signing with MD5", err)
		return nil
	}

	// Both algorithms have names of equal length: 1.2.840.113549.1.1.11 and .4.
	content := replaceOnce(outer.Content.FullBytes, oidSHA256WithRSA, oidMD5WithRSA)
	sum := md5.Sum(content)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.MD5, sum[:])
	if err != nil {
		m.fail("signing with MD5", err)
		return nil
	}

	outer.Content = asn1.RawValue{FullBytes: content}
	outer.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}, Parameters: asn1.NullRawValue}
	outer.Signature = asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}
	signed, err := asn1.Marshal(outer)
	m.fail("signing with MD5", err)
	return signed
}

var (
	oidSHA256WithRSA = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}
	oidMD5WithRSA    = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04}
)

func replaceOnce(data, from, to []byte) []byte {
	out := append([]byte(nil), data...)
	for i := 0; i+len(from) <= len(out); i++ {
		if string(out[i:i+len(from)]) == string(from) {
			copy(out[i:], to)
			return out
		}
	}
	return out
}
