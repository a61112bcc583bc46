//go:build e2e

package e2e

import (
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"padlock/internal/servicetest"
)

const releaseVersion = "9.8.7"

// release makes a release for this system of a source directory, at a time of its own.
func release(t *testing.T, source string, more ...string) (dist string) {
	t.Helper()
	dist = filepath.Join(t.TempDir(), "dist")
	cache, err := servicetest.BuildCache()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("packaging/release.sh", releaseVersion)
	c.Dir, c.Env = source, append(append(os.Environ(), "DIST="+dist, "TARGETS=linux/amd64", "SOURCE_DATE_EPOCH=1700000000", "GOCACHE="+cache), more...)
	if !*long {
		c.Env = append(c.Env, "LEVEL=1") // it takes most of the time otherwise
	}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dist
}

// copySource is the source as git has it, somewhere else.
func copySource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command("sh", "-c", `umask 077; git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$0"`, dir)
	c.Dir = ".."
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// A release is the same, byte for byte, from wherever it is made: in the long form, all of it is made twice, in the short one, the program,
// which the image is compared with too (TestTheImageIsSmallAndReproducible). It tells all that the program is linked of, and the package is one that
// Debian's own check finds nothing wrong with. Installed on a machine with systemd, it does what its unit promises.
func TestARelease(t *testing.T) {
	works(t)
	one := release(t, "..")
	t.Run("is reproducible", func(t *testing.T) {
		check := exec.Command("sha256sum", "--check", "SHA256SUMS")
		check.Dir = one
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if !*long {
			return
		}
		two := release(t, copySource(t), "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8")
		first, second := snapshot(t, one), snapshot(t, two)
		if len(first) != 4 || len(second) != 4 {
			t.Errorf("%d and %d files", len(first), len(second))
		}
		for name, data := range first {
			if !bytes.Equal(data, second[name]) {
				t.Errorf("%s is another one when it is made elsewhere", name)
			}
		}
	})
	deb := filepath.Join(one, "padlock_"+releaseVersion+"_amd64.deb")
	t.Run("tells what it is made of", func(t *testing.T) { inventory(t, one) })
	t.Run("passes lintian", func(t *testing.T) {
		if out, err := exec.Command(need(t, "lintian"), "--allow-root", "--fail-on", "error,warning", deb).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("serves under systemd", func(t *testing.T) { underSystemd(t, deb) })
}

func inventory(t *testing.T, dist string) {
	name := "padlock_" + releaseVersion + "_linux_amd64"
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xzf", filepath.Join(dist, name+".tar.gz")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := filepath.Join(dir, name, "padlock")
	if out, err := exec.Command(program, "version").Output(); err != nil || string(out) != "padlock "+releaseVersion+"\n" {
		t.Errorf("%s %v", out, err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dist, name+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		Components []struct {
			Name, Version, PURL string
			Licenses            []any
		}
	}
	if err := json.Unmarshal(data, &bom); err != nil {
		t.Fatal(err)
	}
	licences, err := os.ReadFile(filepath.Join(dir, name, "THIRD-PARTY.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(bom.Components) != len(info.Deps)+1 {
		t.Errorf("%d components for %d modules and the standard library", len(bom.Components), len(info.Deps))
	}
	for i, dep := range info.Deps {
		c := bom.Components[i+1]
		if c.Name != dep.Path || c.Version != dep.Version || !strings.HasPrefix(c.PURL, "pkg:golang/") || len(c.Licenses) == 0 {
			t.Errorf("%s %s stands there as %+v", dep.Path, dep.Version, c)
		}
		if !strings.Contains(string(licences), dep.Path+" "+dep.Version) {
			t.Errorf("the licence of %s is missing", dep.Path)
		}
	}
}

// systemd is a machine on which systemd is process 1.
type systemd struct{ pid int }

func startSystemd(t *testing.T) systemd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a machine of its own needs root")
	}
	need(t, "systemd-analyze")
	c := exec.Command("unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "./machine.sh", t.TempDir())
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	var m systemd
	eventually(t, func() (string, error) {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.Process.Pid, c.Process.Pid))
		if err == nil {
			_, err = fmt.Sscan(string(children), &m.pid)
		}
		if err != nil {
			return "", err
		}
		return m.try("systemctl", "is-active", "machine.target")
	})
	return m
}

func (m systemd) try(command ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.pid), "--all", "--"}, command...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (m systemd) run(t *testing.T, command ...string) string {
	t.Helper()
	out, err := m.try(command...)
	if err != nil {
		journal, _ := m.try("journalctl", "--no-pager", "-n", "30", "-u", "padlock")
		t.Fatalf("%v: %v\n%s\n%s", command, err, out, journal)
	}
	return out
}

func (m systemd) write(t *testing.T, name, text string) {
	t.Helper()
	m.run(t, "sh", "-c", `mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0"`, name, text)
}

// process is what the kernel says of padlock's main process.
func (m systemd) process(t *testing.T) (pid, status string) {
	t.Helper()
	pid = m.run(t, "systemctl", "show", "-P", "MainPID", "padlock")
	return pid, m.run(t, "cat", "/proc/"+pid+"/status")
}

// replaced waits until another process is the main one, and sees that it serves.
func (m systemd) replaced(t *testing.T, before string, serves func()) {
	t.Helper()
	eventually(t, func() (string, error) {
		if now := m.run(t, "systemctl", "show", "-P", "MainPID", "padlock"); now == before {
			return "", errors.New("the process is still the same")
		}
		return "", nil
	})
	serves()
}

func underSystemd(t *testing.T, deb string) {
	m := startSystemd(t)
	m.run(t, "mkdir", "-p", "/run/deb")
	content, err := os.ReadFile(deb)
	if err == nil {
		err = os.WriteFile(fmt.Sprintf("/proc/%d/root/run/deb/padlock.deb", m.pid), content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.run(t, "dpkg", "-i", "/run/deb/padlock.deb")
	if out := m.run(t, "systemd-analyze", "verify", "padlock.service", "padlock.socket"); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	m.run(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", "/usr/lib/systemd/system/padlock.service")
	m.run(t, "padlock", "check", "--file-only", "--config", "/etc/padlock/padlock.yaml")
	m.run(t, "man", "--where", "padlock")
	if out, _ := m.try("systemctl", "is-active", "padlock"); out != "inactive" {
		t.Errorf("after the installation it is %s", out)
	}

	const file = "/etc/padlock/padlock.yaml"
	const good = "storage: /var/lib/padlock\nadmin: unix:/run/padlock/admin.sock\nhandshakes: {show: \"off\"}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n"
	m.write(t, file, good)
	m.run(t, "systemctl", "start", "padlock")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(m.run(t, "padlock", "trust", "--print", "--storage", "/var/lib/padlock")))
	serves := func() {
		t.Helper()
		eventually(t, func() (string, error) {
			for _, ask := range []func(*testing.T, int, string, *x509.CertPool) (string, error){page, pageHTTP3} {
				if body, err := ask(t, m.pid, "127.0.0.1:443", roots); err != nil || body != "hello" {
					return body, errors.Join(err, errors.New("another answer than hello"))
				}
			}
			return "", nil
		})
	}
	serves()
	number := m.run(t, "id", "-u", "padlock")
	holds(t, m, "Uid:\t"+number, "CapEff:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2")
	m.run(t, "padlock", "status", "--admin", "unix:/run/padlock/admin.sock")

	m.run(t, "systemctl", "reload", "padlock")
	m.write(t, file, good+"wrong: 1\n")
	if out, err := m.try("systemctl", "reload", "padlock"); err == nil {
		t.Errorf("a reload of a wrong file succeeds: %s", out)
	}
	m.write(t, file, good)
	serves()

	// Another process takes its place, and systemd waits for that one too.
	before, _ := m.process(t)
	m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=USR2", "padlock")
	m.replaced(t, before, serves)
	before, _ = m.process(t)
	m.run(t, "dpkg", "-i", "--force-confold", "/run/deb/padlock.deb") // an upgrade does the same
	m.replaced(t, before, serves)
	m.run(t, "systemctl", "stop", "padlock")
	if out := m.run(t, "systemctl", "show", "-P", "Result", "padlock"); out != "success" {
		t.Errorf("it ended with %s", out)
	}

	// With its sockets from systemd it needs no privilege at all.
	m.run(t, "install", "-D", "-m", "644", "/usr/share/doc/padlock/examples/socket-only.conf", "/etc/systemd/system/padlock.service.d/socket-only.conf")
	m.run(t, "systemctl", "daemon-reload")
	m.run(t, "systemctl", "start", "padlock.socket")
	serves()
	holds(t, m, "Uid:\t"+number, "CapEff:\t0000000000000000")

	m.run(t, "dpkg", "-r", "padlock")
	for _, left := range []string{file, "/var/lib/padlock/localca/root.pem"} {
		m.run(t, "test", "-e", left)
	}
	m.run(t, "rm", "-r", "/etc/systemd/system/padlock.service.d")
	m.run(t, "dpkg", "-P", "padlock")
	for _, gone := range []string{"/etc/padlock", "/var/lib/padlock", "/usr/bin/padlock", "/usr/share/doc/padlock", "/usr/lib/systemd/system/padlock.service"} {
		if _, err := m.try("test", "-e", gone); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if out, err := m.try("id", "padlock"); err == nil {
		t.Errorf("the user is left: %s", out)
	}
}

func holds(t *testing.T, m systemd, lines ...string) {
	t.Helper()
	_, status := m.process(t)
	for _, line := range lines {
		if !regexp.MustCompile(`(?m)^` + line + `\b`).MatchString(status) {
			t.Errorf("%q is not in\n%s", line, status)
		}
	}
}
