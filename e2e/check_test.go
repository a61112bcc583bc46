//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"padlock/internal/pemfile"
	"padlock/internal/servicetest"
)

// refusals are configurations that padlock run does not start with, or of which it depends on the machine. DIR is a directory with cert.pem and
// key.pem, which belong together, other.pem, no.pem (text), no.p12 (the same), good.p12 (password "secret"), file, folder and link; TAKEN is
// an address where somebody listens.
var refusals = map[string]string{
	"nothing is wrong":             "",
	"no file":                      "NO FILE",
	"a directory for a file":       "FOLDER",
	"a tab":                        "sites:\n\t- hosts: [a.test]",
	"key of another certificate":   "certificates: {files: [{cert: DIR/cert.pem, key: DIR/other.pem}]}",
	"certificate without PEM":      "certificates: {files: [{cert: DIR/no.pem, key: DIR/key.pem}]}",
	"key without PEM":              "certificates: {files: [{cert: DIR/cert.pem, key: DIR/no.pem}]}",
	"certificate without key":      "certificates: {files: [{cert: DIR/cert.pem}]}",
	"certificate that is missing":  "certificates: {files: [{cert: DIR/missing.pem, key: DIR/key.pem}]}",
	"two files, both wrong":        "certificates: {files: [{cert: DIR/no.pem, key: DIR/key.pem}, {cert: DIR/cert.pem, key: DIR/other.pem}]}",
	"PKCS#12 that is none":         "certificates: {files: [{pkcs12: DIR/no.p12, password: secret}]}",
	"PKCS#12 with its password":    "certificates: {files: [{pkcs12: DIR/good.p12, password: secret}]}",
	"PKCS#12 with another":         "certificates: {files: [{pkcs12: DIR/good.p12, password: other}]}",
	"PKCS#12, password of no file": "certificates: {files: [{pkcs12: DIR/good.p12, password: \"file:DIR/missing\"}]}",
	"directory that is a file":     "certificates: {files: [{directory: DIR/file}]}",
	"directory without any":        "certificates: {files: [{directory: DIR/folder}]}",
	"intermediates without PEM":    "certificates: {files: [{cert: DIR/cert.pem, key: DIR/key.pem, intermediates: DIR/no.pem}]}",
	"root of a CA without PEM":     "certificates: {issuers: [{directory: \"https://127.0.0.1:1/dir\", root: DIR/no.pem}]}",
	"DNS without settings":         "certificates: {dns: {provider: cloudflare}}\nsites: [{hosts: [app.example.com]}]",
	"wildcard without DNS":         "sites: [{hosts: [\"*.example.com\"]}]",
	"a name of the DNS":            "certificates: {issuers: [\"https://127.0.0.1:1/dir\"]}\nsites: [{hosts: [app.example.com]}]",
	"a single name":                "sites: [{hosts: [printer]}]",

	"storage that is a file":          "storage: DIR/file",
	"storage below a file":            "storage: DIR/file/storage",
	"storage of no scheme":            "storage: ftp://127.0.0.1/",
	"Redis with an unknown option":    "storage: redis://127.0.0.1:1/0?nonsense=1",
	"Redis that is away":              "storage: redis://127.0.0.1:1/0",
	"PostgreSQL with no CA":           "storage: \"postgres://127.0.0.1:1/db?sslmode=verify-full&sslrootcert=DIR/no.pem\"",
	"storage_key too short":           "storage_key: AAAA",
	"storage_key in no file":          "storage_key: \"file:DIR/missing\"",
	"storage_key_file missing":        "storage_key_file: DIR/missing",
	"a local CA that is damaged":      "storage: DIR/damaged",
	"storage that is encrypted":       "storage: DIR/sealed",
	"encrypted with another key":      "storage: DIR/sealed\nstorage_key: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
	"a storage that is in the clear":  "storage: DIR/clear\nstorage_key: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
	"a storage that is to be made":    "storage: DIR/folder/one/two",
	"port that is taken":              "listen: {https: [TAKEN], http: []}",
	"port of HTTP that is taken":      "listen: {https: [\"127.0.0.1:0\"], http: [TAKEN]}",
	"port of a site that is taken":    "sites: [{hosts: [a.test], listen: [TAKEN]}]",
	"address of another machine":      "listen: {https: [\"192.0.2.1:0\"], http: []}",
	"one address for two things":      "listen: {https: [\"127.0.0.1:0\"], http: [\"127.0.0.1:0\"]}",
	"one port, by two addresses":      "listen: {https: [\"127.0.0.1:FREE\", \":FREE\"], http: []}",
	"admin where somebody listens":    "admin: TAKEN",
	"admin where HTTPS listens":       "listen: {https: [\"127.0.0.1:FREE\"], http: []}\nadmin: \"127.0.0.1:FREE\"",
	"admin of another machine":        "admin: {address: \"192.0.2.1:0\", token: 0123456789abcdef}",
	"admin without a token":           "admin: \"0.0.0.0:0\"",
	"admin with another key":          "admin: {address: \"0.0.0.0:0\", token: 0123456789abcdef, cert: DIR/cert.pem, key: DIR/other.pem}",
	"admin with a CA without PEM":     "admin: {address: \"0.0.0.0:0\", client_ca: DIR/no.pem}",
	"admin's socket in no directory":  "admin: \"unix:DIR/missing/admin.sock\"",
	"admin's socket in a directory":   "admin: \"unix:DIR/folder/admin.sock\"",
	"admin's socket is a directory":   "admin: \"unix:DIR/folder\"",
	"admin's socket with a long name": "admin: \"unix:DIR/folder/" + strings.Repeat("x", 120) + "\"",

	"handshakes into no directory":  "handshakes: {output: DIR/missing/handshakes}",
	"handshakes into a directory":   "handshakes: {output: DIR/folder}",
	"handshakes into a file":        "handshakes: {output: DIR/folder/handshakes}",
	"handshakes below a file":       "handshakes: {output: DIR/file/handshakes}",
	"capture into no directory":     "handshakes: {capture: DIR/missing/c, insecure_export_secrets: true}",
	"capture into a directory":      "handshakes: {capture: DIR/folder, insecure_export_secrets: true}",
	"capture into a link":           "handshakes: {capture: DIR/link, insecure_export_secrets: true}",
	"capture over a file":           "handshakes: {capture: DIR/file, insecure_export_secrets: true}",
	"capture, not asked for twice":  "handshakes: {capture: DIR/folder/c}",
	"access log into no directory":  "access_log: {output: DIR/missing/access}",
	"access log into a directory":   "access_log: {output: DIR/folder}",
	"access log that is off":        "access_log: {format: \"off\", output: DIR/missing/access}",
	"a user that does not exist":    "user: nosuchuser",
	"the user root":                 "user: root",
	"tracing with a CA without PEM": "tracing: {endpoint: \"https://127.0.0.1:1\", ca: DIR/no.pem}",
	"headers of tracing missing":    "tracing: {endpoint: \"http://127.0.0.1:1\", headers_file: DIR/missing}",

	"CA of clients without PEM":   "sites: [{hosts: [a.test], tls: {client_auth: {mode: require, ca: DIR/no.pem}}}]",
	"CA of clients missing":       "sites: [{hosts: [a.test], tls: {client_auth: {mode: require, ca: DIR/missing}}}]",
	"CRL that is none":            "sites: [{hosts: [a.test], tls: {client_auth: {mode: require, ca: DIR/cert.pem, crl: [DIR/no.pem]}}}]",
	"CA of targets without PEM":   "sites: [{hosts: [a.test], routes: [{to: \"https://127.0.0.1:1\", ca: DIR/no.pem}]}]",
	"client_cert of another key":  "sites: [{hosts: [a.test], routes: [{to: \"https://127.0.0.1:1\", client_cert: DIR/cert.pem, client_key: DIR/other.pem}]}]",
	"client_cert without PEM":     "sites: [{hosts: [a.test], routes: [{to: \"https://127.0.0.1:1\", client_cert: DIR/no.pem, client_key: DIR/key.pem}]}]",
	"client_cert without its key": "sites: [{hosts: [a.test], routes: [{to: \"https://127.0.0.1:1\", client_cert: DIR/cert.pem}]}]",
	"users in no file":            "sites: [{hosts: [a.test], basic_auth: {users_file: DIR/missing}}]",
	"users without hashes":        "sites: [{hosts: [a.test], basic_auth: {users_file: DIR/no.pem}}]",
	"users that are nobody":       "sites: [{hosts: [a.test], basic_auth: {users_file: DIR/empty}}]",
	"one name for two sites":      "sites: [{hosts: [a.test]}, {hosts: [a.test]}]",
}

// Whatever padlock run does not start with, padlock check refuses with the same words, and nothing else; and it changes nothing.
func TestCheckRefusesWhatRunRefuses(t *testing.T) {
	works(t)
	dir := t.TempDir()
	refusedFiles(t, dir)
	taken := takenAddress(t)
	for name, text := range refusals {
		t.Run(name, func(t *testing.T) {
			compareCheck(t, plain, "", dir, taken, text)
		})
	}
}

// The same goes for a user who may not do everything.
func TestCheckRefusesWhatRunRefusesToAUser(t *testing.T) {
	works(t)
	u := asNobody(t, plain)
	dir := filepath.Join(u.dir, "work")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	refusedFiles(t, dir)
	taken := takenAddress(t)
	for name, text := range map[string]string{
		"nothing is wrong":                  "storage: " + u.storage,
		"a storage of another user":         "storage: DIR/clear",
		"a storage in another's directory":  "storage: DIR/missing",
		"a key of another user":             "storage: " + u.storage + "\ncertificates: {files: [{cert: DIR/cert.pem, key: DIR/key.pem}]}",
		"a log of another user":             "storage: " + u.storage + "\nhandshakes: {output: DIR/file}",
		"a log in another's directory":      "storage: " + u.storage + "\naccess_log: {output: DIR/access}",
		"a capture in another's directory":  "storage: " + u.storage + "\nhandshakes: {capture: DIR/c, insecure_export_secrets: true}",
		"a capture over another's file":     "storage: " + u.storage + "\nhandshakes: {capture: DIR/file, insecure_export_secrets: true}",
		"a socket in another's directory":   "storage: " + u.storage + "\nadmin: \"unix:DIR/admin.sock\"",
		"a socket where there is another's": "storage: " + u.storage + "\nadmin: \"unix:DIR/file\"",
		"a port below 1024":                 "storage: " + u.storage + "\nlisten: {https: [\"127.0.0.1:443\"], http: []}",
		"to become another":                 "storage: " + u.storage + "\nuser: daemon",
		"to become oneself":                 "storage: " + u.storage + "\nuser: " + u.Username,
		"a configuration of another user":   "SECRET",
	} {
		t.Run(name, func(t *testing.T) {
			compareCheck(t, u.program, u.Username, dir, taken, text)
		})
	}
}

func takenAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// refusedFiles makes what the configurations name.
func refusedFiles(t *testing.T, dir string) {
	t.Helper()
	other := t.TempDir()
	servicetest.Certificate(t, dir)
	servicetest.Certificate(t, other)
	pair, err := pemfile.LoadPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(other, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"other.pem": key, "no.pem": []byte("no PEM at all\n"), "no.p12": []byte("no PKCS#12 at all\n"), "good.p12": archive, "file": []byte("x"), "empty": nil,
		"damaged/localca/root.pem": []byte("damaged"), "clear/tickets/keys.json": []byte(`[{"from":"2026-01-01T00:00:00Z","key":"AAAA"}]`),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join(dir, "sealed")
	if err := os.CopyFS(sealed, os.DirFS(filepath.Join(dir, "clear"))); err != nil {
		t.Fatal(err)
	}
	encrypt := program(plain, other, "certs", "encrypt", "--storage", sealed, "--storage-key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDA=")
	if out, err := encrypt.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// compareCheck runs padlock check, and then padlock run, with a configuration.
func compareCheck(t *testing.T, path, user, dir, taken, text string) {
	t.Helper()
	own := t.TempDir()
	file := filepath.Join(own, "padlock.yaml")
	if user != "" {
		file = filepath.Join(dir, "..", "padlock.yaml")
	}
	mode := fs.FileMode(0o644)
	switch text {
	case "NO FILE":
		file += ".missing"
	case "FOLDER":
		file = dir
	default:
		if text == "SECRET" {
			text, mode = "", 0o600
		}
		if !strings.Contains(text, "sites:") {
			text += "\nsites: [{hosts: [a.test, localhost]}]"
		}
		for key, value := range map[string]string{"storage:": own + "/storage", "admin:": "\"off\"", "listen: {": "{https: [\"127.0.0.1:0\"], http: []}"} {
			if !strings.Contains(text, key) {
				text += "\n" + strings.TrimSuffix(key, " {") + " " + value
			}
		}
		text = strings.NewReplacer("DIR", dir, "TAKEN", fmt.Sprintf("%q", taken), "FREE", freePort(t)).Replace(text) + "\n"
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}

	before := listing(t, dir, own)
	code, said := outcomeOf(t, user, path, own, "check", "--config", file)
	if after := listing(t, dir, own); after != before {
		t.Errorf("check has changed\n%s\nto\n%s", before, after)
	}
	runCode, refused := outcomeOf(t, user, path, own, "run", "--config", file)
	reason := errorOf(refused)
	switch {
	case runCode != code:
		t.Errorf("check ends with %d:\n%s\nand run with %d:\n%s", code, said, runCode, refused)
	case code != 0 && !strings.Contains(said, reason):
		t.Errorf("check does not say what run does:\n%s\nbut\n%s", refused, said)
	case code != 0 && !strings.Contains(said, "padlock: hint: "):
		t.Errorf("no hint: %s", said)
	}
}

// errorOf is what stands between error and hint, of which padlock run tells the first only.
func errorOf(said string) string {
	_, rest, _ := strings.Cut(said, "padlock: error: ")
	reason, _, _ := strings.Cut(rest, "\npadlock: hint: ")
	return strings.TrimSpace(reason)
}

// outcomeOf runs padlock as a user until it ends, or serves: then it is stopped, and the code is 0.
func outcomeOf(t *testing.T, user, path, home string, args ...string) (code int, said string) {
	t.Helper()
	c := program(path, home, args...)
	if user != "" {
		c = program("setpriv", home, append([]string{"--reuid", user, "--regid", "nogroup", "--clear-groups", path}, args...)...)
	}
	out := &untilServing{serves: make(chan struct{})}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = c.Wait() // the code says how it ended
		close(ended)
	}()
	select {
	case <-ended:
	case <-out.serves:
		_ = c.Process.Signal(syscall.SIGTERM)
		<-ended
	case <-t.Context().Done():
		_ = c.Process.Kill()
		<-ended
	}
	return c.ProcessState.ExitCode(), out.text.String()
}

// untilServing is what a padlock writes, and hears of its first site.
type untilServing struct {
	text   bytes.Buffer
	once   sync.Once
	serves chan struct{}
}

func (u *untilServing) Write(p []byte) (int, error) {
	n, err := u.text.Write(p)
	if strings.Contains(u.text.String(), " → ") {
		u.once.Do(func() { close(u.serves) })
	}
	return n, err
}

// listing is all that directories hold.
func listing(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}
