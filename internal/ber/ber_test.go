package ber_test

import (
	"bytes"
	"encoding/asn1"
	"strings"
	"testing"

	"padlock/internal/ber"
)

func TestBERBecomesDER(t *testing.T) {
	long := strings.Repeat("\x04\x02ab", 40)
	for _, c := range []struct{ in, want string }{
		{"\x04\x02ab", "\x04\x02ab"},
		{"\x04\x81\x02ab", "\x04\x02ab"},                                                   // a length in a longer form
		{"\x30\x80\x02\x01\x03\x00\x00", "\x30\x03\x02\x01\x03"},                           // an indefinite one
		{"\x24\x80\x04\x01a\x04\x02bc\x00\x00", "\x04\x03abc"},                             // a string in pieces
		{"\x24\x06\x24\x04\x04\x02ab", "\x04\x02ab"},                                       // of pieces
		{"\xa0\x80\x30\x80\x05\x00\x00\x00\x00\x00", "\xa0\x04\x30\x02\x05\x00"},           // below another tag
		{"\xbf\x81\x01\x80\x05\x00\x00\x00", "\xbf\x81\x01\x02\x05\x00"},                   // a tag of several octets
		{"\x24\x80" + long + "\x00\x00", "\x04\x50" + strings.Repeat("ab", 40)},            // short
		{"\x24\x80" + long + long + "\x00\x00", "\x04\x81\xa0" + strings.Repeat("ab", 80)}, // and long
		{"\x30\x82\x00\x03\x02\x01\x03", "\x30\x03\x02\x01\x03"},
	} {
		if got, err := ber.DER([]byte(c.in)); err != nil || string(got) != c.want {
			t.Errorf("% x: % x, %v", c.in, got, err)
		}
	}
	for _, in := range []string{
		"", "\x04", "\x04\x03ab", "\x04\x80ab\x00\x00", "\x30\x80\x02\x01\x03", "\x30\x80\x02\x01\x03\x00", "\x24\x04\x02\x02ab", "\x04\x01ab", "\x1f", "\x1f\x81",
		"\x04\x89\x01\x01\x01\x01\x01\x01\x01\x01\x01a", "\x04\x84\xff\xff\xff\xffa", strings.Repeat("\x30\x80", 100), strings.Repeat("\x30\x80", 1<<20),
	} {
		if got, err := ber.DER([]byte(in)); err == nil {
			t.Errorf("%.20q: % x", in, got)
		}
	}
}

// Whatever comes, it ends, and what comes out is as Go reads it, and stays what it is.
func FuzzDER(f *testing.F) {
	f.Add([]byte("\x30\x80\x24\x80\x04\x01a\x04\x02bc\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		der, err := ber.DER(data)
		if err != nil {
			return
		}
		if len(der) > len(data)+16 {
			t.Errorf("%d bytes became %d", len(data), len(der))
		}
		again, err := ber.DER(der)
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("% x, then % x, %v", der, again, err)
		}
		var v asn1.RawValue
		_, _ = asn1.Unmarshal(der, &v)
	})
}
