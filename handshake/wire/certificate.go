package wire

import (
	"bytes"
	"compress/zlib"
	"io"

	"golang.org/x/crypto/cryptobyte"
)

// Certificate is a Certificate message: DER, leaf first, and what came stapled to the leaf.
type Certificate struct {
	Chain      [][]byte
	StapleSize int // bytes of the leaf's OCSP response
	SCTs       int // signed certificate timestamps (RFC 6962) of the leaf
}

// ParseCertificate reads a Certificate message. TLS 1.3 puts a request context before the list and extensions behind
// each entry (RFC 8446 section 4.4.2); 1.2 has neither.
func ParseCertificate(body []byte, tls13 bool) (*Certificate, error) {
	s := cryptobyte.String(body)
	var context, list cryptobyte.String
	if tls13 && !s.ReadUint8LengthPrefixed(&context) {
		return nil, ErrMalformed
	}
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, ErrMalformed
	}

	c := &Certificate{}
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) {
			return nil, ErrMalformed
		}
		c.Chain = append(c.Chain, der)
		if tls13 && !c.extensions(&list, len(c.Chain) == 1) {
			return nil, ErrMalformed
		}
	}

	return c, nil
}

// extensions reads what follows an entry; only the leaf's is kept.
func (c *Certificate) extensions(s *cryptobyte.String, leaf bool) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}

	for !list.Empty() {
		var id uint16
		var data cryptobyte.String
		if !list.ReadUint16(&id) || !list.ReadUint16LengthPrefixed(&data) {
			return false
		}

		switch {
		case leaf && id == extStatusRequest:
			c.StapleSize = len(data)
		case leaf && id == extSCT:
			c.SCTs = countSCTs(data)
		}
	}

	return true
}

func countSCTs(data cryptobyte.String) (n int) {
	var list, sct cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return 0
	}
	for list.ReadUint16LengthPrefixed(&sct) {
		n++
	}
	return n
}

// CompressedCertificate is RFC 8879 section 4.
type CompressedCertificate struct {
	Algorithm        uint16
	UncompressedSize int
	Compressed       []byte
}

// ParseCompressedCertificate reads the message; Decompress gives the Certificate message inside.
func ParseCompressedCertificate(body []byte) (*CompressedCertificate, error) {
	s := cryptobyte.String(body)
	c := &CompressedCertificate{}
	var size uint32
	var data cryptobyte.String
	// Nothing larger is a message that is read anyway, so nothing larger is decompressed.
	if !s.ReadUint16(&c.Algorithm) || !s.ReadUint24(&size) || !s.ReadUint24LengthPrefixed(&data) || !s.Empty() || size > maxMessage {
		return nil, ErrMalformed
	}
	c.UncompressedSize, c.Compressed = int(size), data
	return c, nil
}

// Name of the algorithm (IANA TLS Certificate Compression Algorithm IDs).
func (c *CompressedCertificate) Name() string {
	switch c.Algorithm {
	case 1:
		return "zlib"
	case 2:
		return "brotli"
	case 3:
		return "zstd"
	}
	return "an unknown algorithm"
}

// Decompress returns the body of the Certificate message. Only zlib is opened; others are ErrMalformed.
// It never makes more than the size that the message names.
func (c *CompressedCertificate) Decompress() ([]byte, error) {
	if c.Algorithm != 1 {
		return nil, ErrMalformed
	}
	r, err := zlib.NewReader(bytes.NewReader(c.Compressed))
	if err != nil {
		return nil, ErrMalformed
	}
	// One byte more shows content that is larger than it says.
	body, err := io.ReadAll(io.LimitReader(r, int64(c.UncompressedSize)+1))
	if err != nil || len(body) != c.UncompressedSize {
		return nil, ErrMalformed
	}
	return body, nil
}

// CertificateRequest is what a server accepts from a client (RFC 8446 section 4.3.2, RFC 5246 section 7.4.4).
type CertificateRequest struct {
	SignatureAlgorithms []uint16
	Authorities         [][]byte // distinguished names in DER
}

// ParseCertificateRequest reads a CertificateRequest message.
func ParseCertificateRequest(body []byte, tls13 bool) (*CertificateRequest, error) {
	s := cryptobyte.String(body)
	r := &CertificateRequest{}
	// In TLS 1.3 this is the request's context, in TLS 1.2 the list of certificate types.
	var lead cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&lead) {
		return nil, ErrMalformed
	}

	ok := false
	if !tls13 {
		var algorithms cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&algorithms) {
			return nil, ErrMalformed
		}
		if r.SignatureAlgorithms, ok = uint16s(algorithms); ok {
			r.Authorities, ok = authorities(&s)
		}
	} else {
		ok = eachExtension(&s, func(id uint16, data cryptobyte.String) (ok bool) {
			switch id {
			case extSignatureAlgs:
				r.SignatureAlgorithms, ok = uint16List(data)
				return ok
			case extCertAuthorities:
				r.Authorities, ok = authorities(&data)
				return ok
			}
			return true
		})
	}

	if !ok {
		return nil, ErrMalformed
	}

	return r, nil
}

func authorities(s *cryptobyte.String) (out [][]byte, ok bool) {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return nil, false
	}
	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint16LengthPrefixed(&name) {
			return nil, false
		}
		out = append(out, name)
	}
	return out, true
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
	// Explicit curves are deprecated (RFC 8422 section 5.4).
	if !s.ReadUint8(&kind) || kind != namedCurve || !s.ReadUint16(&group) || !s.ReadUint8LengthPrefixed(&public) || !s.ReadUint16(&scheme) {
		return 0, 0, ErrMalformed
	}
	return group, scheme, nil
}

// NewSessionTicket is a ticket's lifetime in seconds and its size (RFC 5077 section 3.3 and RFC 8446 section 4.6.1).
type NewSessionTicket struct {
	Lifetime uint32
	Size     int
}

// ParseNewSessionTicket reads TLS 1.2's message, which is the one that passes in plaintext.
func ParseNewSessionTicket(body []byte) (*NewSessionTicket, error) {
	s := cryptobyte.String(body)
	t := &NewSessionTicket{}
	var ticket cryptobyte.String
	if !s.ReadUint32(&t.Lifetime) || !s.ReadUint16LengthPrefixed(&ticket) || !s.Empty() {
		return nil, ErrMalformed
	}
	t.Size = len(ticket)
	return t, nil
}
