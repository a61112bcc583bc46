//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tshark opens what padlock captured, and reads the messages that TLS 1.3 encrypts; the request stays closed to it.
func TestTsharkReadsADecryptedCapture(t *testing.T) {
	besides(t)
	tshark := need(t, "tshark")
	capture := filepath.Join(t.TempDir(), "handshakes.pcapng")
	p := start(t, "--capture", capture, "--insecure-export-secrets")
	out, err := exec.Command(need(t, "curl"), "-sS", "--fail", "--cacert", p.root(t), p.url).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.stderr.wait(t, "the padlock is closed", "handshakes are captured with their secrets")
	port := p.url[strings.LastIndex(p.url, ":")+1:]
	read := eventually(t, func() (string, error) {
		out, err := exec.Command(tshark, "-r", capture, "-d", "tcp.port=="+port+",tls", "-V").CombinedOutput()
		return string(out), err
	})
	for _, want := range []string{
		"Handshake Protocol: Client Hello", "Handshake Protocol: Server Hello", "Handshake Protocol: Encrypted Extensions",
		"Handshake Protocol: Certificate Verify", "Handshake Protocol: Finished", "padlock local development",
	} {
		if !strings.Contains(read, want) {
			t.Errorf("tshark does not show %q in\n%s", want, read)
		}
	}
	if strings.Contains(read, ":method") {
		t.Error("tshark opens the request too")
	}
	if info, err := os.Stat(capture); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if out, err := command(p.home, "--capture", capture).CombinedOutput(); err == nil || !strings.Contains(string(out), "--insecure-export-secrets") {
		t.Errorf("without the flag: %v\n%s", err, out)
	}
}

// Who rejects us and comes back content has clicked through a warning, or installed the CA: padlock says so.
func TestARejectionAndTheSuccessAfterItAreRelated(t *testing.T) {
	besides(t)
	p := start(t)
	curl := need(t, "curl")
	if out, err := exec.Command(curl, "-sS", p.url).CombinedOutput(); err == nil {
		t.Fatalf("curl was content:\n%s", out)
	}
	p.stderr.wait(t, "alert 48, unknown_ca")
	if out, err := exec.Command(curl, "-sS", "-k", p.url).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.stderr.wait(t, "the same client rejected us in #1", "clicked through a warning, installed the CA")
}

// The story of RSA key exchange: the secret goes encrypted to the server, and both Finished prove that it arrived.
func TestTheStoryOfRSAKeyExchange(t *testing.T) {
	besides(t)
	dir := t.TempDir()
	make := exec.Command(need(t, "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=legacy.test/O=Legacy Ltd",
		"-addext", "subjectAltName=DNS:legacy.test", "-keyout", "key.pem", "-out", "cert.pem")
	make.Dir = dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	configuration := `listen: {https: ["127.0.0.1:0"], http: []}
certificates: {files: [{cert: cert.pem, key: key.pem}]}
sites: [{hosts: [legacy.test], tls: {legacy_rsa_key_exchange: true}}]
`
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	p.stderr.wait(t, "RSA key exchange is on")
	client := exec.Command("openssl", "s_client", "-quiet", "-connect", "127.0.0.1"+p.url[strings.LastIndex(p.url, ":"):], "-servername", "legacy.test", "-tls1_2", "-cipher", "AES256-GCM-SHA384")
	client.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: legacy.test\r\nConnection: close\r\n\r\n")
	_ = client.Run()
	story := p.stderr.wait(t, "the padlock is closed")
	last := -1
	for _, want := range []string{
		"ClientHello", "ServerHello", "legacy.test, Legacy Ltd", "ServerHelloDone",
		"the pre-master secret, encrypted with your certificate's public key", "we have both made the master key from the pre-master secret",
		"they do; from here on everything is encrypted", "the padlock is closed", "no forward secrecy",
	} {
		at := strings.Index(story, want)
		if at <= last {
			t.Errorf("%q is missing, or out of order, in\n%s", want, story)
		}
		last = at
	}
}

// probe finds what is right and what is wrong with a server, and says so by its exit code.
func TestProbeJudgesAServer(t *testing.T) {
	besides(t)
	p := start(t)
	address := strings.TrimPrefix(p.url, "https://")
	out, err := command(p.home, "probe", "--json", "--ca", p.root(t), address).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report struct {
		OK     bool
		Checks []struct{ Name, Grade, Detail string }
	}
	if err := json.Unmarshal(out, &report); err != nil || !report.OK {
		t.Fatalf("%v\n%s", err, out)
	}
	graded := map[string]string{}
	for _, c := range report.Checks {
		graded[c.Name] = c.Grade
	}
	for _, name := range []string{"reachable", "padlock", "tls13", "tls12", "old_versions", "post_quantum", "alpn", "resumption", "wrong_name"} {
		if graded[name] != "good" {
			t.Errorf("%s is %q in\n%s", name, graded[name], out)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"probe", address}, "does not trust its CA"},
		{[]string{"probe", "--ca", p.root(t), "--name", "bank.example", address}, "the server has no certificate for this name"},
		{[]string{"probe", "127.0.0.1:1"}, "connection refused"},
	} {
		out, err := command(p.home, c.args...).CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %v\n%s", c.args, err, out)
		}
	}
}

// watch shows what comes while it comes, filtered.
func TestWatchShowsHandshakesAsTheyHappen(t *testing.T) {
	besides(t)
	p := start(t)
	curl := func(args ...string) { _ = exec.Command(need(t, "curl"), append(args, "-sS", p.url)...).Run() }
	watch := command(p.home, "watch", "--outcome", "failures", "--format", "line")
	seen := &log{more: make(chan struct{})}
	watch.Stdout = seen
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Process.Kill(); _ = watch.Wait() })
	stop := make(chan struct{})
	go func() { // until the watcher listens
		for {
			curl("-k")
			curl()
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	text := seen.wait(t, "alert 48 unknown_ca")
	close(stop)
	if strings.Contains(text, "complete") {
		t.Errorf("the filter let through\n%s", text)
	}
	past, err := command(p.home, "watch", "--past", "--format", "json").Output()
	if err != nil || !strings.Contains(string(past), `"outcome":"complete"`) {
		t.Errorf("%v\n%s", err, past)
	}
	if out, err := command(t.TempDir(), "watch").CombinedOutput(); err == nil || !strings.Contains(string(out), "no padlock answers") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDoctorFindsNothingWrong(t *testing.T) {
	besides(t)
	out, err := command(t.TempDir(), "doctor", "localhost").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "with itself: X25519MLKEM768") || !strings.Contains(string(out), "this machine") {
		t.Errorf("%v\n%s", err, out)
	}
}
