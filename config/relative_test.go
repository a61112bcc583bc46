package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"padlock/internal/servicetest"
)

// Every path in a file that is not absolute begins in the directory of the file, wherever padlock is started.
func TestRelativePathsBeginInTheDirectoryOfTheFile(t *testing.T) {
	dir := t.TempDir()
	servicetest.Certificate(t, dir)
	users := "anna:$2y$04$abcdefghijklmnopqrstuuRLeQCr7zS7w6dyJVjbKCVqpAY6oZWyy\n"
	for name, content := range map[string]string{"users": users, "key.txt": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer("CERT", "cert.pem", "KEY", "key.pem").Replace(`
storage: data
storage_key: file:key.txt
admin: {address: "unix:run/admin.sock"}
handshakes: {output: log/handshakes, capture: c.pcapng, insecure_export_secrets: true}
access_log: {output: log/access}
tracing: {endpoint: "https://localhost:4318", ca: CERT}
certificates:
  files: [{cert: CERT, key: KEY, intermediates: CERT}, {directory: .}, {pkcs12: CERT, password: "file:users"}]
  issuers: [{directory: "https://localhost/dir", root: CERT}]
sites:
  - hosts: [a.test]
    basic_auth: {users_file: users}
    tls: {client_auth: {mode: require, ca: CERT}}
    routes: [{to: ["unix:app.sock", "https://localhost:1"], ca: CERT, client_cert: CERT, client_key: KEY}]
`)
	file := filepath.Join(dir, "padlock.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	c, err := Load(file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	in := func(name string) string { return filepath.Join(dir, name) }
	route := c.Sites[0].Routes[0]
	for got, want := range map[string]string{
		c.Storage: in("data"), c.StorageKey: "file:" + in("key.txt"), c.AdminSocket(): in("run/admin.sock"), c.Handshakes.Output: in("log/handshakes"),
		c.Handshakes.Capture: in("c.pcapng"), c.AccessLog.Output: in("log/access"), c.Certificates.Files[1].Directory: dir,
		c.Certificates.Files[2].Password: "file:" + in("users"), c.Sites[0].Access.BasicAuth.UsersFile: in("users"), route.To[0].Target.Address: in("app.sock"),
	} {
		if got != want {
			t.Errorf("%s instead of %s", got, want)
		}
	}
	if again, err := Parse("elsewhere.yaml", []byte(strings.ReplaceAll(text, " data\n", " /data\n"))); err == nil {
		t.Errorf("files are found in another directory: %+v", again)
	}
	unresolved(t, reflect.ValueOf(c).Elem(), dir)
}

// unresolved finds fields with a path that has stayed relative.
func unresolved(t *testing.T, v reflect.Value, dir string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			unresolved(t, v.Elem(), dir)
		}
	case reflect.Slice:
		for i := range v.Len() {
			unresolved(t, v.Index(i), dir)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				unresolved(t, v.Field(i), dir)
			}
		}
	case reflect.String:
		for _, name := range []string{"users", "key.txt", "cert.pem", "key.pem", "app.sock"} {
			if s := v.String(); s == name || strings.HasSuffix(s, ":"+name) {
				t.Errorf("%q has stayed relative", s)
			}
		}
	}
}
