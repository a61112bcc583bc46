package certs

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"padlock/internal/ber"
)

// openPKCS12 reads a file in DER, or in BER as NSS, Bouncy Castle and others write it.
func openPKCS12(data []byte, password string) (key any, leaf *x509.Certificate, chain []*x509.Certificate, err error) {
	key, leaf, chain, err = pkcs12.DecodeChain(data, password)
	if err == nil || errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return key, leaf, chain, err
	}

	outside, bad := ber.DER(data)
	if bad != nil {
		return nil, nil, nil, err
	}
	key, leaf, chain, inner := pkcs12.DecodeChain(outside, password)
	// The password has been checked, whatever else is wrong.
	if inner == nil || errors.Is(inner, pkcs12.ErrIncorrectPassword) {
		return key, leaf, chain, inner
	}

	whole, bad := withoutBER(outside, password)
	if bad != nil {
		return nil, nil, nil, err
	}

	return pkcs12.DecodeChain(whole, password)
}

// The structures of RFC 7292 section 4 and RFC 5652, as far as they are taken apart here.
type (
	pfx struct {
		Version int
		Safe    contentInfo
		MAC     asn1.RawValue `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional"` // [0] EXPLICIT
	}
	encryptedData struct {
		Version int
		Info    struct {
			Type      asn1.ObjectIdentifier
			Algorithm asn1.RawValue
			Content   asn1.RawValue `asn1:"optional"` // [0] IMPLICIT OCTET STRING
		}
	}
	macData struct {
		Digest struct {
			Algorithm algorithm
			Digest    []byte
		}
		Salt       []byte
		Iterations int
	}
	algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters any
	}
	pbmac1 struct{ KDF, MAC algorithm }
	kdf    struct {
		Salt       []byte
		Iterations int
		Length     int
		PRF        algorithm
	}
)

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncrypted  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidPBMAC1     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
)

// withoutBER makes DER of what is inside a file that is DER outside. The file's MAC is over the bytes as they were,
// and has been verified; another one, over what they have become, takes its place.
func withoutBER(outside []byte, password string) ([]byte, error) {
	var file pfx
	if err := unmarshal(outside, &file); err != nil {
		return nil, err
	}
	safe, err := octets(file.Safe.Content.Bytes)
	if err != nil {
		return nil, err
	}

	if safe, err = ber.DER(safe); err != nil {
		return nil, err
	}

	var contents []contentInfo
	if err := unmarshal(safe, &contents); err != nil {
		return nil, err
	}

	for i := range contents {
		if contents[i].Content, err = explicit(contents[i]); err != nil {
			return nil, err
		}
	}

	if safe, err = asn1.Marshal(contents); err != nil {
		return nil, err
	}

	mac, err := asn1.Marshal(newMAC(safe, password))
	if err != nil {
		return nil, err
	}

	content, err := asn1.Marshal(safe)
	if err != nil {
		return nil, err
	}
	file.Safe.Content, file.MAC = tagged(content), asn1.RawValue{FullBytes: mac}
	return asn1.Marshal(file)
}

// explicit is the content of one part, which is DER but for what lies in its octet string, or in place of one.
func explicit(c contentInfo) (asn1.RawValue, error) {
	switch {
	case c.Type.Equal(oidData):
		inside, err := octets(c.Content.Bytes)
		if err != nil {
			return asn1.RawValue{}, err
		}
		if der, err := ber.DER(inside); err == nil {
			inside = der
		}

		content, err := asn1.Marshal(inside)
		return tagged(content), err
	case c.Type.Equal(oidEncrypted):
		var data encryptedData
		if err := unmarshal(c.Content.Bytes, &data); err != nil {
			return asn1.RawValue{}, err
		}

		// An implicit tag hides that this is an octet string in pieces.
		if data.Info.Content.IsCompound {
			whole, err := joined(data.Info.Content.Bytes)
			if err != nil {
				return asn1.RawValue{}, err
			}
			data.Info.Content = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: whole}
		}

		content, err := asn1.Marshal(data)
		return tagged(content), err
	}
	return c.Content, nil
}

func tagged(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content}
}

func octets(der []byte) (content []byte, err error) {
	err = unmarshal(der, &content)
	return content, err
}

func joined(der []byte) (all []byte, err error) {
	for len(der) > 0 {
		var part []byte
		if der, err = asn1.Unmarshal(der, &part); err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = errors.New("data follows the value")
	}
	return err
}

// newMAC is a PBMAC1 (RFC 9579). It protects nothing: the file has been read already, and this one never leaves the
// process.
func newMAC(safe []byte, password string) macData {
	var m macData
	salt := make([]byte, 8)
	prf := algorithm{oidHMACSHA256, asn1.NullRawValue}
	m.Digest.Algorithm = algorithm{oidPBMAC1, pbmac1{algorithm{oidPBKDF2, kdf{salt, 1, sha256.Size, prf}}, prf}}
	m.Salt, m.Iterations = salt, 1
	if key, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size); err == nil {
		h := hmac.New(sha256.New, key)
		h.Write(safe)
		m.Digest.Digest = h.Sum(nil)
	}
	return m
}
