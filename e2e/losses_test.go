//go:build e2e

package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// imports puts a pair of a CA of its own into a storage.
func imports(t *testing.T, x tool, name string, storage ...string) {
	t.Helper()
	x.expects(0, nil, "csr", "--organization", "Example Ltd", name)
	signed := signRequest(t, filepath.Join(x.home, name+".csr"))
	x.expects(0, []string{name}, append([]string{"import", signed.leaf, "--key", name + ".key"}, storage...)...)
}

// The storage of two nodes comes back without anything, as Redis without persistence does. Both serve on what they have, and store it again:
// nothing is ordered, an imported certificate is there too, and a third node finds everything. What a person removes stays removed.
func TestAStorageThatComesBackEmpty(t *testing.T) {
	besides(t)
	ca, store := startCA(t, servicetest.PebbleOptions{}), startRedis(t)
	addresses := []string{ca.address(), local(servicetest.FreePort(t)), local(servicetest.FreePort(t))}
	trusting := func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() }
	hosts := []string{"app.example.com", "shop.example.org"}
	x := tool{t, t.TempDir()}
	imports(t, x, "shop.example.org", "--storage", store.URL)
	node := func(i int, http string) *padlock {
		return runFile(t, nodeFile(t, ca, store.URL, addresses[i], http, "", hosts...))
	}
	a, b := node(0, local(ca.HTTP)), node(1, local(servicetest.FreePort(t)))
	served := map[string]string{}
	for _, address := range addresses[:2] {
		eventually(t, func() (string, error) {
			state, err := see(address, "app.example.com", trusting)
			if err == nil {
				served["app.example.com"] = fingerprintOf(state.PeerCertificates[0])
			}
			return "", err
		})
	}
	state, err := see(addresses[0], "shop.example.org", nil)
	if err != nil || state.PeerCertificates[0].Issuer.CommonName != "The Vetting CA" {
		t.Fatalf("the imported certificate is not served: %v", err)
	}
	served["shop.example.org"] = fingerprintOf(state.PeerCertificates[0])
	orders := ca.orders()

	cli := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(need(t, "redis-cli"), append([]string{"-u", store.URL}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return string(out)
	}
	cli("flushall")
	said := func() string { return a.stderr.wait(t) + b.stderr.wait(t) }
	eventuallyIn(t, 3*time.Minute, func() error {
		names := cli("zrange", "{padlock}:index", "0", "-1")
		for _, name := range []string{"app.example.com/app.example.com.key", "imported/shop.example.org"} {
			if !strings.Contains(names, name) {
				return fmt.Errorf("%s is not stored again: %s\n%s", name, names, said())
			}
		}
		return nil
	})
	c := node(2, local(servicetest.FreePort(t)))
	for name, print := range served {
		for _, address := range addresses {
			eventually(t, func() (string, error) {
				state, err := see(address, name, nil)
				if err == nil && fingerprintOf(state.PeerCertificates[0]) != print {
					err = fmt.Errorf("%s serves another certificate of %s", address, name)
				}
				return c.stderr.wait(t), err
			})
		}
	}
	if n := ca.orders(); n != orders {
		t.Errorf("%d orders after the storage came back:\n%s", n-orders, said())
	}
	if !strings.Contains(said(), "the storage has lost its values") {
		t.Error(said())
	}

	x.expects(0, nil, "remove", "app.example.com", "--storage", store.URL)
	eventuallyIn(t, 3*time.Minute, func() error {
		state, err := see(addresses[0], "app.example.com", trusting)
		if err == nil && fingerprintOf(state.PeerCertificates[0]) == served["app.example.com"] {
			err = fmt.Errorf("what was removed is served: %s", said())
		}
		return err
	})
}

// tmpfs mounts a file system of its own.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=700,"+options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("a file system of its own cannot be mounted: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}

func remount(t *testing.T, dir, options string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,"+options, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

// The disk is full, or read-only, when padlock starts: for the storage, which may not even have its directory, the local CA, the admin
// endpoint's socket and the logs. padlock serves what there is, says what it cannot write, and does so by itself when it can.
func TestAFullOrReadOnlyDiskAtTheStart(t *testing.T) {
	besides(t)
	for name, disk := range map[string]struct{ before, mend string }{
		"full":      {"nr_inodes=1", "nr_inodes=10k"},
		"read-only": {"ro", "rw"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := startCA(t, servicetest.PebbleOptions{})
			dir := tmpfs(t, disk.before)
			storage := filepath.Join(dir, "storage")
			text := fmt.Sprintf(`
listen: {https: ["127.0.0.1:%d"], http: ["127.0.0.1:%d"]}
storage: %s
access_log: {output: %s/access.log}
handshakes: {output: %s/handshakes.log}
certificates:
  issuers: [{directory: %q, root: %q}]
  dns: {resolvers: [%q]}
sites:
  - {hosts: [localhost], routes: [{respond: {body: hello}}]}
  - {hosts: [app.example.com], routes: [{respond: {body: hello}}]}
`, ca.TLS, ca.HTTP, storage, dir, dir, ca.URL, ca.Root, ca.DNS)
			p := runFile(t, write(t, "padlock.yaml", text))
			client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}}
			var first string
			visit := func() {
				t.Helper()
				request, _ := http.NewRequest("GET", "https://"+ca.address(), nil)
				request.Host = "localhost"
				response, err := client.Do(request)
				if err != nil {
					t.Fatalf("%v:\n%s", err, p.stderr.wait(t))
				}
				defer response.Body.Close()
				if body, _ := io.ReadAll(response.Body); string(body) != "hello" {
					t.Errorf("%q", body)
				}
				issuer := response.TLS.PeerCertificates[0].Issuer.CommonName
				if first == "" {
					first = issuer
				}
				if issuer != first {
					t.Errorf("the local CA was %q, and is %q", first, issuer)
				}
			}
			visit()
			p.stderr.wait(t, "the storage directory cannot be made", "the local CA cannot be stored", "the admin endpoint's socket cannot be made", "output="+dir+"/access.log", "output="+dir+"/handshakes.log", "there is no certificate")

			remount(t, dir, disk.mend)
			ca.issuedWithin(t, time.Minute, p)
			p.stderr.wait(t, "the local CA is stored now", "the admin endpoint answers now")
			visit()
			eventually(t, func() (string, error) {
				visit()
				for _, file := range []string{"access.log", "handshakes.log", "storage/localca/root.pem"} {
					if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Size() == 0 {
						return file, fmt.Errorf("it is not there: %v", err)
					}
				}
				out, err := command(p.home, "reload", "--storage", storage).CombinedOutput()
				return string(out), err
			})
			p.stop(t)

			// What stands is served from a disk that nothing can be written to, by a padlock that has just been started.
			remount(t, dir, "ro")
			p = runFile(t, write(t, "padlock.yaml", text))
			visit()
			ca.issuedWithin(t, 30*time.Second, p)
			p.stop(t)
			remount(t, dir, "rw")
		})
	}
}

// Only public names are served: the local CA is not needed, and not written.
func TestALocalCAThatNobodyNeedsIsNotWritten(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	storage := filepath.Join(t.TempDir(), "storage")
	p := runFile(t, acmeFile(t, ca.CA, storage, "", "app.example.com"))
	ca.issued(t, "app.example.com", nil)
	if _, err := os.Stat(filepath.Join(storage, "localca")); err == nil {
		t.Errorf("there is one:\n%s", p.stderr.wait(t))
	}
	if _, err := see(ca.address(), "", nil); err != nil { // somebody asks for it all the same
		t.Fatal(err)
	}
	p.stderr.wait(t, "the local CA is stored now")
}

// One imported value is damaged, on a disk that it cannot be set aside on, and with the storage's marker gone: the others are served.
func TestADamagedImportedValueTakesNoneOfTheOthersAway(t *testing.T) {
	besides(t)
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	dir := tmpfs(t, "size=10m")
	storage := []string{"--storage", dir, "--storage-key", key}
	x := tool{t, t.TempDir()}
	for _, name := range []string{"one.internal", "two.internal"} {
		imports(t, x, name, storage...)
	}
	file := filepath.Join(dir, "imported", "one.internal-ecdsa.pem")
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{"emptied": {}, "cut": sound[:len(sound)/2], "changed": append(sound[:len(sound)-1:len(sound)-1], sound[len(sound)-1]^1)} {
		for _, lacks := range []string{"nothing", "the marker", "the right to write"} {
			t.Run(name+" without "+lacks, func(t *testing.T) {
				if err := os.WriteFile(file, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				switch lacks {
				case "the marker":
					if err := os.Remove(filepath.Join(dir, "encryption.json")); err != nil {
						t.Fatal(err)
					}
				case "the right to write":
					remount(t, dir, "ro")
					defer remount(t, dir, "rw")
				}
				p := start(t, append([]string{"proxy", "--from", "two.internal", "--to", "1"}, storage...)...)
				address := strings.Replace(strings.TrimPrefix(p.url, "https://"), "two.internal", "127.0.0.1", 1)
				state, err := see(address, "two.internal", nil)
				if err != nil || state.PeerCertificates[0].Issuer.CommonName != "The Vetting CA" {
					t.Errorf("%v:\n%s", err, p.stderr.wait(t))
				}
				p.stop(t)
			})
		}
	}
}

// SIGHUP reaches a padlock that another one is just starting, and that has a long configuration to read: it goes on, and reads the file once
// more when it serves.
func TestSignalsWaitForThePadlockThatIsBeingStarted(t *testing.T) {
	works(t)
	dir, port := t.TempDir(), servicetest.FreePort(t)
	file := filepath.Join(dir, "padlock.yaml")
	var text strings.Builder
	fmt.Fprintf(&text, "listen: {https: [\"127.0.0.1:%d\"], http: []}\naccess_log: {format: \"off\"}\nhandshakes: {show: \"off\"}\ntimeouts: {handover: 5s, shutdown: 5s}\nsites:\n  - {hosts: [localhost], routes: [{respond: {body: hello}}]}\n", port)
	for i := range 1500 {
		fmt.Fprintf(&text, "  - {hosts: [h%d.localhost], routes: [{path: /a, respond: {body: hello}}, {respond: {body: hello}}]}\n", i)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	if err := syscall.Kill(p.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	said := p.stderr.wait(t, "another padlock takes over")
	_, rest, _ := strings.Cut(said, "another padlock takes over")
	next := 0
	if _, err := fmt.Sscanf(strings.TrimSpace(rest), "\" pid=%d", &next); err != nil {
		t.Fatalf("%v: %s", err, rest)
	}
	t.Cleanup(func() { end(t, next) })
	hup := func() {
		if err := syscall.Kill(next, syscall.SIGHUP); err != nil {
			t.Fatalf("%v:\n%s", err, p.stderr.wait(t))
		}
	}
	for ignored := true; ignored; { // before it has begun to read the file, it need not hear of it
		hup()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", next))
		if err != nil {
			t.Fatalf("%v:\n%s", err, p.stderr.wait(t))
		}
		_, rest, _ := strings.Cut(string(status), "SigIgn:")
		mask, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		ignored = mask&1 != 0
	}
	hup()
	p.stderr.wait(t, "configuration reloaded")
	if !running(next) {
		t.Errorf("it has ended:\n%s", p.stderr.wait(t))
	}
}

// A reload that is asked for while another padlock starts, which has read the file before, is served when it has taken over: padlock reload says so
// only then, and a signal to the padlock before, whose number is the one that others know, is passed on. The same goes for log files that are to be
// opened anew.
func TestAReloadDuringARestartIsNotLost(t *testing.T) {
	works(t)
	dir, port := t.TempDir(), servicetest.FreePort(t)
	file, logged := filepath.Join(dir, "padlock.yaml"), filepath.Join(dir, "access.log")
	size := 0
	write := func(body string) {
		t.Helper()
		var text strings.Builder
		fmt.Fprintf(&text, "listen: {https: [\"127.0.0.1:%d\"], http: []}\naccess_log: {output: %q}\nhandshakes: {show: \"off\"}\ntimeouts: {handover: 5s, shutdown: 5s}\nsites:\n  - {hosts: [localhost], routes: [{respond: {body: %s}}]}\n", port, logged, body)
		for i := range 800 {
			fmt.Fprintf(&text, "  - {hosts: [h%d.localhost], routes: [{path: /a, respond: {body: hello}}, {respond: {body: hello}}]}\n", i)
		}
		size = text.Len()
		replaceFile(t, file, text.String())
	}
	write("first")
	p := startFile(t, dir)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t)}, DisableKeepAlives: true}}
	served := func(want string) {
		t.Helper()
		eventually(t, func() (string, error) {
			response, err := client.Get(fmt.Sprintf("https://localhost:%d/%s", port, want))
			if err != nil {
				return "", err
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if string(body) != want {
				return "", fmt.Errorf("%s is served, not %s", body, want)
			}
			return "", nil
		})
	}

	current := p.pid
	for n, ask := range []struct {
		want string
		do   func(pid int)
	}{
		{"command", func(int) {
			if out, err := command(p.home, "reload").CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
			}
			// The command has said that it is: at once.
			response, err := client.Get(fmt.Sprintf("https://localhost:%d/", port))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, _ := io.ReadAll(response.Body); string(body) != "command" {
				t.Errorf("after padlock reload %s is served", body)
			}
		}},
		{"signal", func(pid int) {
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}},
		{"rotated", func(pid int) {
			if err := os.Rename(logged, logged+".1"); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(syscall.Kill(pid, syscall.SIGUSR1), syscall.Kill(pid, syscall.SIGHUP)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		if err := syscall.Kill(current, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		next := child(t, p, n-1)
		t.Cleanup(func() { end(t, next) })
		// It has read the file, and will be busy with it for a while.
		eventually(t, func() (string, error) {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", next))
			if err != nil {
				return "", err
			}
			_, rest, _ := strings.Cut(string(text), "rchar: ")
			if read, _ := strconv.Atoi(strings.Fields(rest)[0]); read < size {
				return string(text), errors.New("it has not read its file")
			}
			return "", nil
		})
		write(ask.want)
		ask.do(current)
		served(ask.want)
		eventually(t, func() (string, error) {
			if got := strings.Count(p.stderr.wait(t), "HTTP/3 is served"); got <= n {
				return "", fmt.Errorf("%d of %d restarts serve HTTP/3", got, n+1)
			}
			return "", nil
		})
		served(ask.want)
		current = next
	}

	// What was served since the rotation is in the new file.
	eventually(t, func() (string, error) {
		text, err := os.ReadFile(logged)
		if err == nil && !strings.Contains(string(text), "/rotated") {
			err = errors.New("the requests are not in the new file")
		}
		return string(text), err
	})
}

// Signals that come before padlock has read its file wait too, and end nothing: whoever rotates logs, or replaces the program, does not know how far
// padlock has come.
func TestSignalsBeforeTheStartEndNothing(t *testing.T) {
	works(t)
	c := command(t.TempDir(), "run", "--config", "-")
	stderr := &log{more: make(chan struct{})}
	c.Stdout, c.Stderr = said, io.MultiWriter(stderr, said)
	file, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })

	if _, err := io.WriteString(file, strings.Repeat("#\n", 256<<10)); err != nil { // more than a pipe holds: it has begun to read
		t.Fatal(err)
	}
	for _, s := range []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
		if err := c.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintf(file, "listen: {https: [\"127.0.0.1:%d\"], http: []}\naccess_log: {output: %q}\n", servicetest.FreePort(t), filepath.Join(t.TempDir(), "access.log"))
	fmt.Fprint(file, "sites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n")
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	stderr.wait(t, "log file reopened")
	stderr.wait(t, "another padlock takes over")
	stderr.wait(t, "this one goes on") // there is no file any more on the standard input
}
