package console

import (
	"strings"
	"testing"
	"time"

	"padlock/handshake"
)

func TestThePageTellsTheVisitorsOwnHandshake(t *testing.T) {
	recent := handshake.NewRecent(4)
	recent.Handshake(&handshake.Event{ID: 6, Stages: []handshake.Stage{{Name: "client_hello", Text: "somebody else"}}})
	recent.Handshake(&handshake.Event{
		ID: 7, Version: 0x0304, Group: "X25519MLKEM768", CipherSuite: "TLS_AES_128_GCM_SHA256", Duration: 4 * time.Millisecond,
		Stages: []handshake.Stage{
			{Name: "client_hello", From: handshake.Client, Text: `I want <script>alert(1)</script>`, Size: 1713, Label: handshake.Observed},
			{Name: "certificate_verify", From: handshake.Server, Text: "proof", Label: handshake.Decrypted},
		},
		Certificate: &handshake.Certificate{Subject: "localhost", Organization: "Example Ltd", Names: []string{"localhost"}},
	})
	html := string(NewPage(PageOptions{Recent: recent}).HTML(t.Context(), 7, "localhost"))
	for _, want := range []string{"TLS 1.3", "quantum", "ClientHello", "CertificateVerify", "1713 bytes", "Example Ltd", "&lt;script&gt;"} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	for _, bad := range []string{"<script>", "somebody else", "<no value>"} {
		if strings.Contains(html, bad) {
			t.Errorf("%q is on the page", bad)
		}
	}
}

func TestThePageSaysWhenHandshakesAreNotRecorded(t *testing.T) {
	if html := string(NewPage(PageOptions{}).HTML(t.Context(), 0, "localhost")); !strings.Contains(html, "not recorded") {
		t.Error(html)
	}
}
