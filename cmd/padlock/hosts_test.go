package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// What add writes, remove takes out again, and nothing else of the file changes by either.
func TestHostsAreAddedAndRemoved(t *testing.T) {
	for _, before := range []string{
		"127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n# 10.0.0.1 shop.test\n10.0.0.7 other.test other # padlock is not ours\n",
		"127.0.0.1 localhost", // without its end
		"127.0.0.1 localhost\r\n",
		"",
	} {
		file := filepath.Join(t.TempDir(), "hosts")
		if err := os.WriteFile(file, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
		hosts := func(code int, args ...string) string {
			t.Helper()
			var out bytes.Buffer
			if got := run(t.Context(), append([]string{"hosts", args[0], "--file", file}, args[1:]...), nil, &out, &out); got != code {
				t.Fatalf("%v: %d\n%s", args, got, &out)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		whole := before
		if before != "" && !strings.HasSuffix(before, "\n") {
			whole += "\n"
		}
		shop, api := "127.0.0.1 shop.test # padlock\n::1 shop.test # padlock\n", "127.0.0.1 api.test # padlock\n::1 api.test # padlock\n"
		if got := hosts(0, "add", "Shop.test", "api.test"); got != whole+shop+api {
			t.Errorf("%q", got)
		}
		if got := hosts(0, "add", "shop.test"); got != whole+shop+api {
			t.Errorf("added twice: %q", got)
		}
		if got := hosts(0, "remove", "shop.test"); got != whole+api {
			t.Errorf("%q", got)
		}
		for _, bad := range []string{"*.test", "not a name", "127.0.0.1", "-"} {
			hosts(2, "add", bad)
		}
		hosts(2, "add")
		if got := hosts(0, "remove"); got != whole {
			t.Errorf("%q is left, and was %q", got, whole)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
}

// A name that leads here already gets no second line.
func TestHostsThatAreThereStay(t *testing.T) {
	text := []byte("127.0.0.1 a.test shop.test # mine\n::1 SHOP.test\n")
	if got := addHostLines(text, []string{"shop.test"}); !bytes.Equal(got, text) {
		t.Errorf("%s", got)
	}
}

// The lines of apps come and go with the apps. Lines of others stay: those that somebody else has written, and those of
// another proxy that runs. Those of a proxy that was killed go.
func TestTheHostsFileFollowsApps(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	others := "127.0.0.1 localhost\n127.0.0.1 shop.test # padlock\n127.0.0.1 other.test # padlock dev 1\n10.0.0.1 mine.test # padlock dev lines look like this\n"
	killed := "127.0.0.1 killed.test # padlock dev 2147483646\n"
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(others+killed), 0o644); err != nil {
		t.Fatal(err)
	}

	h := &devHosts{file, slog.New(slog.NewTextHandler(t.Output(), nil))}
	line := func(name string) string {
		return "127.0.0.1 " + name + devMark + own + "\n::1 " + name + devMark + own + "\n"
	}
	for _, step := range []struct {
		names []string
		lines string
	}{
		{nil, ""},
		{[]string{"a.invalid", "b.invalid", "shop.test", "localhost"}, line("a.invalid") + line("b.invalid")},
		{[]string{"b.invalid"}, line("b.invalid")},
		{[]string{"b.invalid", "c.invalid"}, line("b.invalid") + line("c.invalid")},
		{nil, ""},
	} {
		h.keep(t.Context(), step.names)
		text, err := os.ReadFile(file)
		if err != nil || string(text) != others+step.lines {
			t.Errorf("%v: %v\n%s", step.names, err, text)
		}
	}
}

// Two padlocks that change the file at once lose nothing of each other.
func TestTheHostsFileIsChangedByOneAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}

	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			name := fmt.Sprintf("app%d.test", i)
			if _, err := changeHosts(file, func(text []byte) []byte { return addHostLines(text, []string{name}) }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(file)
	if n := bytes.Count(text, []byte(hostsMark)); err != nil || n != 40 {
		t.Errorf("%d lines of 40: %v\n%s", n, err, text)
	}
}
