//go:build unix

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"padlock/config"
	"padlock/internal/regular"
	"padlock/internal/servicetest"
)

// A log that another user has put into a directory like /tmp, or leads elsewhere by a link, is not written to: neither at the start, nor at a
// reload, nor when it is rotated. What their link leads to keeps its content and its mode, and is not made.
func TestNobodyElseChoosesWhereALogGoes(t *testing.T) {
	servicetest.Root(t)
	const stranger = 12345
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	theirs := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Lchown(at(name), stranger, stranger); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := errors.Join(os.Mkdir(at("tmp"), 0o700), unix.Chmod(at("tmp"), 0o1777), os.Mkdir(at("theirs"), 0o755), os.WriteFile(at("victim"), []byte("kept"), 0o644),
		os.WriteFile(at("tmp/file"), nil, 0o666), unix.Mkfifo(at("tmp/pipe"), 0o666), os.Symlink(at("victim"), at("tmp/link")),
		os.Symlink(at("victim"), at("theirs/link")), os.Symlink(at("made"), at("theirs/nowhere")))
	if err != nil {
		t.Fatal(err)
	}
	theirs("theirs", "tmp/file", "tmp/pipe", "tmp/link", "theirs/link", "theirs/nowhere")
	reader, err := os.OpenFile(at("tmp/pipe"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, name := range []string{"tmp/file", "tmp/pipe", "tmp/link", "theirs/link", "theirs/nowhere"} {
		f, err := openLogFile(at(name), config.Rotate{MaxSize: 1}, func(int, error) {})
		if !errors.Is(err, regular.ErrPlanted) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			f.out.Close()
		}
		if err := preflightLog(at(name)); name != "theirs/nowhere" && !errors.Is(err, regular.ErrPlanted) {
			t.Errorf("padlock check of %s: %v", name, err)
		}
	}

	// A link takes the place of a log that is open.
	name := at("theirs/access.log")
	var failed error
	f, err := openLogFile(name, config.Rotate{MaxSize: 1}, func(_ int, err error) { failed = err })
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f.out, "first")
	_ = f.out.between(func() error {
		return errors.Join(os.Rename(name, name+".1"), os.Symlink(at("victim"), name), os.Lchown(name, stranger, stranger))
	})
	if err := f.reopen(); !errors.Is(err, regular.ErrPlanted) {
		t.Errorf("reopened: %v", err)
	}
	fmt.Fprintln(f.out, strings.Repeat("x", 900<<10))
	_ = f.out.between(func() error { return f.out.w.Close() })
	fmt.Fprintln(f.out, strings.Repeat("x", 900<<10))
	f.out.Close()
	if !errors.Is(failed, regular.ErrPlanted) {
		t.Errorf("written after the link was put there: %v", failed)
	}

	info, err := os.Stat(at("victim"))
	if text := content(t, at("victim")); err != nil || text != "kept" || info.Mode().Perm() != 0o644 {
		t.Errorf("the file of root: %.20q, %v", text, info.Mode())
	}
	if _, err := os.Lstat(at("made")); err == nil {
		t.Error("the file that a link leads to is made")
	}
}

// root's own links are followed, also to a file that is not there yet.
func TestALogMayBeALink(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "access.log")
	if err := os.Symlink("elsewhere.log", name); err != nil {
		t.Fatal(err)
	}
	_, f, _ := openLog(t, name, config.Rotate{MaxSize: 1, Keep: 1})
	fmt.Fprintln(f.out, "line")
	f.out.Close()
	if text := content(t, filepath.Join(dir, "elsewhere.log")); text != "line\n" {
		t.Errorf("%q", text)
	}
}

// Of logs that were moved aside, the newest are kept; each is as private as the one before, and belongs to the same user. Other files stay.
func TestRotatedLogsAreKeptAsConfigured(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "access.log")
	others := []string{"access-2020.log", "access-2020-01-01T00-00-00.000.txt", "access.log.1"}
	for _, other := range others {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(name, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(name, 12345, 12346); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	_, f, _ := openLog(t, name, config.Rotate{MaxSize: 1, Keep: 2})
	for i := range 5 {
		fmt.Fprintf(f.out, "%d %s\n", i, strings.Repeat("x", 900<<10))
		_ = f.out.between(func() error { return nil })
	}
	f.out.Close()
	older, err := filepath.Glob(filepath.Join(dir, "access-*T*.log"))
	if err != nil || len(older) != 2 {
		t.Fatalf("%v, %v", older, err)
	}
	for i, file := range append(older, name) {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o640 || info.Sys().(*syscall.Stat_t).Uid != before.Sys().(*syscall.Stat_t).Uid || info.Sys().(*syscall.Stat_t).Gid != before.Sys().(*syscall.Stat_t).Gid {
			t.Errorf("%s: %v, %v", file, info, err)
		}
		if text := content(t, file); !strings.HasPrefix(text, fmt.Sprint(i+2)) {
			t.Errorf("%s begins with %.5q", file, text)
		}
	}
	for _, other := range others {
		if _, err := os.Stat(filepath.Join(dir, other)); err != nil {
			t.Error(err)
		}
	}
}
