//go:build linux

package regular

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// What is no regular file is an error at once, with its name and what to do, and so is what is too large.
func TestOnlyRegularFilesOfABoundedSizeAreRead(t *testing.T) {
	dir := t.TempDir()
	fifo, large, sound, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "large"), filepath.Join(dir, "sound"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.WriteFile(large, make([]byte, 101), 0o600), os.WriteFile(sound, make([]byte, 100), 0o600), os.Symlink(sound, link)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for name, want := range map[string]error{
		fifo: ErrIrregular, "/dev/zero": ErrIrregular, "/dev/fd": nil, dir: nil, large: ErrTooLarge, filepath.Join(dir, "none"): os.ErrNotExist,
	} {
		for reader, read := range map[string]func(string, int64) ([]byte, error){"Read": Read, "Named": Named} {
			data, err := read(name, 100)
			if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: %d bytes, %v", reader, name, len(data), err)
			}
		}
	}
	for _, name := range []string{fifo, "/dev/zero", dir} {
		if err := Check(name); err == nil || !strings.Contains(err.Error(), "name a file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{sound, link} {
		if data, err := Named(name, 100); err != nil || len(data) != 100 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	if took := time.Since(begun); took > Patience/2 {
		t.Errorf("it took %s", took)
	}
}

// A pipe that the process was started with is read, as a shell's <(command) is one.
func TestAPipeOfTheProcessItselfIsRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_, _ = w.WriteString("content")
		w.Close()
	}()
	if data, err := Named(fmt.Sprintf("/dev/fd/%d", r.Fd()), 100); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
}

// A file system that does not answer keeps nobody waiting for longer than the patience, costs no thread for every attempt, and is read again
// when it answers.
func TestAFileSystemThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	name, wake := servicetest.DeadMount(t)
	var s silence
	var attempts atomic.Int32
	read := func() error {
		_, err := within(&s, 200*time.Millisecond, name, func() (struct{}, error) {
			attempts.Add(1)
			_, err := os.Stat(name)
			return struct{}{}, err
		})
		return err
	}
	begun := time.Now()
	for range 100 {
		if err := read(); !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), name) {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > 10*time.Second || attempts.Load() > 8 {
		t.Errorf("100 reads took %s, with %d attempts", took, attempts.Load())
	}

	wake()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := read()
		if err != nil && !errors.Is(err, ErrSilent) { // the connection to its server was aborted
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it answers again, and nobody asks: %v", err)
		}
	}
}

// A page that everybody will see is not read through another user's link to a file that not everybody may read: neither at its name nor on the way
// to it.
func TestNobodyHasAPageShowWhatOnlyPadlockMayRead(t *testing.T) {
	servicetest.Root(t)
	const stranger, service = 12345, 12346
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	link := func(name, to string, owner int) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, at(name)), os.Lchown(at(name), owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string, mode os.FileMode, owner int) {
		t.Helper()
		if err := errors.Join(os.WriteFile(at(name), []byte("x"), mode), os.Chmod(at(name), mode), os.Chown(at(name), owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at("keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	file("keys/secret", 0o600, 0)
	file("keys/open", 0o644, 0)
	file("own", 0o600, stranger)
	link("theirs", "keys/secret", stranger)
	link("further", "theirs", 0)
	link("folder", "keys", stranger)
	link("absolute", at("keys/secret"), stranger)
	link("to-open", "keys/open", stranger)
	link("to-own", "own", stranger)
	link("of-root", "keys/secret", 0)
	link("of-another", "own", service)
	link("up", "keys/../keys/secret", stranger)
	for name, refused := range map[string]bool{
		"theirs": true, "further": true, "folder/secret": true, "absolute": true, "of-another": true, "up": true,
		"keys/secret": false, "folder/open": false, "to-open": false, "to-own": false, "of-root": false, "own": false,
	} {
		data, err := Public(at(name), 100)
		if refused != errors.Is(err, ErrLinked) || !refused && string(data) != "x" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

// What is written goes neither into a file that another user has put where everybody can put files nor where their link leads; root, and
// whoever owns the directory, may put it there.
func TestNobodyElseChoosesWhereSomethingIsWritten(t *testing.T) {
	servicetest.Root(t)
	const stranger = 12345
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	directory := func(name string, mode uint32, owner int) {
		t.Helper()
		if err := errors.Join(os.Mkdir(at(name), 0o700), syscall.Chmod(at(name), mode), os.Chown(at(name), owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string, owner int) {
		t.Helper()
		if err := errors.Join(os.WriteFile(at(name), nil, 0o666), os.Chown(at(name), owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string, owner int) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, at(name)), os.Lchown(at(name), owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	directory("everybodys", 0o1777, 0)
	directory("open", 0o777, 0)
	directory("groups", 0o775, 0)
	directory("theirs", 0o755, stranger)
	directory("own", 0o755, 0)
	for _, in := range []string{"everybodys", "open", "groups", "theirs", "own"} {
		file(in+"/own", 0)
		file(in+"/theirs", stranger)
	}
	if err := errors.Join(syscall.Mkfifo(at("everybodys/pipe"), 0o600), os.Chown(at("everybodys/pipe"), stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	link("everybodys/to-own", "../own/own", stranger)
	link("everybodys/to-theirs", "../theirs/theirs", stranger)
	link("theirs/to-own", at("own/own"), stranger)
	link("theirs/to-theirs", "theirs", stranger)
	link("theirs/roots", at("own/own"), 0)
	link("folder", "own", stranger)
	for name, refused := range map[string]bool{
		"everybodys/own": false, "everybodys/theirs": true, "everybodys/pipe": true, "everybodys/to-own": true, "everybodys/to-theirs": true,
		"open/own": false, "open/theirs": true, "groups/theirs": false, "own/own": false, "own/theirs": false,
		"theirs/own": false, "theirs/theirs": false, "theirs/to-own": true, "theirs/to-theirs": false, "theirs/roots": false, "folder/own": true,
	} {
		f, err := os.OpenFile(at(name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckWritten(at(name), f); refused != errors.Is(err, ErrPlanted) || !refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
		if err := CheckPlace(at(name)); refused != errors.Is(err, ErrPlanted) {
			t.Errorf("%s as a socket: %v", name, err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := CheckWritten(fmt.Sprintf("/dev/fd/%d", w.Fd()), w); err != nil {
		t.Errorf("a pipe of this process: %v", err)
	}

	// A file that is exchanged after it was opened is not the one that was looked at.
	f, err := os.OpenFile(at("own/own"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(at("own/theirs"), at("own/own")); err != nil {
		t.Fatal(err)
	}
	if err := CheckWritten(at("own/own"), f); !errors.Is(err, ErrPlanted) {
		t.Errorf("a file that was exchanged: %v", err)
	}
}
