//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sudoer is a user of this machine who may do everything by sudo, in a view of the file system of their own: what the script does to users,
// sudo and the system's trust store is gone when it has ended.
type sudoer struct{ dir, home, program string }

const sudoerID = 12345

func newSudoer(t *testing.T) sudoer {
	t.Helper()
	for _, program := range []string{"sudo", "certutil", "setpriv", "unshare", "update-ca-certificates"} {
		need(t, program)
	}
	dir, err := os.MkdirTemp("", "padlock-sudo-") // t.TempDir is below a directory that only root can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := sudoer{dir, filepath.Join(dir, "home"), filepath.Join(dir, "padlock")}
	content, err := os.ReadFile(plain) // a dozen commands, one after the other, and whose files they write
	err = errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(s.program, content, 0o755), os.Mkdir(s.home, 0o700), os.Chown(s.home, sudoerID, sudoerID))
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("alice:x:%d:%d::%s:/bin/sh\n", sudoerID, sudoerID, s.home),
		"group":  fmt.Sprintf("alice:x:%d:\n", sudoerID),
		"shadow": "alice:*:19000:0:99999:7:::\n",
	} {
		before, failed := os.ReadFile("/etc/" + name)
		mode := os.FileMode(0o644)
		if name == "shadow" {
			mode = 0o600
		}
		err = errors.Join(err, failed, os.WriteFile(filepath.Join(dir, name), append(before, line...), mode))
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "sudoers"), []byte("root ALL=(ALL:ALL) ALL\nalice ALL=(ALL) NOPASSWD: ALL\nDefaults !lecture\n"), 0o440))
	for _, name := range []string{"anchors", "hooks", "root"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	// Java's roots, which take seconds of a processor each time, are left to the test that is about them.
	// Tests beside this one install roots in the machine's store. A copy made while it is written lacks files, and what
	// they installed has no anchor in the view.
	copied := exec.Command("sh", "-c", `set -eu
n=0; until rm -rf ssl; cp -a /etc/ssl ssl; do n=$((n+1)); test $n -lt 20; sleep 0.2; done
rm -rf ssl/certs/*.new ssl/certs/java
find ssl/certs -lname '/usr/local/share/ca-certificates/*' -delete
while test -n "$(find ssl/certs -xtype l)"; do find ssl/certs -xtype l -delete; done`)
	copied.Dir = dir
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return s
}

// sh runs a script as the user, with padlock as $P. The view lives as long as the script.
func (s sudoer) sh(t *testing.T, script string) string {
	t.Helper()
	mounts := `set -eu
cd "$D"
ip link set lo up
for f in passwd group shadow sudoers; do mount --bind "$D/$f" /etc/$f; done
mount --bind "$D/ssl" /etc/ssl
mount --bind "$D/anchors" /usr/local/share/ca-certificates
mount --bind "$D/hooks" /etc/ca-certificates/update.d
exec setpriv --reuid alice --regid alice --init-groups env -i P="$P" HOME="$D/home" USER=alice LOGNAME=alice PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin NO_COLOR=1 sh -c "$S"`
	c := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", mounts) // pidof finds its processes alone
	c.Dir, c.Env = s.dir, append(os.Environ(), "D="+s.dir, "P="+s.program, "S=set -eu\ncd\n"+script)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// firefoxProfile makes one, so that an installed Firefox has nothing to complain of.
const firefoxProfile = `mkdir -p .config/mozilla/firefox/a.b && certutil -N --empty-password -d sql:.config/mozilla/firefox/a.b
`

// With sudo, padlock works for whoever ran it: sudo padlock trust installs their CA in their stores, sudo padlock serves by it, in whatever
// order the commands come, and every file stays theirs.
func TestSudoWorksForTheUserWhoRanIt(t *testing.T) {
	besides(t)
	for name, first := range map[string]string{"the user first": "$P trust", "sudo first": "sudo $P trust"} {
		t.Run(name, func(t *testing.T) {
			s := newSudoer(t)
			out := s.sh(t, firefoxProfile+first+`
echo ==== again; sudo $P trust; echo ====
$P trust --print >user.pem; sudo $P trust --print >root.pem; cmp user.pem root.pem
sudo $P --listen 127.0.0.1:443 --http off >served 2>&1 &
for i in $(seq 300); do if curl -sS --fail https://localhost/ >page 2>error; then break; fi; sleep 0.1; done
cat error served
grep -o 'This connection is encrypted' page
$P status
echo ==== foreign; find . ! -user alice; echo ====
sudo sh -c 'kill $(pidof padlock)'; wait
echo ==== foreign; find . ! -user alice; echo ====
sudo $P untrust
test -z "$(ls /usr/local/share/ca-certificates)"
test -z "$(find /etc/ssl/certs -xtype l)" || { ls -l $(find /etc/ssl/certs -xtype l); exit 1; }
`)
			for _, want := range []string{
				"system: trusts it", "Chromium and Chrome " + s.home + "/.pki/nssdb: trusts it", "Firefox " + s.home + "/.config/mozilla/firefox/a.b: trusts it",
				"started by alice with sudo, so the storage is " + s.home + "/.local/share/padlock", "This connection is encrypted", "system: does not trust it",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
			parts := strings.Split(out, "====")
			for i, part := range parts {
				if files, ok := strings.CutPrefix(part, " foreign\n"); ok && strings.Trim(files, " \n") != "" {
					t.Errorf("part %d, not the user's:\n%s", i, files)
				}
			}
			if strings.Count(out, "fingerprint (SHA-256)") < 2 || strings.Contains(parts[1], "does not trust it") {
				t.Errorf("the second time:\n%s", out)
			}
		})
	}
}

// A Firefox that was never started is said, and all that exists is done: a script can rely on the exit code. A Firefox whose certificates have a
// primary password is told in plain words.
func TestWhatIsLeftToDoForFirefoxIsSaid(t *testing.T) {
	besides(t)
	for name, c := range map[string]struct {
		before    string
		want, not []string
	}{
		"never started": {
			"",
			[]string{"Firefox: has no profile yet", "start Firefox once", "system: trusts it", ".pki/nssdb: trusts it", "exit 0"}, []string{"could not be changed"},
		},
		"with a primary password": {
			`mkdir -p .config/mozilla/firefox/a.b; echo secret >password; certutil -N -f password -d sql:.config/mozilla/firefox/a.b
`,
			[]string{"a.b: does not trust it", "a primary password protects", "import the file", "exit 1", "1 trust store could not be changed"}, []string{"SEC_ERROR", "exit status"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSudoer(t)
			out := s.sh(t, `mkdir bin; ln -s /bin/true bin/firefox; PATH=$HOME/bin:$PATH
`+c.before+`status=0; $P trust </dev/null || status=$?; echo "exit $status"
`)
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
			for _, not := range c.not {
				if strings.Contains(out, not) {
					t.Errorf("%q stands in\n%s", not, out)
				}
			}
		})
	}
}

// Debian's Java has a copy of the system's roots. padlock trust says what it trusts, and padlock untrust takes the root out of it, whether the
// system's own hook has put it there or not.
func TestJavaOfTheSystemTrustsAndForgets(t *testing.T) {
	besides(t)
	need(t, "keytool")
	const cacerts = "/etc/ssl/certs/java/cacerts"
	if _, err := os.Stat(cacerts); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := newSudoer(t)
	if out, err := exec.Command("cp", "-a", filepath.Dir(cacerts), filepath.Join(s.dir, "ssl", "certs")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out := s.sh(t, firefoxProfile+`has() { keytool -list -rfc -keystore `+cacerts+` -storepass changeit 2>/dev/null | grep -q "$(sed -n 2p root.pem)"; }
$P trust --print >root.pem
has && echo before; $P trust; has && echo trusted
sudo keytool -importcert -noprompt -alias debian:padlock.pem -file root.pem -keystore `+cacerts+` -storepass changeit
$P untrust; has || echo forgotten
`)
	for _, want := range []string{"Java " + cacerts + ": trusts it", "\ntrusted\n", "Java " + cacerts + ": does not trust it", "\nforgotten\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "\nbefore\n") {
		t.Errorf("the root was there before\n%s", out)
	}
}

// Where nobody can become root, the command to paste is printed, with the storage whose CA it has to be.
func TestWithoutSudoTheCommandIsPrinted(t *testing.T) {
	besides(t)
	s := newSudoer(t)
	out := s.sh(t, firefoxProfile+`mkdir bin; for p in certutil; do ln -s $(command -v $p) bin/$p; done
PATH=$HOME/bin $P trust --storage "my storage" && exit 1
true
`)
	want := `su -c '` + s.program + ` trust --storage '\''` + s.home + `/my storage'\'''`
	if !strings.Contains(out, want) || !strings.Contains(out, "system: does not trust it") {
		t.Errorf("%q is missing in\n%s", want, out)
	}
}
