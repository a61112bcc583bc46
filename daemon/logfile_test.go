//go:build unix

package daemon

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padlock/config"
)

// openLog opens a log file that a test closes, and what the operation log says of it.
func openLog(t *testing.T, name string, rotate config.Rotate) (*logFiles, *logFile, func() string) {
	t.Helper()
	f, err := openLogFile(name, rotate, func(lost int, err error) {
		if lost > 0 || err != nil {
			t.Errorf("%d lost, %v", lost, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.out.Close() })
	var files logFiles
	files.add(f)
	var said bytes.Buffer
	return &files, f, func() string {
		said.Reset()
		files.reopen(slog.New(slog.NewTextHandler(&said, nil)))
		return said.String()
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What was written before a file is moved away and the log reopened stands in the old file, what comes after it in the new one, which is as
// private as the first.
func TestAReopenedLogGoesOnInTheFileThatHasTheName(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.log")
	_, f, reopen := openLog(t, name, config.Rotate{MaxSize: 100, Keep: 5})
	fmt.Fprintln(f.out, "first")
	_ = f.out.between(func() error { return nil }) // it is written
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f.out, "second")
	if err := os.WriteFile(name, nil, 0o666); err != nil { // create of logrotate, with the umask of whoever runs it
		t.Fatal(err)
	}
	if said := reopen(); !strings.Contains(said, "log file reopened") {
		t.Errorf("said %q", said)
	}
	if got := content(t, name+".1"); got != "first\nsecond\n" {
		t.Errorf("the file that was moved away has %q", got)
	}
	fmt.Fprintln(f.out, "third")
	f.out.Close()
	if got := content(t, name); got != "third\n" {
		t.Errorf("the new file has %q", got)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("the new file can be read by others: %v %v", info.Mode(), err)
	}
}

// A log that cannot be reopened is an error with its name, and its lines go where they went before.
func TestALogThatCannotBeReopenedKeepsItsFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.log")
	_, f, reopen := openLog(t, name, config.Rotate{MaxSize: 100, Keep: 5})
	fmt.Fprintln(f.out, "first")
	_ = f.out.between(func() error { return nil }) // it is written
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	if said := reopen(); !strings.Contains(said, "cannot be reopened") || !strings.Contains(said, name) {
		t.Errorf("said %q", said)
	}
	fmt.Fprintln(f.out, "second")
	f.out.Close()
	if got := content(t, name+".1"); got != "first\nsecond\n" {
		t.Errorf("the file that was moved away has %q", got)
	}
}

// A program that copies the log and truncates it leaves no hole in it, also after padlock has rotated it itself.
func TestATruncatedLogGoesOnAtItsNewEnd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.log")
	_, f, _ := openLog(t, name, config.Rotate{MaxSize: 1, Keep: 2})
	long := strings.Repeat("x", 300<<10)
	for range 5 { // beyond a MiB
		fmt.Fprintln(f.out, long)
		_ = f.out.between(func() error { return nil })
	}
	if older, err := filepath.Glob(filepath.Join(filepath.Dir(name), "access-*.log")); err != nil || len(older) != 1 {
		t.Fatalf("rotated to %v, %v", older, err)
	}
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f.out, "after")
	f.out.Close()
	if got := content(t, name); got != "after\n" {
		t.Errorf("%d bytes, beginning with %.20q", len(got), got)
	}
}

// What is no regular file is not moved away, however much is written to it.
func TestADeviceIsNotRotated(t *testing.T) {
	name := filepath.Join(t.TempDir(), "null")
	if err := os.Symlink(os.DevNull, name); err != nil {
		t.Fatal(err)
	}
	_, f, _ := openLog(t, name, config.Rotate{MaxSize: 1, Keep: 2})
	for range 3 {
		fmt.Fprintln(f.out, strings.Repeat("x", 900<<10))
	}
	f.out.Close()
	if info, err := os.Lstat(name); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("%v %v", info, err)
	}
}
