package wire

import "testing"

func FuzzRecords(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	f.Add([]byte("\x15\x03\x03\x00\x02\x02\x30"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		records, _ := Records(nil, stream)
		var messages Assembler
		for _, r := range records {
			if r.End() > len(stream) {
				t.Fatalf("record ends at %d of %d", r.End(), len(stream))
			}
			found, err := messages.Add(r.Fragment, r.Offset, r.End())
			for _, m := range found {
				_, _ = ParseClientHello(m.Body)
				_, _ = ParseServerHello(m.Body)
				_, _, _ = ParseEncryptedExtensions(m.Body)
				_, _ = ParseCertificate(m.Body, true)
				_, _ = ParseCertificate(m.Body, false)
				_, _ = ParseCertificateVerify(m.Body)
				_, _ = ParseCertificateRequest(m.Body, true)
				_, _ = ParseCertificateRequest(m.Body, false)
				_, _ = ParseNewSessionTicket(m.Body)
				if c, err := ParseCompressedCertificate(m.Body); err == nil {
					if body, err := c.Decompress(); err == nil && len(body) != c.UncompressedSize {
						t.Fatal("decompressed to another size")
					}
				}
				_, _, _ = ParseServerKeyExchange(m.Body)
			}
			if err != nil {
				return
			}
		}
	})
}

func FuzzClientHello(f *testing.F) {
	f.Add(append(append([]byte{3, 3}, make([]byte, 32)...), 0, 0, 2, 0x13, 1, 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		if h, err := ParseClientHello(body); err == nil && len(h.Random) != 32 {
			t.Fatal("a hello without its random was accepted")
		} else if err == nil && len(h.JA4('t')) != 36 {
			t.Fatalf("JA4 %q", h.JA4('t'))
		}
	})
}
