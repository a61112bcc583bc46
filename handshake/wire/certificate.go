package wire

import "golang.org/x/crypto/cryptobyte"

// ParseCertificate returns the DER chain of a Certificate message, leaf first.
// TLS 1.3 puts a request context before the list and extensions behind each entry (RFC 8446 section 4.4.2); 1.2 has neither.
func ParseCertificate(body []byte, tls13 bool) ([][]byte, error) {
	s := cryptobyte.String(body)
	var context, list cryptobyte.String
	if tls13 && !s.ReadUint8LengthPrefixed(&context) {
		return nil, ErrMalformed
	}
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, ErrMalformed
	}
	var chain [][]byte
	for !list.Empty() {
		var der, extensions cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) || (tls13 && !list.ReadUint16LengthPrefixed(&extensions)) {
			return nil, ErrMalformed
		}
		chain = append(chain, der)
	}
	return chain, nil
}

// ParseCertificateVerify returns the signature scheme (RFC 8446 section 4.4.3).
func ParseCertificateVerify(body []byte) (scheme uint16, err error) {
	s := cryptobyte.String(body)
	if !s.ReadUint16(&scheme) {
		return 0, ErrMalformed
	}
	return scheme, nil
}

// ParseServerKeyExchange returns group and signature scheme of an ECDHE key exchange (RFC 8422 section 5.4).
func ParseServerKeyExchange(body []byte) (group, scheme uint16, err error) {
	const namedCurve = 3
	s := cryptobyte.String(body)
	var kind uint8
	var public cryptobyte.String
	if !s.ReadUint8(&kind) || kind != namedCurve || !s.ReadUint16(&group) || !s.ReadUint8LengthPrefixed(&public) || !s.ReadUint16(&scheme) {
		return 0, 0, ErrMalformed
	}
	return group, scheme, nil
}
