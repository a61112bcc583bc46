package wire

import "testing"

// The examples that are published with JA3.
func TestJA3OfThePublishedExamples(t *testing.T) {
	for want, h := range map[string]ClientHello{
		"ada70206e40642a3e4461f35503241d5": {
			LegacyVersion: 769, CipherSuites: []uint16{47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4},
			Extensions: []uint16{0, 10, 11}, Groups: []uint16{23, 24, 25}, PointFormats: []byte{0},
		},
		"de350869b8c85de67a350c8d186f11e6": {LegacyVersion: 769, CipherSuites: []uint16{4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99}},
	} {
		if got := h.JA3(); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// The example that is published with JA4's description: a Chrome, with GREASE added here.
func TestJA4OfThePublishedExample(t *testing.T) {
	h := ClientHello{
		LegacyVersion:       0x0303,
		CipherSuites:        []uint16{0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035},
		Extensions:          []uint16{0x1a1a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015},
		Versions:            []uint16{0x2a2a, 0x0304, 0x0303},
		SignatureAlgorithms: []uint16{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601},
		ALPN:                []string{"h2", "http/1.1"},
	}
	if got, want := h.JA4('t'), "t13d1516h2_8daaf6152771_e5627efa2ab1"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if got := (&ClientHello{LegacyVersion: 0x0301, ALPN: []string{"\xab\xcd"}}).JA4('t'); got != "t10i0000ad_000000000000_000000000000" {
		t.Error(got)
	}
}
