package handshake

import (
	"strings"
	"testing"
)

// What is kept of a connection's key log: the two secrets of the handshake, until the record is released.
func TestOnlyTheHandshakeSecretsAreKeptAndTheyAreWiped(t *testing.T) {
	r := NewRecorder(Options{})
	defer r.Close()
	tr := &trace{in: []byte("captured"), out: []byte("captured"), traceData: traceData{id: 7}}
	random, value := strings.Repeat("00", 32), strings.Repeat("ab", 32)
	if !r.keys.add([32]byte{}, tr, 7) {
		t.Fatal("not registered")
	}
	for _, label := range []string{"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET", "CLIENT_RANDOM"} {
		r.Write([]byte(label + " " + random + " " + value + "\n"))
	}
	if tr.secrets != (secrets{}) {
		t.Fatal("a secret of application data was kept")
	}
	r.Write([]byte("SERVER_HANDSHAKE_TRAFFIC_SECRET " + random + " " + value + "\n"))
	r.Write([]byte("CLIENT_HANDSHAKE_TRAFFIC_SECRET " + random + " " + value + "\n"))
	if tr.secrets.serverLength != 32 || tr.secrets.clientLength != 32 || tr.secrets.server[0] != 0xab {
		t.Fatalf("%+v", tr.secrets)
	}
	in := tr.in
	tr.release()
	if tr.secrets != (secrets{}) || string(in) == "captured" {
		t.Fatal("not wiped")
	}
}

// A second connection with a random that is in use cannot take over the first one's secrets.
func TestARandomBelongsToTheFirstWhoUsesIt(t *testing.T) {
	k := keyLogs{open: map[[32]byte]keyLogEntry{}}
	first, second := &trace{}, &trace{}
	if !k.add([32]byte{1}, first, 1) || k.add([32]byte{1}, second, 2) {
		t.Fatal("taken over")
	}
	if found, id := k.find([32]byte{1}); found != first || id != 1 {
		t.Fatal("lost")
	}
	k.remove([32]byte{1})
	if !k.add([32]byte{1}, second, 2) {
		t.Fatal("not given back")
	}
}
