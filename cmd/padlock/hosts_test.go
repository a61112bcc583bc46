package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
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
