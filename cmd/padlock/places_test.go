package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What only this machine can find wrong is said with the line of the file and the key, by padlock check and by padlock run alike, and nothing
// that is there is overwritten.
func TestWhatTheMachineRefusesHasALineOfTheFile(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const sites = "sites: [{hosts: [app.localhost], routes: [{to: 3000}]}]\nstorage: DIR/storage\n"
	for content, want := range map[string]string{
		"listen: {https: [127.0.0.1:0, \"" + taken.Addr().String() + "\"], http: []}\n":                                                              "listen.https[1]: ",
		"listen: {https: [127.0.0.1:0], http: [203.0.113.9:80]}\n":                                                                                   "listen.http[0]: ",
		"access_log: {output: DIR/missing/a.log}\nadmin: off\n":                                                                                      "access_log.output: ",
		"handshakes: {output: DIR}\nadmin: off\n":                                                                                                    "handshakes.output: ",
		"handshakes: {capture: DIR/server.go, insecure_export_secrets: true}\nadmin: off\n":                                                          "handshakes.capture: ",
		"admin: " + taken.Addr().String() + "\n":                                                                                                     "admin: ",
		"handshakes: {output: DIR/missing/h.log}\naccess_log: {output: DIR/missing/a.log}\nadmin: off\nlisten: {https: [203.0.113.9:1], http: []}\n": "listen.https[0]: ",
	} {
		file, dir := yaml(t, content+sites)
		source := filepath.Join(dir, "server.go")
		if err := os.WriteFile(source, []byte("package main\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"check", "run"} {
			code, said := ends(t, command, "--config", file)
			placed := false
			for line := range strings.Lines(said) {
				placed = placed || strings.Contains(line, file+":") && strings.Contains(line, want)
			}
			if code != 1 || !placed {
				t.Errorf("padlock %s of %q: %d, without a line with %q: %s", command, content, code, want, said)
			}
		}
		if data, err := os.ReadFile(source); err != nil || string(data) != "package main\n" {
			t.Errorf("%q has overwritten a file: %q, %v", content, data, err)
		}
	}
}

// Without a home directory there is no place for the key of a CA, and the directory where a command happens to run is none either.
func TestWithoutAHomeNoCommandKeepsAnythingWhereItRuns(t *testing.T) {
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "SUDO_UID", "SUDO_USER"} {
		t.Setenv(name, "")
	}
	here := t.TempDir()
	t.Chdir(here)
	for _, args := range [][]string{{"trust", "--print"}, {"trust"}, {"status"}, {"watch"}, {"reload"}, {"dev", "true"}, {"dev", "list"}, {"certs", "list"}, {"3000"}} {
		code, said := ends(t, args...)
		if code != 2 || !strings.Contains(said, "home directory") || !strings.Contains(said, "--storage") {
			t.Errorf("padlock %s: %d, %s", strings.Join(args, " "), code, said)
		}
	}
	if left, err := os.ReadDir(here); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A folder that a command line names is looked for where the command runs, and there is no file to speak of.
func TestAFolderThatIsNotThereIsSoughtWhereTheCommandRuns(t *testing.T) {
	t.Chdir(t.TempDir())
	if code, said := ends(t, "./public"); code != 2 || !strings.Contains(said, "no such file or directory") || strings.Contains(said, "configuration file") {
		t.Errorf("%d, %s", code, said)
	}
}
