package servicetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// StartMosquitto runs an MQTT broker, which anybody may use.
func StartMosquitto(t testing.TB) *Service {
	t.Helper()
	program, port := Need(t, "mosquitto"), FreePort(t)
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "listener " + strconv.Itoa(port) + " 127.0.0.1\nallow_anonymous true\npersistence false\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &Service{t: t, URL: "mqtt://127.0.0.1:" + strconv.Itoa(port), alive: answers(port)}
	s.command = func() *exec.Cmd { return exec.Command(program, "-c", file) }
	s.Start()
	t.Cleanup(s.Stop)
	return s
}
