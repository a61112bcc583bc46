package handshake

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// No line of a story is wider than the terminal, and each stage has one line.
func TestAStoryFitsTheTerminal(t *testing.T) {
	long := strings.Repeat("a longer text than fits ", 8)
	e := &Event{
		ID: 7, Remote: "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535", SNI: "shop.example.localhost", Version: tls.VersionTLS13, Group: "X25519MLKEM768",
		CipherSuite: "TLS_CHACHA20_POLY1305_SHA256", ALPN: "http/1.1", Duration: 12 * time.Millisecond, JA4: "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
		Timings: Timings{KeyExchange: time.Millisecond, Signing: time.Millisecond, Client: time.Second, RoundTrip: time.Millisecond},
		Stages: []Stage{
			{Name: "client_hello", Text: long, Size: 1500, Label: "observed"},
			{Name: "encrypted_extensions", From: Server, Text: "we will talk h2", Size: 19, Label: "decrypted"},
			{Name: "certificate", From: Server, Text: strings.Repeat("ü", 130), Size: 493, Label: "decrypted"},
		},
		Failure: &Failure{By: "client", Stage: "finished", Alert: 48, AlertName: "unknown_ca", Cause: long, Confidence: "likely", Remedy: long, GoError: long},
		Notes:   []string{long},
	}
	for _, width := range []int{80, 100, 120, 200} {
		text := story(e, false, width)
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
				t.Errorf("%d columns, not %d: %s", n, width, line)
			}
		}
		if n := strings.Count(text, "client →") + strings.Count(text, "server ←"); n != len(e.Stages) {
			t.Errorf("%d lines of stages at %d columns:\n%s", n, width, text)
		}
		if has := strings.Contains(text, "decrypted"); has != (width >= 120) {
			t.Errorf("size and label at %d columns: %v\n%s", width, has, text)
		}
		if whole := strings.Join(strings.Fields(text), " "); strings.Count(whole, strings.TrimSpace(long)) != 4 { // cause, remedy, error and note
			t.Errorf("a word is lost at %d columns:\n%s", width, text)
		}
	}
}
