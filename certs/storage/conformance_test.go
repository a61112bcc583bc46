package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"padlock/certs/storage"
	"padlock/internal/servicetest"
)

const lease = 2 * time.Second

// A process of its own that takes a lock and holds it, until it is killed.
func TestMain(m *testing.M) {
	if location := os.Getenv("PADLOCK_TEST_HOLD"); location != "" {
		store, err := storage.Open(context.Background(), location, storage.Options{Lease: lease})
		if err == nil {
			err = store.Lock(context.Background(), "issue_cert_a.example")
		}
		fmt.Println("locked", err)
		select {}
	}
	os.Exit(m.Run())
}

// place is where a store lies; open connects to it anew, as another process would.
type place struct {
	location string
	service  *servicetest.Service // nil for a directory
	leases   bool                 // of a directory
}

func (p place) open(t *testing.T, key []byte) storage.Store {
	t.Helper()
	s, err := storage.Open(t.Context(), p.location, storage.Options{Key: key, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Every kind of storage is held to the same promises.
func TestConformance(t *testing.T) {
	places := map[string]func(*testing.T) place{
		"directory": func(t *testing.T) place { return place{location: filepath.Join(t.TempDir(), "storage")} },
		"directory without locks": func(t *testing.T) place {
			dir := filepath.Join(t.TempDir(), "storage")
			if err := os.MkdirAll(filepath.Join(dir, "locks"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "locks", "by-lease"), nil, 0o600); err != nil { // as the first padlock has left it
				t.Fatal(err)
			}
			return place{location: dir, leases: true}
		},
		"redis": func(t *testing.T) place {
			s := servicetest.StartRedis(t)
			return place{location: s.URL + "/1?prefix=a", service: s}
		},
		"redis-cluster": func(t *testing.T) place {
			s := startCluster(t)
			return place{location: s.URL + "?cluster=true", service: s}
		},
		"postgres": func(t *testing.T) place {
			s := servicetest.StartPostgres(t)
			return place{location: s.URL, service: s}
		},
	}
	for name, start := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			t.Run("values", func(t *testing.T) { values(t, p.open(t, nil)) })
			t.Run("listing", func(t *testing.T) { listing(t, p.open(t, nil)) })
			t.Run("hostile keys", func(t *testing.T) { hostileKeys(t, p.open(t, nil)) })
			t.Run("strangers", func(t *testing.T) { strangers(t, p, nil) })
			t.Run("too large", func(t *testing.T) { tooLarge(t, p) })
			t.Run("writers at once", func(t *testing.T) { writersAtOnce(t, p) })
			t.Run("locks", func(t *testing.T) { locks(t, p) })
			t.Run("a lock ends with its process", func(t *testing.T) { killedHolder(t, p) })
			if p.leases {
				t.Run("a lost lock fences", func(t *testing.T) { fencing(t, p) })
			}
			if p.service != nil {
				t.Run("a lost lock fences", func(t *testing.T) { fencing(t, p) })
				t.Run("a lock is forgotten", func(t *testing.T) { forgottenLock(t, p) })
				t.Run("a lock is restored", func(t *testing.T) { restoredLock(t, p) })
				t.Run("connection loss", func(t *testing.T) { connectionLoss(t, p) })
				if name != "redis-cluster" { // which sends its clients to the address that it knows
					t.Run("slow", func(t *testing.T) { slow(t, p) })
				}
			}
			t.Run("encrypted", func(t *testing.T) { encrypted(t, p) }) // the last, as it leaves a storage for those who have the key
		})
	}
}

// slow is a service that takes a third of a second for every answer: all works, and a lock is held for longer than its lease.
func slow(t *testing.T, p place) {
	u, err := url.Parse(p.location)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = servicetest.Delayed(t, u.Host, 300*time.Millisecond)
	far := place{location: u.String(), service: p.service}
	a, b := far.open(t, nil), p.open(t, nil)
	values(t, far.open(t, nil))
	ctx := t.Context()
	if err := a.Lock(ctx, "slow"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * lease); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok, err := b.TryLock(ctx, "slow"); ok || err != nil {
			t.Fatalf("the lock is taken from its holder: %v %v", ok, err)
		}
	}
	if err := a.StoreFenced(ctx, "slow", "slow/value", []byte("x")); err != nil {
		t.Error(err)
	}
	if err := a.Unlock(ctx, "slow"); err != nil {
		t.Error(err)
	}
	if ok, err := b.TryLock(ctx, "slow"); !ok || err != nil {
		t.Errorf("after its holder let go: %v %v", ok, err)
	}
}

func values(t *testing.T, s storage.Store) {
	ctx := t.Context()
	if _, err := s.Load(ctx, "certificates/ca/a.example/a.example.crt"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing value: %v", err)
	}
	if _, err := s.Stat(ctx, "certificates"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	if err := s.Delete(ctx, "nothing/here"); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	key := "certificates/ca/a.example/a.example.crt"
	for _, value := range [][]byte{[]byte("first"), {}, bytes.Repeat([]byte{0, 0xff, '\n'}, 100_000)} {
		if err := s.Store(ctx, key, value); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(ctx, key); err != nil || !bytes.Equal(got, value) {
			t.Errorf("%d bytes came back as %d: %v", len(value), len(got), err)
		}
		info, err := s.Stat(ctx, key)
		if err != nil || info.Size != int64(len(value)) || !info.IsTerminal || time.Since(info.Modified).Abs() > time.Minute {
			t.Errorf("stat: %+v, %v", info, err)
		}
	}
	if info, err := s.Stat(ctx, "certificates/ca"); err != nil || info.IsTerminal {
		t.Errorf("a directory: %+v, %v", info, err)
	}
	if !s.Exists(ctx, key) || !s.Exists(ctx, "certificates") || s.Exists(ctx, "certificates/c") {
		t.Error("exists")
	}
	if err := s.Delete(ctx, "certificates"); err != nil || s.Exists(ctx, key) {
		t.Errorf("deleting a directory: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Store(canceled, key, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func listing(t *testing.T, s storage.Store) {
	ctx := t.Context()
	for _, key := range []string{"list/a/1", "list/a/2/x", "list/b", "list/a.b/y", "list-other/z"} {
		if err := s.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		prefix    string
		recursive bool
		want      []string
	}{
		{"list", false, []string{"list/a", "list/a.b", "list/b"}},
		{"list", true, []string{"list/a.b/y", "list/a/1", "list/a/2/x", "list/b"}},
		{"list/a", false, []string{"list/a/1", "list/a/2"}},
	}
	for _, c := range cases {
		got, err := s.List(ctx, c.prefix, c.recursive)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("list %s, recursive %t: %v, %v", c.prefix, c.recursive, got, err)
		}
	}
	if _, err := s.List(ctx, "nowhere", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	all, err := s.List(ctx, "", true)
	if err != nil || !slices.Contains(all, "list/b") || !slices.Contains(all, "list-other/z") {
		t.Errorf("everything: %v, %v", all, err)
	}
}

// A key means one place, and never one that is not for values, whatever is done with it.
func hostileKeys(t *testing.T, s storage.Store) {
	ctx := t.Context()
	if err := s.Lock(ctx, "hostile"); err != nil {
		t.Fatal(err)
	}
	keys := []string{
		"", ".", "..", "/", "../x", "a/../../x", "/etc/passwd", "a\x00b", `a\b`, `imported\..\localca\root.pem`, "a/../b", "a/./b", "./a", "a/.", "a/..", "a//b",
		"a/", "//a", "a\nb", "a\x7fb", "a\u0085b", "a\xffb", strings.Repeat("a/", 600) + "a",
		"imported/../localca/root.pem", "localca/root.pem", "LocalCA/root.pem", "localca", "locks/x.lock", "LOCKS/x", "admin.sock", "a/.tmp-1",
	}
	for _, key := range keys {
		if err := s.Store(ctx, key, nil); err == nil {
			t.Errorf("stored as %q", key)
		}
		if err := s.StoreFenced(ctx, "hostile", key, nil); err == nil {
			t.Errorf("stored under the lock as %q", key)
		}
		if _, err := s.Load(ctx, key); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("loading %q: %v", key, err)
		}
		if _, err := s.Stat(ctx, key); err == nil || errors.Is(err, fs.ErrNotExist) || s.Exists(ctx, key) {
			t.Errorf("looking for %q: %v", key, err)
		}
		if _, err := s.List(ctx, key, true); key != "" && (err == nil || errors.Is(err, fs.ErrNotExist)) {
			t.Errorf("listing %q: %v", key, err)
		}
		if err := s.Delete(ctx, key); err == nil {
			t.Errorf("deleted %q", key)
		}
	}
	if err := s.Unlock(ctx, "hostile"); err != nil {
		t.Error(err)
	}
}

// tooLarge: a value that nobody has stored by padlock takes no memory, and none of the others away; its place can be used.
func tooLarge(t *testing.T, p place) {
	const limit = 64 << 10
	ctx := t.Context()
	s, err := storage.Open(ctx, p.location, storage.Options{Lease: lease, MaxValue: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Store(ctx, "imported/a.pem", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	if err := storage.Raw(s).Store(ctx, "imported/b.pem", make([]byte, limit+1)); err != nil {
		t.Fatal(err)
	}
	if value, err := s.Load(ctx, "imported/b.pem"); !errors.Is(err, storage.ErrUnusable) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%d bytes, %v", len(value), err)
	}
	if value, err := s.Load(ctx, "imported/a.pem"); string(value) != "mine" || err != nil {
		t.Errorf("the other value is %q, %v", value, err)
	}
	if err := s.Store(ctx, "imported/b.pem", []byte("new")); err != nil {
		t.Error(err)
	}
	if value, err := s.Load(ctx, "imported/b.pem"); string(value) != "new" || err != nil {
		t.Errorf("in its place: %q, %v", value, err)
	}
	if err := s.Delete(ctx, "imported"); err != nil {
		t.Error(err)
	}
}

// Readers see one of the written values whole, never a part or a mixture.
func writersAtOnce(t *testing.T, p place) {
	a, b := p.open(t, nil), p.open(t, nil)
	var wg sync.WaitGroup
	for i, s := range []storage.Store{a, b, a, b} {
		wg.Go(func() {
			for n := range 50 {
				value := bytes.Repeat([]byte{byte('a' + i)}, 1+n*100)
				if err := s.Store(t.Context(), "race/value", value); err != nil {
					t.Error(err)
					return
				}
				got, err := s.Load(t.Context(), "race/value")
				if err != nil || len(got) == 0 || len(bytes.Trim(got, string(got[0]))) != 0 {
					t.Errorf("a mixture of %d bytes: %v", len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// With a key everything is encrypted, and nothing is taken that was not encrypted with it under the same name: whoever can write to the
// place can take values away, and never choose one.
func encrypted(t *testing.T, p place) {
	ctx := t.Context()
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	if all, err := p.open(t, nil).List(ctx, "", false); err == nil {
		for _, name := range all { // of the tests before
			if err := p.open(t, nil).Delete(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	plain, with := p.open(t, nil), p.open(t, key)
	raw := storage.Raw(plain)

	// A storage that was used without a key is refused until somebody says that what it holds is genuine.
	before := map[string]string{
		"certificates/ca/a.example/a.example.key": "-----BEGIN PRIVATE KEY-----\nMIG…", "certificates/ca/a.example/a.example.crt": "a certificate",
		"acme/ca/users/default/default.json": "{}", "tickets/keys.json": "[]", "set-aside/1/x": "-----BEGIN PRIVATE KEY-----",
	}
	for name, value := range before {
		if err := plain.Store(ctx, name, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for name := range before {
		if value, err := with.Load(ctx, name); !errors.Is(err, storage.ErrPlain) {
			t.Errorf("%s, from before there was a key: %q, %v", name, value, err)
		}
		if err := with.Store(ctx, name, nil); !errors.Is(err, storage.ErrPlain) {
			t.Errorf("%s is replaced: %v", name, err)
		}
	}
	if err := storage.Check(ctx, with); !errors.Is(err, storage.ErrPlain) {
		t.Errorf("check: %v", err)
	}
	if changed, all, err := storage.Encrypt(ctx, with); changed != len(before) || all != len(before) || err != nil {
		t.Errorf("encrypted %d of %d: %v", changed, all, err)
	}
	if changed, all, err := storage.Encrypt(ctx, with); changed != 0 || all != len(before) || err != nil {
		t.Errorf("encrypted %d of %d again: %v", changed, all, err)
	}
	for name, value := range before {
		if got, err := raw.Load(ctx, name); err != nil || bytes.Contains(got, []byte(value)) && len(value) > 2 || !storage.Encrypted(got) {
			t.Errorf("%s stands there as %q, %v", name, got, err)
		}
		if got, err := with.Load(ctx, name); err != nil || string(got) != value {
			t.Errorf("%s came back as %q, %v", name, got, err)
		}
	}

	// All is encrypted, whatever it is; nothing is read, written or replaced with another key, or without one.
	wrong, without := p.open(t, other), p.open(t, nil)
	for name, value := range map[string]string{"a.key": "-----BEGIN PRIVATE KEY-----", "imported/a.pem": "a certificate", "tickets/keys.json": "{\"keys\": []}", "acme/ca/challenge_tokens/a.json": "token"} {
		if err := with.Store(ctx, name, []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got, err := raw.Load(ctx, name); err != nil || bytes.Contains(got, []byte(value)) || !storage.Encrypted(got) {
			t.Errorf("%s stands there as %q, %v", name, got, err)
		}
		if got, err := p.open(t, key).Load(ctx, name); err != nil || string(got) != value {
			t.Errorf("%s came back as %q, %v", name, got, err)
		}
		if info, err := with.Stat(ctx, name); err != nil || info.Size != int64(len(value)) {
			t.Errorf("%s has %d bytes, %v", name, info.Size, err)
		}
		for who, s := range map[string]storage.Store{"another key": wrong, "no key": without} {
			if _, err := s.Load(ctx, name); !errors.Is(err, storage.ErrEncrypted) {
				t.Errorf("%s with %s: %v", name, who, err)
			}
			if err := s.Store(ctx, name, nil); !errors.Is(err, storage.ErrEncrypted) {
				t.Errorf("%s written with %s: %v", name, who, err)
			}
		}
	}
	if err := with.Lock(ctx, "encrypted"); err != nil {
		t.Fatal(err)
	}
	if err := with.StoreFenced(ctx, "encrypted", "a.key", []byte("under the lock")); err != nil {
		t.Error(err)
	}
	if got, err := raw.Load(ctx, "a.key"); err != nil || !storage.Encrypted(got) {
		t.Errorf("stored under a lock it stands there as %q, %v", got, err)
	}
	if err := with.Unlock(ctx, "encrypted"); err != nil {
		t.Error(err)
	}

	// What somebody else puts there is refused, kept aside, and is as if it were not there.
	sealed, err := raw.Load(ctx, "imported/a.pem")
	if err != nil {
		t.Fatal(err)
	}
	for name, planted := range map[string][]byte{
		"tickets/keys.json": []byte(`[{"from":"2026-01-01T00:00:00Z","key":"AAAA"}]`), "imported/b.pem": []byte("a pair"), "acme/ca/users/default/default.json": []byte("{}"),
		"certificates/ca/a.example/journal.json": []byte("{}"), "a.key": nil,
		"certificates/ca/a.example/a.example.key": sealed, "imported/c.pem": sealed, // another name's
		"imported/a.pem": sealed[:len(sealed)-1], "imported/d.pem": sealed[:20], "imported/e.pem": append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1),
	} {
		if err := raw.Store(ctx, name, planted); err != nil {
			t.Fatal(err)
		}
		var told bytes.Buffer
		s, err := storage.Open(ctx, p.location, storage.Options{Key: key, Log: slog.New(slog.NewTextHandler(&told, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was planted, and is taken: %q, %v", name, got, err)
		}
		if !strings.Contains(told.String(), "key="+name) || s.Exists(ctx, name) {
			t.Errorf("%s is there still, or this is not told: %s", name, &told)
		}
		_, rest, _ := strings.Cut(told.String(), "set_aside=")
		aside, _, _ := strings.Cut(rest, " ")
		if kept, err := s.Load(ctx, aside); err != nil || !bytes.Equal(kept, planted) {
			t.Errorf("%s is kept aside as %q, %v", name, kept, err)
		}
		s.Close()
	}

	if err := raw.Delete(ctx, "certificates"); err != nil {
		t.Fatal(err)
	}
	t.Run("values", func(t *testing.T) { values(t, with) })
	t.Run("hostile keys", func(t *testing.T) { hostileKeys(t, with) })
	t.Run("strangers", func(t *testing.T) { strangers(t, p, key) })

	// A service that has lost the marker, and nothing else, is used on; with something planted in it, it is not.
	if err := raw.Delete(ctx, "encryption.json"); err != nil {
		t.Fatal(err)
	}
	if err := p.open(t, key).Store(ctx, "imported/f.pem", []byte("x")); err != nil || !raw.Exists(ctx, "encryption.json") {
		t.Errorf("the marker was lost: %v", err)
	}
	if err := errors.Join(raw.Delete(ctx, "encryption.json"), raw.Store(ctx, "imported/g.pem", []byte("planted"))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.open(t, key).Load(ctx, "imported/g.pem"); !errors.Is(err, storage.ErrPlain) {
		t.Errorf("whoever takes the marker away chooses values: %v", err)
	}
	_ = raw.Delete(ctx, "imported")
	damagedMarker(t, p, key, raw)
}

// damagedMarker: the marker alone refuses nobody who has the key that all other values are encrypted with, and nobody else gets in by it.
func damagedMarker(t *testing.T, p place, key []byte, raw storage.Store) {
	ctx := t.Context()
	other := bytes.Repeat([]byte{9}, 32)
	for name, damaged := range map[string][]byte{"emptied": {}, "in the clear": []byte("{}"), "cut": []byte("padlock sealed 1\nxx")} {
		// Where there is no other value, nothing tells whether the key is right.
		all, err := raw.List(ctx, "", false)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			_ = raw.Delete(ctx, name)
		}
		if err := raw.Store(ctx, "encryption.json", damaged); err != nil {
			t.Fatal(err)
		}
		wrong := storage.ErrMarker
		if storage.Encrypted(damaged) {
			wrong = storage.ErrEncrypted
		}
		if _, err := p.open(t, key).Load(ctx, "encryption.json"); !errors.Is(err, wrong) {
			t.Errorf("%s, and nothing else: %v", name, err)
		}

		// With one that opens, the marker is set aside and written again; Check alone changes nothing.
		s := p.open(t, key)
		if _, _, err := storage.Encrypt(ctx, s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := errors.Join(s.Store(ctx, "imported/f.pem", []byte("mine")), raw.Store(ctx, "encryption.json", damaged)); err != nil {
			t.Fatal(err)
		}
		if err := storage.Check(ctx, p.open(t, other)); !errors.Is(err, storage.ErrEncrypted) {
			t.Errorf("%s, another key: %v", name, err)
		}
		again := p.open(t, key)
		if err := storage.Check(ctx, again); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := raw.Load(ctx, "encryption.json"); !bytes.Equal(now, damaged) {
			t.Errorf("%s: Check has written %q, %v", name, now, err)
		}
		if value, err := again.Load(ctx, "imported/f.pem"); string(value) != "mine" {
			t.Errorf("%s: %q, %v", name, value, err)
		}
		if now, err := raw.Load(ctx, "encryption.json"); !storage.Encrypted(now) || bytes.Equal(now, damaged) {
			t.Errorf("%s: the marker is %q, %v", name, now, err)
		}
		if kept, err := again.List(ctx, "set-aside", true); len(kept) != 1 || !strings.HasSuffix(kept[0], "-refused/encryption.json") {
			t.Errorf("%s: set aside are %q, %v", name, kept, err)
		}

		// A value that somebody has planted beside it is a reason to refuse.
		if err := errors.Join(raw.Store(ctx, "encryption.json", damaged), raw.Store(ctx, "imported/g.pem", []byte("planted"))); err != nil {
			t.Fatal(err)
		}
		if _, err := p.open(t, key).Load(ctx, "imported/g.pem"); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, and a planted value: %v", name, err)
		}
	}
	_ = raw.Delete(ctx, "imported")
}

// strangers: what somebody else has put in among the values takes none of the others away, and its place can be used.
func strangers(t *testing.T, p place, key []byte) {
	ctx, s := t.Context(), p.open(t, key)
	if err := s.Store(ctx, "imported/a.pem", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	odd := []string{"imported/../x.pem", "imported//x.pem", `imported/\x.pem`, "imported/x\x01.pem"}
	if p.service == nil {
		odd = []string{"imported/x\x01.pem", `imported/\x.pem`}
	}
	for _, name := range odd {
		if err := storage.Plant(ctx, s, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, recursive := range []bool{true, false} {
		keys, err := s.List(ctx, "imported", recursive)
		if err != nil || !slices.Contains(keys, "imported/a.pem") {
			t.Errorf("listed %q, %v", keys, err)
		}
		for _, key := range keys {
			if err := storage.ValidKey(key); err != nil {
				t.Errorf("listed: %v", err)
			}
		}
	}

	for _, action := range []string{"read", "written"} {
		planted, err := storage.WrongType(ctx, s, "imported/b.pem")
		if err != nil {
			t.Fatal(err)
		}
		if !planted {
			break
		}
		before, _ := storage.QuarantinedOutside(ctx, s)
		if action == "read" {
			if value, err := s.Load(ctx, "imported/b.pem"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a string in a value's place is read as %q, %v", value, err)
			}
		} else if err := s.Store(ctx, "imported/b.pem", []byte("new")); err != nil {
			t.Errorf("where a string was: %v", err)
		}
		if after, err := storage.QuarantinedOutside(ctx, s); after != before+1 {
			t.Errorf("set aside: %d after %d, %v", after, before, err)
		}
		if err := storage.Check(ctx, p.open(t, key)); err != nil {
			t.Errorf("%s: %v", action, err)
		}
	}
	if value, err := s.Load(ctx, "imported/a.pem"); string(value) != "mine" {
		t.Errorf("the other value is %q, %v", value, err)
	}
	_ = storage.Raw(s).Delete(ctx, "imported")
}

// Many who want one lock get it one after another.
func locks(t *testing.T, p place) {
	ctx := t.Context()
	stores := []storage.Store{p.open(t, nil), p.open(t, nil), p.open(t, nil)}
	var inside, entries atomic.Int32
	var wg sync.WaitGroup
	for i := range 9 {
		s := stores[i%len(stores)]
		wg.Go(func() {
			if err := s.Lock(ctx, "issue_cert_*.example"); err != nil {
				t.Error(err)
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two have the lock")
			}
			if err := s.StoreFenced(ctx, "issue_cert_*.example", "fenced/value", []byte{1}); err != nil {
				t.Error(err)
			}
			entries.Add(1)
			inside.Add(-1)
			if err := s.Unlock(ctx, "issue_cert_*.example"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if entries.Load() != 9 {
		t.Errorf("%d of 9 had their turn", entries.Load())
	}
	if err := stores[0].StoreFenced(ctx, "issue_cert_*.example", "fenced/value", nil); !errors.Is(err, storage.ErrLockLost) {
		t.Errorf("a fenced write without the lock: %v", err)
	}
	if err := stores[0].Lock(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	if ok, err := stores[1].TryLock(ctx, "other"); ok || err != nil {
		t.Errorf("trying for a lock that is taken: %t, %v", ok, err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := stores[1].Lock(short, "other"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a lock that stays taken: %v", err)
	}
	if err := stores[0].Close(); err != nil {
		t.Error(err)
	}
	ok, err := stores[1].TryLock(ctx, "other")
	for end := time.Now().Add(3 * lease); !ok && err == nil && time.Now().Before(end); { // a busy service may be told late: the lease ends by itself
		time.Sleep(20 * time.Millisecond)
		ok, err = stores[1].TryLock(ctx, "other")
	}
	if !ok || err != nil {
		t.Errorf("after its holder has closed: %t, %v", ok, err)
	}
}

func killedHolder(t *testing.T, p place) {
	s := p.open(t, nil)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "PADLOCK_TEST_HOLD="+p.location)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	var said [64]byte
	n, _ := out.Read(said[:])
	if string(said[:n]) != "locked <nil>\n" {
		t.Fatalf("the holder says %q", said[:n])
	}
	if ok, err := s.TryLock(t.Context(), "issue_cert_a.example"); ok || err != nil {
		t.Fatalf("the lock is free although a process has it: %v", err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	begin := time.Now()
	if err := s.Lock(ctx, "issue_cert_a.example"); err != nil {
		t.Fatalf("after its holder was killed: %v", err)
	}
	t.Logf("the lock of a killed process passed on after %v", time.Since(begin).Round(time.Millisecond))
	if err := s.Unlock(t.Context(), "issue_cert_a.example"); err != nil {
		t.Error(err)
	}
}

// A holder whose lease ended while it could not renew it writes nothing more under its lock.
func fencing(t *testing.T, p place) {
	frozen, next := p.open(t, nil), p.open(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if err := frozen.Lock(ctx, "fence"); err != nil {
		t.Fatal(err)
	}
	storage.StopRenewing(frozen, "fence")
	if err := next.Lock(ctx, "fence"); err != nil {
		t.Fatal(err)
	}
	if err := next.StoreFenced(ctx, "fence", "fenced/by", []byte("next")); err != nil {
		t.Error(err)
	}
	if err := frozen.StoreFenced(ctx, "fence", "fenced/by", []byte("frozen")); !errors.Is(err, storage.ErrLockLost) {
		t.Errorf("the former holder's write: %v", err)
	}
	if err := frozen.Unlock(ctx, "fence"); !errors.Is(err, storage.ErrLockLost) {
		t.Errorf("the former holder's unlocking: %v", err)
	}
	if got, err := next.Load(ctx, "fenced/by"); err != nil || string(got) != "next" {
		t.Errorf("%q, %v", got, err)
	}
	if err := next.Unlock(ctx, "fence"); err != nil {
		t.Errorf("the holder's unlocking: %v", err)
	}
}

// A service that comes back without its data, or with that of before, knows nothing of a lock. Its holder is not taken for the next one, who
// has the same lock of a service that is as new: it writes nothing more, and takes nothing away.
func forgottenLock(t *testing.T, p place) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for range 3 { // the service counts as it did before, were it to count
		p.lose(t)
		before, next := p.open(t, nil), p.open(t, nil)
		if err := before.Lock(ctx, "forgotten"); err != nil {
			t.Fatal(err)
		}
		storage.StopRenewing(before, "forgotten")
		p.lose(t)
		if err := before.StoreFenced(ctx, "forgotten", "forgotten/by", []byte("nobody")); !errors.Is(err, storage.ErrLockLost) {
			t.Errorf("a write under a lock that the service has lost: %v", err)
		}
		if err := next.Lock(ctx, "forgotten"); err != nil {
			t.Fatal(err)
		}
		if err := next.StoreFenced(ctx, "forgotten", "forgotten/by", []byte("next")); err != nil {
			t.Error(err)
		}
		if err := before.StoreFenced(ctx, "forgotten", "forgotten/by", []byte("before")); !errors.Is(err, storage.ErrLockLost) {
			t.Errorf("the former holder's write: %v", err)
		}
		if err := before.Unlock(ctx, "forgotten"); !errors.Is(err, storage.ErrLockLost) {
			t.Errorf("the former holder's unlocking: %v", err)
		}
		if ok, err := before.TryLock(ctx, "forgotten"); ok || err != nil {
			t.Errorf("the former holder has unlocked the next one's lock: %v", err)
		}
		if got, err := next.Load(ctx, "forgotten/by"); err != nil || string(got) != "next" {
			t.Errorf("%q, %v", got, err)
		}
		if err := next.Unlock(ctx, "forgotten"); err != nil {
			t.Errorf("the holder's unlocking: %v", err)
		}
	}
}

// A lock that was lost stays lost, although the service is restored to a state in which it was held.
func restoredLock(t *testing.T, p place) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	frozen := p.open(t, nil)
	if err := frozen.Lock(ctx, "restored"); err != nil {
		t.Fatal(err)
	}
	token := storage.Token(frozen, "restored")
	p.lose(t)
	for storage.Token(frozen, "restored") != 0 { // until it is noticed
		if ctx.Err() != nil {
			t.Fatal("nobody notices that the lock is gone")
		}
		time.Sleep(20 * time.Millisecond)
	}
	other := p.open(t, nil)
	if err := storage.Acquire(ctx, other, "restored", token); err != nil { // as a backup has it
		t.Fatal(err)
	}
	if err := frozen.StoreFenced(ctx, "restored", "restored/by", nil); !errors.Is(err, storage.ErrLockLost) {
		t.Errorf("a lost lock is held again: %v", err)
	}
	if err := frozen.Unlock(ctx, "restored"); !errors.Is(err, storage.ErrLockLost) {
		t.Errorf("unlocking it: %v", err)
	}
}

// lose takes all data from a service.
func (p place) lose(t *testing.T) {
	t.Helper()
	program, args := "redis-cli", []string{"-u", strings.Split(p.location, "?")[0], "flushall"}
	if strings.HasPrefix(p.location, "postgres") {
		program, args = "psql", []string{p.location, "-qc", "TRUNCATE padlock_values, padlock_locks; ALTER SEQUENCE padlock_fence RESTART"}
	}
	if out, err := exec.CommandContext(t.Context(), servicetest.Need(t, program), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// While the service is away, calls say so within their time; afterwards they work without a new start.
func connectionLoss(t *testing.T, p place) {
	s, err := storage.Open(t.Context(), p.location, storage.Options{}) // with leases that outlast the loss
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Store(t.Context(), "loss/value", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := s.Lock(t.Context(), "loss"); err != nil {
		t.Fatal(err)
	}
	p.service.Stop()
	begin := time.Now()
	if _, err := s.Load(t.Context(), "loss/value"); !errors.Is(err, storage.ErrUnavailable) || time.Since(begin) > 15*time.Second {
		t.Errorf("stopped, after %v: %v", time.Since(begin), err)
	}
	if _, err := storage.Open(t.Context(), p.location, storage.Options{}); err != nil {
		t.Errorf("opening while the service is away: %v", err)
	}
	p.service.Start()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, err := s.Load(t.Context(), "loss/value")
		if err == nil && string(got) == "kept" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("started again: %q, %v", got, err)
		}
	}
	if err := s.StoreFenced(t.Context(), "loss", "loss/value", []byte("new")); err != nil {
		t.Errorf("the lock was kept by the service, and is still ours: %v", err)
	}
	p.service.Pause()
	begin = time.Now()
	slow, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Store(slow, "loss/value", []byte("slow")); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("frozen, after %v: %v", time.Since(begin), err)
	}
	p.service.Resume()
}

func startCluster(t *testing.T) *servicetest.Service {
	t.Helper()
	s := servicetest.StartRedis(t, "--cluster-enabled", "yes")
	address := strings.TrimPrefix(s.URL, "redis://")
	_, port, _ := strings.Cut(address, ":")
	cli := func(arguments ...string) string {
		out, err := exec.Command(servicetest.Need(t, "redis-cli"), append([]string{"-p", port}, arguments...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	cli("cluster", "addslotsrange", "0", "16383")
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(cli("cluster", "info"), "cluster_state:ok"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the cluster does not come up")
		}
	}
	return s
}

// A master that dies is replaced by its replica, and padlock asks the Sentinel which that is.
func TestRedisSentinelFailsOver(t *testing.T) {
	t.Parallel()
	master := servicetest.StartRedis(t)
	hostPort := func(s *servicetest.Service) string {
		return strings.ReplaceAll(strings.TrimPrefix(s.URL, "redis://"), ":", " ")
	}
	servicetest.StartRedis(t, "--replicaof", hostPort(master))
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	text := "sentinel monitor padlock " + hostPort(master) + " 1\nsentinel down-after-milliseconds padlock 500\nsentinel failover-timeout padlock 3000\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := servicetest.StartSentinel(t, file)
	s := place{location: sentinel.URL + "?master=padlock"}.open(t, nil)
	if err := s.Store(t.Context(), "sentinel/value", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	servicetest.WaitForReplica(t, master)
	// A Sentinel that has not heard of the replica when the master ends never fails over.
	servicetest.WaitForSentinel(t, sentinel, "padlock")
	master.Stop()
	// A Sentinel that did not run for two seconds trusts nothing that it sees for thirty more.
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got, err := s.Load(t.Context(), "sentinel/value")
		if err == nil && string(got) == "kept" && s.Store(t.Context(), "sentinel/value", []byte("new")) == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestDirectoryRefusesWhatOthersMayWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.DiscardHandler), Lease: lease}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("%v", err)
	}
}

func TestDirectoryFollowsNoLinkOut(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "storage")
	d, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.DiscardHandler), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if value, err := d.Load(t.Context(), "link"); err == nil {
		t.Errorf("read %q through a link", value)
	}
	if err := d.Store(t.Context(), "link", []byte("x")); err != nil { // replaces the link itself
		t.Error(err)
	}
	if kept, _ := os.ReadFile(outside); string(kept) != "secret" {
		t.Errorf("wrote through a link: %q", kept)
	}
	info, err := os.Stat(filepath.Join(dir, "link"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLocationsAreRedacted(t *testing.T) {
	for _, location := range []string{"redis://user:hunter2@host:6379/0", "postgres://user:hunter2@host/db", "redis://user:hunter2@h1,h2:1/x?%zz", "ftp://user:hunter2@host", "redis://:hunter2@ho st/",
		"redis://h1,h2/0?master=m&sentinel_password=hunter2", "redis://h/0?password=hunter2", "redis://hunter2@h/0", "redis://h/0#hunter2", "redis://h/0?unknown=hunter2",
		"postgres://h/db?password=hunter2", "postgres://h/db?sslpassword=hunter2&sslmode=nonsense"} {
		if shown := storage.Redacted(location); strings.Contains(shown, "hunter2") {
			t.Errorf("%s", shown)
		}
		if _, err := storage.Open(t.Context(), location, storage.Options{}); err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}

func TestParseKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(strings.Repeat("ab", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, ok := range map[string]bool{
		strings.Repeat("ab", 32): true, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=": true, "file:" + file: true,
		"": false, "short": false, "file:/nowhere": false,
	} {
		if key, err := storage.ParseKey(text); (err == nil) != ok || ok && len(key) != 32 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// With TLS the server is verified, against the system's CAs or those of ca=; no error shows the password.
func TestRedisWithTLSAndAPassword(t *testing.T) {
	dir, port := t.TempDir(), servicetest.FreePort(t)
	ca := servicetest.Certificate(t, dir)
	servicetest.StartRedis(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", ca, "--tls-key-file", filepath.Join(dir, "key.pem"),
		"--tls-auth-clients", "no", "--user", "padlock", "on", ">opensesame", "~*", "&*", "+@all", "--user", "default", "off")
	host := "127.0.0.1:" + strconv.Itoa(port)
	use := func(location string) error {
		s, err := storage.Open(t.Context(), location, storage.Options{})
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Store(t.Context(), "a/b", []byte("value")); err != nil {
			return err
		}
		data, err := s.Load(t.Context(), "a/b")
		if err == nil && string(data) != "value" {
			err = fmt.Errorf("%q", data)
		}
		return err
	}
	if err := use("rediss://padlock:opensesame@" + host + "/0?ca=" + ca); err != nil {
		t.Error(err)
	}
	for location, want := range map[string]string{
		"rediss://padlock:opensesame@" + host:                         "unknown authority",
		"rediss://padlock:wrong@" + host + "?ca=" + ca:                "WRONGPASS",
		"redis://padlock:opensesame@" + host + "?ca=" + ca:            "ca= is for rediss://",
		"rediss://padlock:opensesame@" + host + "?ca=" + ca + ".gone": "no such file",
	} {
		err := use(location)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "opensesame") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A role that may not make tables has the whole storage where they are there, and one that may only read, or a session that does, lists and
// loads. What is missing is named with the GRANT that gives it.
func TestPostgresAsksForNoMoreRightsThanItNeeds(t *testing.T) {
	t.Parallel()
	server := servicetest.StartPostgres(t)
	ctx := t.Context()
	admin, err := pgx.Connect(ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	run := func(statements ...string) {
		t.Helper()
		for _, statement := range statements {
			if _, err := admin.Exec(ctx, statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	as := func(role, options string) place {
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User(role)
		query := u.Query()
		if options != "" {
			query.Set("options", options)
		}
		u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
		return place{location: u.String(), service: server}
	}
	run(`REVOKE CREATE ON SCHEMA public FROM PUBLIC`, `CREATE ROLE "the app" LOGIN`, `CREATE ROLE reader LOGIN`)

	for name, p := range map[string]place{"no right to create": as("the app", ""), "read-only": as("reader", "-c default_transaction_read_only=on")} {
		if _, err := p.open(t, nil).List(ctx, "", true); err == nil || !strings.Contains(err.Error(), "tables") && !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%s, without tables: %v", name, err)
		}
	}
	if _, err := as("the app", "").open(t, nil).List(ctx, "", true); err == nil || !strings.Contains(err.Error(), `GRANT CREATE ON SCHEMA public TO "the app"`) {
		t.Errorf("without tables: %v", err)
	}

	owner := place{location: server.URL, service: server}.open(t, nil)
	if err := owner.Store(ctx, "other/a", []byte("value")); err != nil {
		t.Fatal(err)
	}
	if _, err := as("the app", "").open(t, nil).Load(ctx, "other/a"); err == nil || !strings.Contains(err.Error(), `GRANT SELECT, INSERT, UPDATE, DELETE ON padlock_values, padlock_locks TO "the app"`) {
		t.Errorf("without a right: %v", err)
	}
	run(`GRANT SELECT, INSERT, UPDATE, DELETE ON padlock_values, padlock_locks TO "the app"`, `GRANT SELECT ON padlock_version TO "the app"`,
		`GRANT SELECT ON padlock_values, padlock_locks, padlock_version TO reader`)

	for name, p := range map[string]place{"reader": as("reader", ""), "read-only reader": as("reader", "-c default_transaction_read_only=on"), "read-only owner": as("padlock", "-c default_transaction_read_only=on")} {
		s := p.open(t, nil)
		if err := storage.Check(ctx, s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if keys, err := s.List(ctx, "other", true); err != nil || !slices.Contains(keys, "other/a") {
			t.Errorf("%s: %q, %v", name, keys, err)
		}
		if value, err := s.Load(ctx, "other/a"); err != nil || string(value) != "value" {
			t.Errorf("%s: %q, %v", name, value, err)
		}
		if err := s.Store(ctx, "other/b", []byte("x")); err == nil || !strings.Contains(err.Error(), "GRANT") && !strings.Contains(err.Error(), "target_session_attrs=read-write") {
			t.Errorf("%s, writing: %v", name, err)
		}
	}
	app := as("the app", "")
	t.Run("values", func(t *testing.T) { values(t, app.open(t, nil)) })
	t.Run("locks", func(t *testing.T) { locks(t, app) })
	t.Run("a lost lock fences", func(t *testing.T) { fencing(t, app) })
	t.Run("encrypted", func(t *testing.T) { encrypted(t, app) })
}
