package handshake

import (
	"strings"
	"testing"
)

func TestOnlyTheHandshakeSecretsAreKeptAndTheyAreWiped(t *testing.T) {
	tr := &trace{arena: &arena{in: []byte("secret"), out: []byte("secret")}}
	log := &KeyLog{tr}
	random, value := strings.Repeat("00", 32), strings.Repeat("ab", 32)
	for _, label := range []string{"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET", "CLIENT_RANDOM"} {
		log.Write([]byte(label + " " + random + " " + value + "\n"))
	}
	if tr.secrets != (secrets{}) {
		t.Fatal("a secret of application data was kept")
	}
	log.Write([]byte("SERVER_HANDSHAKE_TRAFFIC_SECRET " + random + " " + value + "\n"))
	log.Write([]byte("CLIENT_HANDSHAKE_TRAFFIC_SECRET " + random + " " + value + "\n"))
	if tr.secrets.serverLength != 32 || tr.secrets.clientLength != 32 || tr.secrets.server[0] != 0xab {
		t.Fatalf("%+v", tr.secrets)
	}
	in := tr.arena.in
	tr.release()
	if tr.secrets != (secrets{}) || string(in) == "secret" {
		t.Fatal("not wiped")
	}
}
