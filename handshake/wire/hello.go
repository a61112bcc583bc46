package wire

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Numbers of extensions that padlock looks into (IANA TLS ExtensionType Values).
const (
	extServerName        = 0
	extStatusRequest     = 5
	extSupportedGroups   = 10
	extPointFormats      = 11
	extSignatureAlgs     = 13
	extALPN              = 16
	extSCT               = 18
	extCompressCert      = 27
	extSessionTicket     = 35
	extPreSharedKey      = 41
	extEarlyData         = 42
	extSupportedVersions = 43
	extCertAuthorities   = 47
	extKeyShare          = 51
	extECH               = 0xfe0d
)

// ClientHello is RFC 8446 section 4.1.2.
type ClientHello struct {
	LegacyVersion uint16
	Random        []byte
	SessionID     []byte
	CipherSuites  []uint16
	Extensions    []uint16

	ServerName          string
	Versions            []uint16 // supported_versions; empty in an old client
	Groups              []uint16
	KeyShares           []uint16
	SignatureAlgorithms []uint16
	PointFormats        []byte
	ALPN                []string
	PSK                 bool // a pre-shared key of TLS 1.3 is offered: a ticket, unless ExternalPSK
	ExternalPSK         bool // all pre-shared keys that are offered were agreed on elsewhere, and none is a ticket
	Ticket              bool // a TLS 1.2 ticket is offered
	EarlyData           bool
	ECH                 bool // encrypted_client_hello is there: real, or GREASE, which cannot be told apart (RFC 9849)
	FallbackSCSV        bool // a retry with a lower version (RFC 7507)
}

// MaxVersion is the highest version offered.
func (h *ClientHello) MaxVersion() uint16 {
	highest := uint16(0)
	for _, v := range h.Versions {
		if !GREASE(v) {
			highest = max(highest, v)
		}
	}
	// Only clients without supported_versions mean their version field (RFC 8446 section 4.1.2).
	if highest == 0 {
		return h.LegacyVersion
	}
	return highest
}

// ParseClientHello reads a ClientHello's body.
func ParseClientHello(body []byte) (*ClientHello, error) {
	s := cryptobyte.String(body)
	h := &ClientHello{Extensions: make([]uint16, 0, 20), KeyShares: make([]uint16, 0, 4)}
	var session, suites, compression cryptobyte.String
	if !s.ReadUint16(&h.LegacyVersion) || !s.ReadBytes(&h.Random, 32) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&compression) {
		return nil, ErrMalformed
	}
	h.SessionID = session
	var ok bool
	if h.CipherSuites, ok = uint16s(suites); !ok {
		return nil, ErrMalformed
	}

	// RFC 7507 put the signal among the suites, as servers pass over those that they do not know.
	h.FallbackSCSV = slices.Contains(h.CipherSuites, 0x5600)
	if s.Empty() {
		// A hello of TLS 1.0 or older may end here, without extensions.
		return h, nil
	}
	ok = eachExtension(&s, func(id uint16, data cryptobyte.String) bool {
		h.Extensions = append(h.Extensions, id)
		return h.extension(id, data)
	})
	if !ok {
		return nil, ErrMalformed
	}

	return h, nil
}

func (h *ClientHello) extension(id uint16, data cryptobyte.String) (ok bool) {
	switch id {
	case extServerName:
		return h.serverName(data)
	case extSupportedVersions:
		var list cryptobyte.String
		if ok = data.ReadUint8LengthPrefixed(&list); ok {
			h.Versions, ok = uint16s(list)
		}
		return ok
	case extSupportedGroups:
		h.Groups, ok = uint16List(data)
		return ok
	case extSignatureAlgs:
		h.SignatureAlgorithms, ok = uint16List(data)
		return ok
	case extALPN:
		h.ALPN, ok = protocolList(data)
		return ok
	case extKeyShare:
		return h.keyShares(data)
	case extPointFormats:
		var list cryptobyte.String
		ok = data.ReadUint8LengthPrefixed(&list)
		h.PointFormats = list
		return ok
	case extSessionTicket:
		// An empty one asks for a ticket (RFC 5077 section 3.2), and offers none.
		h.Ticket = len(data) > 0
	case extPreSharedKey:
		h.PSK, h.ExternalPSK = true, externalPSK(data)
	case extEarlyData:
		h.EarlyData = true
	case extECH:
		h.ECH = true
	}
	return true
}

// externalPSK reports whether none of the identities is a ticket's: keys that were agreed on elsewhere have an age of
// 0, and that of a ticket is hidden by a random number (RFC 8446 section 4.2.11).
func externalPSK(data cryptobyte.String) bool {
	var identities cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&identities) || identities.Empty() {
		return false
	}
	for !identities.Empty() {
		var identity cryptobyte.String
		var age uint32
		if !identities.ReadUint16LengthPrefixed(&identity) || !identities.ReadUint32(&age) || age != 0 {
			return false
		}
	}
	return true
}

func (h *ClientHello) serverName(data cryptobyte.String) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}

	for !list.Empty() {
		var kind uint8
		var name cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&name) {
			return false
		}
		// A host name is the only kind that has been defined (RFC 6066 section 3), and there is one of each kind.
		if kind == 0 && h.ServerName == "" {
			h.ServerName = string(name)
		}
	}

	return true
}

func (h *ClientHello) keyShares(data cryptobyte.String) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}

	for !list.Empty() {
		var group uint16
		var key cryptobyte.String
		if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&key) {
			return false
		}
		h.KeyShares = append(h.KeyShares, group)
	}

	return true
}

// ServerHello is RFC 8446 section 4.1.3; a HelloRetryRequest has the same form (section 4.1.4).
type ServerHello struct {
	Version     uint16 // negotiated, supported_versions considered
	Random      []byte
	CipherSuite uint16
	Extensions  []uint16
	Group       uint16 // of key_share; 0 if none
	PSK         bool   // the offered ticket was accepted (TLS 1.3)
	ALPN        string // TLS 1.2 only
	Retry       bool   // it is a HelloRetryRequest
}

// retryRandom is SHA-256 of "HelloRetryRequest" (RFC 8446 section 4.1.3).
const retryRandom = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

// ParseServerHello reads a ServerHello's body.
func ParseServerHello(body []byte) (*ServerHello, error) {
	s := cryptobyte.String(body)
	h := &ServerHello{}
	var session cryptobyte.String
	var compression uint8
	if !s.ReadUint16(&h.Version) || !s.ReadBytes(&h.Random, 32) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16(&h.CipherSuite) || !s.ReadUint8(&compression) {
		return nil, ErrMalformed
	}

	h.Retry = string(h.Random) == retryRandom
	if s.Empty() {
		return h, nil
	}
	ok := eachExtension(&s, func(id uint16, data cryptobyte.String) bool {
		h.Extensions = append(h.Extensions, id)
		switch id {
		case extSupportedVersions:
			return data.ReadUint16(&h.Version)
		case extKeyShare:
			return data.ReadUint16(&h.Group)
		case extPreSharedKey:
			h.PSK = true
		case extALPN:
			list, ok := protocolList(data)
			if ok && len(list) == 1 {
				h.ALPN = list[0]
			}
			return ok
		}
		return true
	})
	if !ok {
		return nil, ErrMalformed
	}

	return h, nil
}

// ParseEncryptedExtensions returns the protocol chosen by ALPN, if any (RFC 8446 section 4.3.1).
func ParseEncryptedExtensions(body []byte) (alpn string, extensions []uint16, err error) {
	s := cryptobyte.String(body)
	ok := eachExtension(&s, func(id uint16, data cryptobyte.String) bool {
		extensions = append(extensions, id)
		if id == extALPN {
			if list, ok := protocolList(data); ok && len(list) == 1 {
				alpn = list[0]
			}
		}
		return true
	})
	if !ok {
		return "", nil, ErrMalformed
	}
	return alpn, extensions, nil
}

// eachExtension walks the list that ends a message, and reports whether all of it was well formed.
func eachExtension(s *cryptobyte.String, visit func(id uint16, data cryptobyte.String) bool) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() {
		return false
	}
	for !list.Empty() {
		var id uint16
		var data cryptobyte.String
		if !list.ReadUint16(&id) || !list.ReadUint16LengthPrefixed(&data) || !visit(id, data) {
			return false
		}
	}
	return true
}

func uint16s(s cryptobyte.String) (out []uint16, ok bool) {
	if len(s)%2 != 0 {
		return nil, false
	}
	out = make([]uint16, len(s)/2)
	for i := range out {
		out[i] = uint16(s[2*i])<<8 | uint16(s[2*i+1])
	}
	return out, true
}

func uint16List(s cryptobyte.String) ([]uint16, bool) {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return nil, false
	}
	return uint16s(list)
}

func protocolList(s cryptobyte.String) (out []string, ok bool) {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return nil, false
	}

	out = make([]string, 0, 2)
	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) {
			return nil, false
		}
		out = append(out, string(name))
	}

	return out, true
}
