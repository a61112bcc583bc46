package rogue

import (
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/cryptobyte"
)

// ClientHello is what the server must know of one.
type ClientHello struct {
	Random    []byte
	Session   []byte
	Suites    []uint16
	Versions  []uint16
	Groups    []uint16
	Schemes   []uint16
	Protocols []string
	Shares    map[uint16][]byte
	IDs       []uint16 // of its extensions
}

func parseHello(body []byte) (*ClientHello, error) {
	h := &ClientHello{Shares: map[uint16][]byte{}}
	s := cryptobyte.String(body)
	var session, suites, compression, extensions cryptobyte.String
	ok := s.Skip(2) && s.ReadBytes(&h.Random, 32) && s.ReadUint8LengthPrefixed(&session) &&
		s.ReadUint16LengthPrefixed(&suites) && s.ReadUint8LengthPrefixed(&compression)
	if !ok {
		return nil, errors.New("a damaged ClientHello")
	}
	h.Session, h.Suites = session, uint16s(suites)
	if s.Empty() {
		return h, nil
	}
	if !s.ReadUint16LengthPrefixed(&extensions) {
		return nil, errors.New("a damaged ClientHello")
	}

	for !extensions.Empty() {
		var id uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&data) {
			return nil, errors.New("a damaged ClientHello")
		}
		h.IDs = append(h.IDs, id)
		h.extension(id, data)
	}
	return h, nil
}

// extension reads what counts here; what is damaged counts as absent.
func (h *ClientHello) extension(id uint16, data cryptobyte.String) {
	var list cryptobyte.String
	switch id {
	case 10:
		if data.ReadUint16LengthPrefixed(&list) {
			h.Groups = uint16s(list)
		}
	case 13:
		if data.ReadUint16LengthPrefixed(&list) {
			h.Schemes = uint16s(list)
		}
	case extALPN:
		_ = data.ReadUint16LengthPrefixed(&list)
		for name := (cryptobyte.String)(nil); list.ReadUint8LengthPrefixed(&name); {
			h.Protocols = append(h.Protocols, string(name))
		}
	case extVersions:
		if data.ReadUint8LengthPrefixed(&list) {
			h.Versions = uint16s(list)
		}
	case extKeyShare:
		_ = data.ReadUint16LengthPrefixed(&list)
		var group uint16
		for share := (cryptobyte.String)(nil); list.ReadUint16(&group) && list.ReadUint16LengthPrefixed(&share); {
			h.Shares[group] = share
		}
	}
}

func uint16s(s cryptobyte.String) (out []uint16) {
	for v := uint16(0); s.ReadUint16(&v); {
		out = append(out, v)
	}
	return out
}

func (h *Hello) encode(random [32]byte) []byte {
	var b cryptobyte.Builder
	b.AddUint16(h.Legacy)
	b.AddBytes(random[:])
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.Session) })
	b.AddUint16(h.Suite)
	b.AddUint8(h.Compression)
	b.AddBytes(Extensions(h.Extensions))
	return b.BytesOrPanic()
}

// Extensions is a list of extensions with its length (RFC 8446 section 4.2).
func Extensions(extensions []Ext) []byte {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, e := range extensions {
			b.AddUint16(e.ID)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.Data) })
		}
	})
	return b.BytesOrPanic()
}

func encodeCertificate(chain [][]byte) []byte {
	var b cryptobyte.Builder
	b.AddUint8(0)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, der := range chain {
			b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(der) })
			b.AddUint16(0)
		}
	})
	return b.BytesOrPanic()
}

// ALPN is the extension with a protocol (RFC 7301 section 3.1).
func ALPN(protocol string) Ext {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(protocol)) })
	})
	return Ext{extALPN, b.BytesOrPanic()}
}

// EarlyData is the extension of a ticket that allows so many bytes of early data (RFC 8446 section 4.2.10).
func EarlyData(most uint32) Ext { return Ext{extEarlyData, binary.BigEndian.AppendUint32(nil, most)} }

func (m *Message) encode() []byte {
	n := len(m.Body)
	return append([]byte{m.Type, byte(n >> 16), byte(n >> 8), byte(n)}, m.Body...)
}
