//go:build e2e

package e2e

import (
	"bytes"
	le "encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// saveCorpus turns a capture into seeds for the fuzzer: what each client sent, and what it was answered. UPDATE_CORPUS=1 runs it.
func saveCorpus(t *testing.T, capture string) {
	t.Helper()
	file, err := os.ReadFile(capture)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "handshake", "testdata", "fuzz", "FuzzDissect")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var in, out, clientPort []byte
	saved := 0
	save := func() {
		if len(in) > 0 && len(in)+len(out) < 16<<10 {
			seed := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n[]byte(%q)\nbyte('\\x0c')\n", in, out)
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("real-%02d", saved)), []byte(seed), 0o644); err != nil {
				t.Fatal(err)
			}
			saved++
		}
		in, out = nil, nil
	}
	for len(file) >= 12 {
		kind, length := le.LittleEndian.Uint32(file), int(le.LittleEndian.Uint32(file[4:]))
		if kind == 6 { // an enhanced packet block: 28 bytes of head, an IPv4 header, a TCP header
			size := int(le.LittleEndian.Uint32(file[20:]))
			packet := file[28 : 28+size]
			flags, data := packet[33], packet[40:]
			switch {
			case flags == 2:
				save() // SYN: the next connection
				clientPort = bytes.Clone(packet[20:22])
			case bytes.Equal(packet[20:22], clientPort):
				in = append(in, data...)
			default:
				out = append(out, data...)
			}
		}
		file = file[length:]
	}
	save()
	t.Logf("%d seeds", saved)
}
