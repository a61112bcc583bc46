package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What only this machine can find wrong gets the line of its key, as what is wrong in the file does, also where there are several. Without a
// file, keys say nothing.
func TestErrorsOfTheMachineHaveALine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "padlock.yaml")
	if err := os.WriteFile(file, []byte("access_log: {output: a.log}\nadmin: 127.0.0.1:2020\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := func() error {
		return errors.Join(At("access_log.output", fs.ErrNotExist), At("admin", fs.ErrPermission), Errors{{Path: "admin", Message: "other"}})
	}
	want := file + ":1:22: access_log.output: file does not exist\n" + file + ":2:8: admin: permission denied\n" + file + ":2:8: admin: other"
	if got := Located(file, wrong()); got.Error() != want || !errors.Is(got, fs.ErrPermission) {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
	if got := Located("", wrong()).Error(); got != "file does not exist\npermission denied\nother" {
		t.Errorf("without a file: %s", got)
	}
	if At("admin", nil) != nil {
		t.Error("nothing is an error")
	}
}

// Whoever names a CA for a target, or has it unverified, believes that TLS is spoken to it.
func TestSettingsOfTLSForTargetsWithoutItAreAWarning(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string][]string{
		"routes: [{to: 3000, insecure_skip_verify: true}]":                                                {"sites[0].routes[0].insecure_skip_verify"},
		"routes: [{to: ['http://a:1', 'unix:/a'], server_name: a}]":                                       {"sites[0].routes[0].server_name"},
		"routes: [{to: ['http://a:1', 'https://b'], server_name: a}]":                                     nil,
		"tcp: {to: 'a:1', server_name: a}":                                                                {"sites[0].tcp.server_name"},
		"tcp: {to: 'tls://a:1', server_name: a}":                                                          nil,
		"forward_auth: {to: 9091, uri: /, server_name: a, insecure_skip_verify: true}, routes: [{to: 1}]": {"sites[0].forward_auth.server_name", "sites[0].forward_auth.insecure_skip_verify"},
	} {
		file := filepath.Join(dir, "padlock.yaml")
		if err := os.WriteFile(file, []byte("storage: s\nsites: [{hosts: [a.test], "+text+"}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var got []string
		if _, err := Load(file, nil, func(e Error) {
			if e.Line > 0 && strings.Contains(e.Message, "without TLS") {
				got = append(got, e.Path)
			}
		}); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: warnings %q, not %q", text, got, want)
		}
	}
}

// A place for the storage that can never be a directory is an error of the file, and not a riddle at the start.
func TestAStorageThatIsNoDirectoryIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for storage, want := range map[string]string{"file": "is a file", "file/below": "would lie in a file", "link": "is a link", "new": "", "redis://localhost": ""} {
		_, err := Parse(filepath.Join(dir, "padlock.yaml"), []byte("storage: "+storage+"\nsites: [{hosts: [a.test]}]\n"))
		if got := errors.Join(err); (got == nil) != (want == "") || got != nil && (!strings.Contains(got.Error(), want) || !strings.Contains(got.Error(), ":1:10: storage:")) {
			t.Errorf("%s: %v", storage, err)
		}
	}
}
