package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Network is a range of addresses, or one: 10.0.0.0/8, ::1. IPv4 networks are never in their IPv6-mapped form (RFC
// 4291 section 2.5.5.2), in which no address is compared.
type Network struct{ netip.Prefix }

// mappedBits is the length of what is before an IPv4 address that is mapped to IPv6.
const mappedBits = 96

var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Network) UnmarshalText(text []byte) error {
	s := string(text)
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		n.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}

	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is not an address or a network such as 10.0.0.0/8", s)
	}

	switch {
	case prefix.Addr().Is4In6() && prefix.Bits() >= mappedBits:
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
	case prefix.Bits() > 0 && prefix.Bits() < mappedBits && prefix.Contains(mapped.Addr()), prefix.Addr().Is4In6():
		return fmt.Errorf("%q has IPv4 addresses in their form for IPv6 (%s) among others: write the networks of IPv4 and those of IPv6", s, mapped)
	}

	if prefix != prefix.Masked() {
		return fmt.Errorf("%q has bits set behind its length: %s is meant, or %s", s, prefix.Masked(), prefix.Addr())
	}

	n.Prefix = prefix
	return nil
}

// Contains reports whether an address is in the network, in whatever form it is written: mapped to IPv6, or with a
// zone.
func (n Network) Contains(addr netip.Addr) bool { return n.Prefix.Contains(addr.Unmap().WithZone("")) }

// Patience is how long somebody waits: a duration, or off, which is Endless. Zero stands for the default.
type Patience time.Duration

// Endless is the patience that never ends.
const Endless Patience = -1

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Patience) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*p = Endless
		return nil
	}
	duration, err := time.ParseDuration(string(text))
	if err != nil || duration <= 0 {
		return fmt.Errorf("%q is neither a duration such as 10s or 2m, nor off", text)
	}
	*p = Patience(duration)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (p Patience) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String is the form that UnmarshalText reads.
func (p Patience) String() string {
	if p == Endless {
		return "off"
	}
	return time.Duration(p).String()
}

// Percent is a share in percent, from 0.01 to 100. Zero stands for the default, which nobody means who writes 0.
type Percent float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	// Not the opposite: NaN is neither below nor above.
	if err != nil || !(n >= 0.01 && n <= 100) {
		return fmt.Errorf("%q must be from 0.01 to 100; for none, take away what it is the share of", text)
	}
	*p = Percent(n)
	return nil
}

// Fraction is a part of something, above 0 and up to 1. Zero stands for the default.
type Fraction float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Fraction) UnmarshalText(text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(n > 0 && n <= 1) {
		return fmt.Errorf("%q must be a number above 0, and 1 at most", text)
	}
	*f = Fraction(n)
	return nil
}

// Size is a number of bytes: 512, 64KiB, 10MiB, 1GiB; or kB, MB, GB.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	for _, unit := range units {
		number, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err == nil && n > 0 && n <= 1<<50/unit.bytes {
			*s = Size(n * unit.bytes)
			return nil
		}

		break
	}
	return fmt.Errorf("%q is not a size such as 512KiB or 10MiB", text)
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) {
	for _, unit := range units[:3] {
		if n := int64(s) / unit.bytes; n > 0 && n < 1<<10 && int64(s)%unit.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", n, unit.name), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// FieldValue is a field's name and a value, in which variables may stand.
type FieldValue struct{ Name, Value string }

// FieldValues are written as a mapping of names to a value, or to a list of values; their order is kept.
type FieldValues []FieldValue

// Replacement is a field's name, a text in its value, and what is put in the place of that. Variables may stand in
// both.
type Replacement struct{ Name, From, To string }

// Replacements are written as a mapping of names to {from, to}, or to a list of these; their order is kept.
type Replacements []Replacement

// UnmarshalText takes a target alone.
func (b *Backend) UnmarshalText(text []byte) error { return b.Target.UnmarshalText(text) }

// UnmarshalText takes off.
func (h *HSTS) UnmarshalText(text []byte) error { return switchedOff(text, &h.Off) }

// UnmarshalText takes off.
func (p *PassiveHealth) UnmarshalText(text []byte) error { return switchedOff(text, &p.Off) }

// UnmarshalText takes off, or how long connections may be idle.
func (k *KeepAlive) UnmarshalText(text []byte) error {
	if idle, err := time.ParseDuration(string(text)); err == nil && idle > 0 {
		k.Idle = idle
		return nil
	}
	if switchedOff(text, &k.Off) != nil {
		return fmt.Errorf("%q must be off, a duration such as 90s, or a mapping of keys to values", text)
	}
	return nil
}

// UnmarshalText takes true and false.
func (c *Compress) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true", "on":
	case "false", "off":
		c.Off = true
	default:
		return fmt.Errorf("%q must be true, false, or a mapping of keys to values", text)
	}
	return nil
}

// UnmarshalText takes true and false.
func (i *Inspect) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true", "on":
	case "false", "off":
		i.Off = true
	default:
		return fmt.Errorf("%q must be true, false, or a mapping of keys to values", text)
	}
	return nil
}

// UnmarshalText takes true and false.
func (m *Maintenance) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true", "on":
		m.On = true
	case "false", "off":
	default:
		return fmt.Errorf("%q must be true, false, or a mapping of keys to values", text)
	}
	return nil
}

// UnmarshalText takes true, strict and false.
func (h *SecurityHeaders) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true", "on", "standard":
	case "strict":
		h.Preset = "strict"
	case "false", "off":
		h.Off = true
	default:
		return fmt.Errorf("%q must be true, strict, false, or a mapping of keys to values", text)
	}
	return nil
}

func switchedOff(text []byte, off *bool) error {
	if string(text) != "off" && string(text) != "false" {
		return fmt.Errorf("%q must be off, or a mapping of keys to values", text)
	}
	*off = true
	return nil
}
