package handshake

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"

	"padlock/internal/fair"
)

// Privacy says how much of what identifies a person is kept. It applies to every sink. The zero value keeps all.
type Privacy struct {
	TruncateAddresses bool // keep 24 bits of an IPv4 address and 48 of an IPv6 address
	HashNames         bool // keep a keyed hash of the server name; the key lives as long as the Recorder

	key []byte
}

func (p Privacy) prepare() Privacy {
	if p.HashNames {
		p.key = make([]byte, 32)
		_, _ = rand.Read(p.key) // never fails (crypto/rand)
	}
	return p
}

// Address is what is kept of an address.
func (p Privacy) Address(addr netip.Addr) netip.Addr {
	if !p.TruncateAddresses {
		return addr
	}
	return fair.Truncated(addr).Addr()
}

// address takes a host:port.
func (p Privacy) address(a string) string {
	if !p.TruncateAddresses {
		return a
	}
	host, _, err := net.SplitHostPort(a)
	if err != nil {
		return ""
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(p.Address(addr).String(), "0")
}

func (p Privacy) name(name string) string {
	if !p.HashNames || name == "" {
		return Escape(name)
	}
	sum := sha256.Sum256(append(p.key[:len(p.key):len(p.key)], name...))
	return "name-" + hex.EncodeToString(sum[:6])
}
