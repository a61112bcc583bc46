//go:build unix

package daemon

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padlock/config"
)

// A file that is to hold secrets is for its owner alone, whatever was there before under its name.
func TestFilesWithSecretsAreForTheirOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("there", "\n\r\r\nold", 0o666)
	reader, err := os.Open(at("there")) // somebody who has it open already
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, name := range []string{"there", "new"} {
		f, err := createPrivate(at(name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("secret"); err != nil {
			t.Error(err)
		}
		f.Close()
		info, err := os.Stat(at(name))
		data, _ := os.ReadFile(at(name))
		if err != nil || info.Mode().Perm() != 0o600 || string(data) != "secret" {
			t.Errorf("%s: mode %v, %q, %v", name, info.Mode(), data, err)
		}
	}
	if data, _ := io.ReadAll(reader); strings.Contains(string(data), "secret") {
		t.Error("whoever had the file open reads what is written now")
	}

	put("victim", "kept", 0o600)
	put("opened", "old", 0o666)
	if err := os.Symlink(at("victim"), at("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(at("pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	put("short", "ab", 0o600)
	for _, name := range []string{"link", "pipe", ".", "victim", "short"} {
		if f, err := createPrivate(at(name)); err == nil {
			f.Close()
			t.Errorf("%s is taken", name)
		}
	}
	if data, _ := os.ReadFile(at("victim")); string(data) != "kept" {
		t.Errorf("a link was followed, or a file that is no capture overwritten: %q", data)
	}
	f, err := emptied(at("opened"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if info, err := os.Stat(at("opened")); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 0 {
		t.Errorf("mode %v, %d bytes, %v", info.Mode(), info.Size(), err)
	}

	for mode, want := range map[os.FileMode]os.FileMode{0o666: 0o640, 0o644: 0o640, 0o640: 0o640, 0o600: 0o600} {
		put("log", "line\n", mode)
		f, err := appendPrivate(at("log"))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if info, err := os.Stat(at("log")); err != nil || info.Mode().Perm() != want || info.Size() != 5 {
			t.Errorf("a log of mode %v has %v, %v", mode, info.Mode(), err)
		}
	}
}

// --capture onto a file that everybody can read leaves one that its owner alone can.
func TestCaptureOntoAnExistingFileIsPrivate(t *testing.T) {
	dir := t.TempDir()
	cfg := parsed(t, dir, "storage: DIR/storage\nadmin: off\nlisten: {https: [127.0.0.1:1], http: []}\nhandshakes: {capture: DIR/capture.pcapng, output: DIR/handshakes.log, format: line, insecure_export_secrets: true}\naccess_log: {output: DIR/access.log, format: json}\n"+
		"sites: [{hosts: [app.test], routes: [{to: 3000}]}]\n")
	names := []string{"capture.pcapng", "handshakes.log", "access.log"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	d := &daemon{cfg: cfg, ending: newDeadline(t.Context(), time.Minute), log: slog.New(slog.DiscardHandler)}
	if err := d.openRecorder(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.closeRecorder()
	if err := d.openAccessLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.closeAccessLog()
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm()&0o007 != 0 || name == names[0] && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

// A capture that was moved away is whole, and the one that follows it begins anew, as private as the first; one that was not stays as it is. Where
// none could be made at the start, it begins when it can.
func TestACaptureGoesOnInTheFileThatHasTheName(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "capture.pcapng")
	quiet := slog.New(slog.DiscardHandler)
	d := &daemon{log: quiet}
	_, done, err := d.openCapture(config.Handshakes{Capture: name})
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	d.logFiles.reopen(quiet)
	if same, err := os.Stat(name); err != nil || !os.SameFile(first, same) {
		t.Errorf("a capture that nobody has moved is another one: %v", err)
	}

	for i, leave := range []func() error{
		func() error { return os.Rename(name, name+".1") },
		func() error { return errors.Join(os.Rename(name, name+".2"), os.WriteFile(name, nil, 0o644)) }, // create of logrotate
		func() error { return os.Remove(name) },
	} {
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		d.logFiles.reopen(quiet)
		info, err := os.Stat(name)
		if err != nil || info.Size() != first.Size() || info.Mode().Perm() != 0o600 {
			t.Errorf("%d: %v, %v", i, info, err)
		}
	}
	if before, err := os.Stat(name + ".1"); err != nil || !os.SameFile(first, before) || before.Size() != first.Size() {
		t.Errorf("the capture that was moved away: %v, %v", before, err)
	}

	// A padlock that takes over has begun its own: the one before leaves it alone, until the other has failed.
	theirs := []byte("\n\r\r\nanother padlock's")
	if err := errors.Join(os.Remove(name), os.WriteFile(name, theirs, 0o600)); err != nil {
		t.Fatal(err)
	}
	d.logFiles.cede(true)
	d.logFiles.reopen(quiet)
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, theirs) {
		t.Errorf("the other's capture: %q, %v", got, err)
	}
	d.logFiles.cede(false)
	d.logFiles.reopen(quiet)
	if got, err := os.ReadFile(name); err != nil || bytes.Equal(got, theirs) {
		t.Errorf("the capture after the other has failed: %q, %v", got, err)
	}
	done()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	d.logFiles.reopen(quiet)
	if _, err := os.Stat(name); err == nil {
		t.Error("a capture is begun after the end")
	}
}
