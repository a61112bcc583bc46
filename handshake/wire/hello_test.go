package wire

import "testing"

// Keys that were agreed on elsewhere are told from tickets by the age that is sent with them (RFC 8446 section 4.2.11).
func TestAPreSharedKeyFromElsewhereIsNoTicket(t *testing.T) {
	const (
		key    = "\x00\x05alice\x00\x00\x00\x00"
		ticket = "\x00\x06opaque\x12\x34\x56\x78"
	)
	offer := func(identities string) string {
		return string([]byte{0, byte(len(identities))}) + identities + "\x00\x21\x20" + "01234567890123456789012345678901"
	}
	for _, c := range []struct {
		name, offer string
		external    bool
	}{
		{"a key", offer(key), true},
		{"two keys", offer(key + key), true},
		{"a ticket", offer(ticket), false},
		{"a ticket beside a key", offer(key + ticket), false},
		{"none", offer(""), false},
		{"cut short", offer(key)[:9], false},
		{"nothing", "", false},
	} {
		h := &ClientHello{}
		if !h.extension(extPreSharedKey, []byte(c.offer)) || !h.PSK || h.ExternalPSK != c.external {
			t.Errorf("%s: %v", c.name, h.ExternalPSK)
		}
	}
}
