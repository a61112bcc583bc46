package trust

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"padlock/internal/regular"
)

// places are where the browsers of one user keep their certificates.
type places struct {
	home, config, data string // the user's directories (XDG Base Directory Specification)
}

// databases are Chromium's, of which one is named even where there is none yet, and that of every Firefox profile.
func (p places) databases() []string {
	dirs := p.chromium()
	for _, profile := range p.firefox() {
		if !slices.Contains(dirs, profile) {
			dirs = append(dirs, profile)
		}
	}
	return dirs
}

// chromium names the databases of Chromium and its relatives. The newer place is read only where the older one does
// not exist: making the older one would hide what the newer one holds. Where there is neither, the older one is
// named, as every version reads that.
func (p places) chromium() []string {
	dirs := databasesIn(p.home, p.data)
	// Without any sign of a browser, no database is made for one.
	if len(dirs) == 0 && (installed(chromiumPrograms) || installed([]string{"certutil"})) {
		dirs = append(dirs, filepath.Join(p.home, ".pki", "nssdb"))
	}

	// A snap and a flatpak have a home of their own.
	for _, pattern := range []string{"snap/chromium/current", ".var/app/*"} {
		for _, home := range p.glob(pattern) {
			data := filepath.Join(home, ".local", "share")
			if filepath.Base(filepath.Dir(home)) == "app" {
				data = filepath.Join(home, "data")
			}
			found := databasesIn(home, data)
			if own := strings.HasPrefix(pattern, "snap") || slices.Contains(chromiumApps, filepath.Base(home)); own && len(found) == 0 {
				found = append(found, filepath.Join(home, ".pki", "nssdb"))
			}
			dirs = append(dirs, found...)
		}
	}

	return dirs
}

func databasesIn(home, data string) (dirs []string) {
	for _, dir := range []string{filepath.Join(home, ".pki", "nssdb"), filepath.Join(data, "pki", "nssdb")} {
		if exists(filepath.Join(dir, database)) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

const database = "cert9.db"

// chromiumPrograms are browsers that read Chromium's database.
var chromiumPrograms = []string{
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "google-chrome-beta", "google-chrome-unstable",
	"microsoft-edge", "microsoft-edge-stable", "brave-browser", "vivaldi", "vivaldi-stable", "opera",
}

// chromiumApps are the same browsers as flatpaks, each with a home of its own.
var chromiumApps = []string{
	"org.chromium.Chromium", "com.google.Chrome", "com.microsoft.Edge", "com.brave.Browser", "com.vivaldi.Vivaldi", "com.opera.Opera",
	"io.github.ungoogled_software.ungoogled_chromium",
}

// firefoxRoots are directories with profiles.ini: Firefox until 146, and from 147 on if ~/.mozilla does not exist;
// then those of the snap, which has its home in common, of the flatpak, and of LibreWolf.
func (p places) firefoxRoots() []string {
	roots := []string{
		filepath.Join(p.home, ".mozilla", "firefox"), filepath.Join(p.config, "mozilla", "firefox"),
		filepath.Join(p.home, ".librewolf"), filepath.Join(p.config, "librewolf", "librewolf"),
	}
	for _, pattern := range []string{
		"snap/firefox/*/.mozilla/firefox", "snap/firefox/*/.config/mozilla/firefox",
		".var/app/org.mozilla.firefox/.mozilla/firefox", ".var/app/org.mozilla.firefox/config/mozilla/firefox",
		".var/app/io.gitlab.librewolf-community/.librewolf", ".var/app/io.gitlab.librewolf-community/config/librewolf/librewolf",
	} {
		roots = append(roots, p.glob(pattern)...)
	}
	return roots
}

// firefox lists profiles: those that profiles.ini names, wherever they are and even before they have a database, and
// those that have one.
func (p places) firefox() (profiles []string) {
	seen := map[string]bool{}
	add := func(dir string) {
		// In a snap, "current" is a link to another directory of the same list, which would be changed twice.
		real, err := filepath.EvalSymlinks(dir)
		if err == nil && !seen[real] {
			seen[real] = true
			profiles = append(profiles, dir)
		}
	}

	for _, root := range p.firefoxRoots() {
		for _, dir := range namedProfiles(root) {
			add(dir)
		}
		// The pattern is well formed unless the home directory has odd characters in its name.
		found, _ := filepath.Glob(filepath.Join(root, "*", database))
		for _, file := range found {
			add(filepath.Dir(file))
		}
	}

	return profiles
}

const maxProfiles = 1 << 20 // bytes of profiles.ini

func namedProfiles(root string) (dirs []string) {
	text, err := regular.Read(filepath.Join(root, "profiles.ini"), maxProfiles)
	if err != nil {
		return nil
	}

	path, relative := "", true
	// A section ends with the next one, or with the file.
	end := func() {
		dir := filepath.FromSlash(path)
		if relative {
			dir = filepath.Join(root, dir)
		}
		if info, err := os.Stat(dir); path != "" && err == nil && info.IsDir() && filepath.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
		path, relative = "", true
	}

	profile := false
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			end()
			profile = strings.HasPrefix(line, "[Profile")
		}

		key, value, _ := strings.Cut(line, "=")
		switch {
		case !profile:
		case key == "Path":
			path = value
		case key == "IsRelative":
			relative = value != "0"
		}
	}

	end()
	return dirs
}

// firefoxInstalled reports whether the user has a Firefox, be it without a profile.
func (p places) firefoxInstalled() bool {
	return installed([]string{"firefox", "firefox-esr", "firefox-developer-edition", "firefox-beta", "firefox-nightly", "librewolf"}) ||
		exists("/snap/bin/firefox") || exists("/var/lib/flatpak/app/org.mozilla.firefox") || exists(filepath.Join(p.data, "flatpak", "app", "org.mozilla.firefox"))
}

func (p places) glob(pattern string) []string {
	found, _ := filepath.Glob(filepath.Join(p.home, filepath.FromSlash(pattern)))
	return found
}

func installed(programs []string) bool {
	return slices.ContainsFunc(programs, func(name string) bool { _, err := exec.LookPath(name); return err == nil })
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// hasDatabases reports whether browsers keep certificates of their own here. On macOS and Windows they read the
// system's: Firefox since 120.
const hasDatabases = runtime.GOOS != "darwin" && runtime.GOOS != "windows"
