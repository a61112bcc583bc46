//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/certs/storage"
	"padlock/internal/regular"
	"padlock/internal/servicetest"
)

// namedFiles are configurations that name FILE in every way that there is.
var namedFiles = map[string]string{
	"certificate":             "certificates: {files: [{cert: FILE, key: KEY}]}",
	"key":                     "certificates: {files: [{cert: CERT, key: FILE}]}",
	"intermediates":           "certificates: {files: [{cert: CERT, key: KEY, intermediates: FILE}]}",
	"PKCS#12":                 "certificates: {files: [{pkcs12: FILE}]}",
	"root of a CA":            "certificates: {issuers: [{directory: \"https://127.0.0.1:1/dir\", root: FILE}]}",
	"storage_key_file":        "storage_key_file: FILE",
	"storage_key":             "storage_key: \"file:FILE\"",
	"admin.token_file":        "admin: {address: \"127.0.0.1:1\", token_file: FILE}",
	"admin.client_ca":         "admin: {address: \"192.0.2.1:1\", cert: CERT, key: KEY, client_ca: FILE}",
	"tracing.headers_file":    "tracing: {endpoint: \"http://127.0.0.1:1\", headers_file: FILE}",
	"tracing.ca":              "tracing: {endpoint: \"https://127.0.0.1:1\", ca: FILE}",
	"client_auth.ca":          "sites: [{hosts: [a.test], tls: {client_auth: {mode: require, ca: FILE}}, routes: [{to: 3000}]}]",
	"client_auth.crl":         "sites: [{hosts: [a.test], tls: {client_auth: {mode: require, ca: CERT, crl: FILE}}, routes: [{to: 3000}]}]",
	"users_file":              "sites: [{hosts: [a.test], routes: [{to: 3000, basic_auth: {users_file: FILE}}]}]",
	"ca of targets":           "sites: [{hosts: [a.test], routes: [{to: \"https://127.0.0.1:1\", ca: FILE}]}]",
	"client_cert for targets": "sites: [{hosts: [a.test], routes: [{to: \"https://127.0.0.1:1\", client_cert: FILE, client_key: KEY}]}]",
	"the configuration":       "",
}

// A file that is none, or that does not answer, keeps padlock check, and so a reload, from nothing else: it is named, with what to do.
func TestNoNamedFileKeepsPadlockWaiting(t *testing.T) {
	certs := t.TempDir()
	cert := servicetest.Certificate(t, certs)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	dead, _ := servicetest.DeadMount(t)
	for name, keys := range namedFiles {
		for _, bad := range []string{fifo, "/dev/zero", dead} {
			if bad == dead && !slices.Contains([]string{"certificate", "client_auth.ca", "the configuration"}, name) {
				continue // each would wait
			}
			t.Run(name+" "+filepath.Base(bad), func(t *testing.T) {
				keys := strings.NewReplacer("FILE", bad, "CERT", cert, "KEY", filepath.Join(certs, "key.pem")).Replace(keys)
				if !strings.Contains(keys, "sites:") {
					keys += "\nsites: [{hosts: [a.test], routes: [{to: 3000}]}]"
				}
				keys += "\nlisten: {https: [\"127.0.0.1:0\"], http: []}"
				if !strings.Contains(keys, "storage: ") {
					keys += "\nstorage: DIR"
				}
				file, _ := yaml(t, keys+"\n")
				if name == "the configuration" {
					file = bad
				}
				code, said := ends(t, "check", "--config", file)
				if code != 1 || !strings.Contains(said, bad) || !strings.Contains(said, "name a file") && !strings.Contains(said, "look at the file system") {
					t.Errorf("exit code %d: %s", code, said)
				}
			})
		}
	}
}

// A configuration that has become a FIFO is a reload that fails, and one on a file system that does not answer too; either way the end comes
// as ever.
func TestAConfigurationThatCannotBeReadAgain(t *testing.T) {
	for _, watch := range []bool{false, true} {
		t.Run(fmt.Sprintf("watch %t", watch), func(t *testing.T) {
			file, _ := yaml(t, "listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: unix:DIR/admin.sock\nstorage: DIR/storage\nsites: [{hosts: [localhost], routes: []}]\n")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out servicetest.Buffer
			ended := make(chan int, 1)
			args := []string{"run", "--config", file}
			if watch {
				args = append(args, "--watch")
			}
			go func() { ended <- run(ctx, args, strings.NewReader(""), &out, &out) }()
			admin := "unix:" + filepath.Join(filepath.Dir(file), "admin.sock")
			servicetest.Until(t, func() error {
				if !strings.Contains(out.String(), "https://localhost") {
					return fmt.Errorf("it does not serve: %s", &out)
				}
				return nil
			})
			fifo := file + ".fifo"
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Rename(fifo, file); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if code, said := ends(t, "reload", "--admin", admin); code != 1 || !strings.Contains(said, "not a regular file") {
				t.Errorf("exit code %d: %s", code, said)
			}
			cancel()
			select {
			case code := <-ended:
				if took := time.Since(begun); code != 0 || took > regular.Patience {
					t.Errorf("it ended with %d after %s: %s", code, took, &out)
				}
			case <-time.After(time.Minute):
				t.Fatalf("it does not end: %s", &out)
			}
		})
	}
}

// Whoever has padlock read standard input, and writes nothing, can end it.
func TestSIGTERMEndsThePadlockThatReadsStandardInput(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan struct{})
	ended := make(chan int, 1)
	var out servicetest.Buffer
	go func() { ended <- run(ctx, []string{"run", "--config", "-"}, silent{read}, &out, &out) }()
	<-read
	cancel()
	select {
	case code := <-ended:
		if code != 1 {
			t.Errorf("exit code %d: %s", code, &out)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}

// silent is a reader that nothing comes from.
type silent struct {
	read chan struct{}
}

func (s silent) Read([]byte) (int, error) {
	close(s.read)
	select {}
}

// padlock doctor takes the storage and the names from a file.
func TestDoctorTakesAConfiguration(t *testing.T) {
	file, dir := yaml(t, "storage: DIR/elsewhere\nsites: [{hosts: [app.localhost], routes: [{to: 3000}]}]\n")
	_, said := ends(t, "doctor", "--config", file)
	if !strings.Contains(said, filepath.Join(dir, "elsewhere")+", local CA") {
		t.Error(said)
	}
	if code, said := ends(t, "doctor", "--config", file, "--storage", dir); code != 2 || !strings.Contains(said, "--storage stands in the file that --config names") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// A storage whose marker is gone, and that holds a value in the clear among encrypted ones, is refused with another hint than one that was never
// encrypted: somebody may have put it there.
func TestAPlainValueAmongEncryptedOnesHasAHintOfItsOwn(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	file, dir := yaml(t, "storage: DIR/storage\nstorage_key: "+key+"\nlisten: {https: [127.0.0.1:0], http: []}\nsites: [{hosts: [app.localhost], routes: [{to: 3000}]}]\n")
	place := filepath.Join(dir, "storage")
	put := func(name string, store storage.Store) {
		t.Helper()
		if err := errors.Join(store.Store(t.Context(), "imported/"+name+".pem", []byte("value")), store.Close()); err != nil {
			t.Fatal(err)
		}
	}
	open := func(key []byte) storage.Store {
		t.Helper()
		store, err := storage.Open(t.Context(), place, storage.Options{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	put("plain", open(nil))
	if code, said := ends(t, "check", "--config", file); code != 1 || !strings.Contains(said, "if you trust what it holds") {
		t.Errorf("never encrypted: exit code %d: %s", code, said)
	}
	if err := os.RemoveAll(place); err != nil {
		t.Fatal(err)
	}
	put("sealed", open(make([]byte, 32)))
	if err := os.Remove(filepath.Join(place, "encryption.json")); err != nil {
		t.Fatal(err)
	}
	put("plain", open(nil))
	if code, said := ends(t, "check", "--config", file); code != 1 || !strings.Contains(said, "and others that are") || !strings.Contains(said, "find out who can write to the storage") {
		t.Errorf("among encrypted ones: exit code %d: %s", code, said)
	}
}
