package trust

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// at makes a home with files, and a PATH with programs.
func at(t *testing.T, programs string, files ...string) places {
	t.Helper()
	home := t.TempDir()
	bin := filepath.Join(home, "bin")
	t.Setenv("PATH", bin)
	for _, name := range strings.Fields(programs) {
		files = append(files, "bin/"+name)
	}
	for _, file := range files {
		name, content, _ := strings.Cut(file, "=")
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "HOME", home)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return places{home, filepath.Join(home, ".config"), filepath.Join(home, ".local", "share")}
}

// Every place where browsers of today and of before keep certificates is found, and none is made that would hide another.
func TestDatabasesAreFoundWhereverBrowsersKeepThem(t *testing.T) {
	const one = "[Profile0]\nName=default\nIsRelative=1\nPath=abc.default\n\n[Install12]\nDefault=abc.default\n"
	for name, test := range map[string]struct {
		programs string
		files    []string
		want     string // below the home
	}{
		"Chromium of before":                       {"chromium", []string{".pki/nssdb/cert9.db"}, ".pki/nssdb"},
		"Chromium of today":                        {"chromium", []string{".local/share/pki/nssdb/cert9.db"}, ".local/share/pki/nssdb"},
		"both":                                     {"chromium", []string{".local/share/pki/nssdb/cert9.db", ".pki/nssdb/cert9.db"}, ".pki/nssdb .local/share/pki/nssdb"},
		"neither, with Chromium":                   {"google-chrome", nil, ".pki/nssdb"},
		"neither, with no browser at all":          {"", nil, ""},
		"Chromium of today, no program on PATH":    {"", []string{".local/share/pki/nssdb/cert9.db"}, ".local/share/pki/nssdb"},
		"the snap of Chromium":                     {"", []string{"snap/chromium/current/.local/share/pki/nssdb/cert9.db"}, "snap/chromium/current/.local/share/pki/nssdb"},
		"the snap of Chromium, without one":        {"", []string{"snap/chromium/current/.config/x"}, "snap/chromium/current/.pki/nssdb"},
		"a flatpak of Chromium":                    {"", []string{".var/app/org.chromium.Chromium/data/pki/nssdb/cert9.db"}, ".var/app/org.chromium.Chromium/data/pki/nssdb"},
		"a flatpak of Chrome, without one":         {"", []string{".var/app/com.google.Chrome/config/x"}, ".var/app/com.google.Chrome/.pki/nssdb"},
		"a flatpak of something else":              {"", []string{".var/app/org.example.Editor/config/x"}, ""},
		"Firefox before 147":                       {"", []string{".mozilla/firefox/abc.default/cert9.db"}, ".mozilla/firefox/abc.default"},
		"Firefox from 147 on":                      {"", []string{".config/mozilla/firefox/abc.default/cert9.db"}, ".config/mozilla/firefox/abc.default"},
		"Firefox whose profile has no database":    {"", []string{".config/mozilla/firefox/profiles.ini=" + one, ".config/mozilla/firefox/abc.default/times.json"}, ".config/mozilla/firefox/abc.default"},
		"Firefox whose profile is named and there": {"", []string{".config/mozilla/firefox/profiles.ini=" + one, ".config/mozilla/firefox/abc.default/cert9.db"}, ".config/mozilla/firefox/abc.default"},
		"Firefox whose profile is elsewhere":       {"", []string{".mozilla/firefox/profiles.ini=[Profile0]\r\nIsRelative=0\r\nPath=HOME/disk/mine\r\n", "disk/mine/prefs.js"}, "disk/mine"},
		"Firefox whose profile is gone":            {"", []string{".mozilla/firefox/profiles.ini=" + one}, ""},
		"the snap of Firefox":                      {"", []string{"snap/firefox/common/.mozilla/firefox/a.b/cert9.db"}, "snap/firefox/common/.mozilla/firefox/a.b"},
		"the snap of Firefox from 147 on":          {"", []string{"snap/firefox/common/.config/mozilla/firefox/a.b/cert9.db"}, "snap/firefox/common/.config/mozilla/firefox/a.b"},
		"a flatpak of Firefox":                     {"", []string{".var/app/org.mozilla.firefox/.mozilla/firefox/a.b/cert9.db"}, ".var/app/org.mozilla.firefox/.mozilla/firefox/a.b"},
		"a flatpak of Firefox from 147 on":         {"", []string{".var/app/org.mozilla.firefox/config/mozilla/firefox/a.b/cert9.db"}, ".var/app/org.mozilla.firefox/config/mozilla/firefox/a.b"},
		"LibreWolf":                                {"", []string{".librewolf/a.b/cert9.db"}, ".librewolf/a.b"},
	} {
		t.Run(name, func(t *testing.T) {
			p := at(t, test.programs, test.files...)
			var got []string
			for _, dir := range p.databases() {
				below, err := filepath.Rel(p.home, dir)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, filepath.ToSlash(below))
			}
			if want := strings.Fields(test.want); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// A Firefox that was never started has no place to install a root in: that is said, with what to do.
func TestAFirefoxWithoutAProfileIsSaid(t *testing.T) {
	p := at(t, "firefox")
	t.Setenv("HOME", p.home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("SUDO_USER", "")
	t.Setenv("DOAS_USER", "")
	stores := Stores(nil)
	last := stores[len(stores)-1]
	if trusted, err := last.Trusted(); last.Name() != "Firefox" || trusted || !errors.Is(err, ErrNoProfile) || !errors.Is(last.Install(), ErrNoProfile) {
		t.Errorf("%s: %v, %v", last.Name(), trusted, err)
	}
	if hint := Hint(last.Install(), ""); !strings.Contains(hint, "start Firefox once") {
		t.Errorf("the hint is %q", hint)
	}

	if err := os.MkdirAll(filepath.Join(p.config, "mozilla", "firefox", "a.b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.config, "mozilla", "firefox", "a.b", database), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, store := range Stores(nil) {
		if store.Name() == "Firefox" {
			t.Error("a Firefox with a profile is told to have none")
		}
	}
}
