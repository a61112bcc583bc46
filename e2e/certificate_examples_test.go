//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"padlock/internal/servicetest"
)

// exampleNode is an example with a CA that is here, on the ports where it comes.
type exampleNode struct {
	dir, storage string
	https, http  int
	more         []string // of the environment
}

func (n exampleNode) run(t *testing.T, ca *theCA) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	c := command(p.home, "run", "--config", "padlock.yaml")
	c.Dir = n.dir
	c.Env = append(c.Env, "STORAGE="+n.storage, "HTTPS_PORT="+strconv.Itoa(n.https), "HTTP_PORT="+strconv.Itoa(n.http))
	if ca != nil {
		c.Env = append(c.Env, "ACME_DIRECTORY="+ca.URL, "ACME_ROOT="+ca.Root, "SSL_CERT_FILE="+ca.Root)
	}
	c.Env = append(c.Env, n.more...)
	p.run(t, c)
	return p
}

// fetch gets a page as a browser that trusts the CA would, whatever the name leads to.
func fetch(ca *theCA, name string, port int) (string, error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.roots(), ServerName: name}}}
	request, err := http.NewRequest(http.MethodGet, "https://"+local(port), nil)
	if err != nil {
		return "", err
	}
	request.Host = name
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

func TestExamplesOfCertificatesFromACA(t *testing.T) {
	besides(t)
	for _, c := range []struct{ example, name string }{{"public-domain", "app.example.com"}, {"own-ca", "wiki.internal"}, {"wildcard-dns", "shop.example.com"}} {
		t.Run(c.example, func(t *testing.T) {
			ca := startCA(t, servicetest.PebbleOptions{})
			n := exampleNode{dir: example(t, c.example), storage: t.TempDir(), https: ca.TLS, http: ca.HTTP, more: []string{"APP=" + app(t, "python3"), "HTTP=" + local(servicetest.FreePort(t))}}
			if c.example == "wildcard-dns" { // with the provider that runs a program, as Cloudflare is not here
				n.more = append(n.more, execProvider(t, ca)...)
				swap(t, filepath.Join(n.dir, "padlock.yaml"), "{provider: cloudflare}", fmt.Sprintf("{provider: exec, resolvers: [%q], timeout: 20s}", ca.DNS))
			}
			n.run(t, ca)
			eventually(t, func() (string, error) { return fetch(ca, c.name, ca.TLS) })
		})
	}
}

func swap(t *testing.T, file, before, after string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(data), before) {
		t.Fatalf("%s does not hold %q: %v", file, before, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(data), before, after, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestExampleOnDemand(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	n := exampleNode{dir: example(t, "on-demand"), storage: t.TempDir(), https: ca.TLS, http: ca.HTTP}
	port := freePort(t)
	shop := exec.Command(need(t, "python3"), filepath.Join(n.dir, "app.py"))
	shop.Env = append(os.Environ(), "APP_PORT="+port)
	if err := shop.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shop.Process.Kill(); _ = shop.Wait() })
	n.more = []string{"APP=127.0.0.1:" + port}
	n.run(t, ca)
	page := eventually(t, func() (string, error) { return fetch(ca, "books.example", ca.TLS) })
	if page != "Welcome to Books\n" {
		t.Errorf("%q", page)
	}
	if _, err := fetch(ca, "nobody.example", ca.TLS); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a domain of no customer: %v", err)
	}
}

func TestExampleKubernetes(t *testing.T) {
	besides(t)
	dir := example(t, "kubernetes")
	secret := t.TempDir()
	port := servicetest.FreePort(t)
	first := putSecret(t, secret, "..2026_11_24")
	n := exampleNode{dir: dir, storage: t.TempDir(), https: port, more: []string{"CERTIFICATES=" + secret, "APP=" + app(t, "python3"), "HTTP=" + local(servicetest.FreePort(t))}}
	n.run(t, nil)
	serves := func(want string) {
		t.Helper()
		eventually(t, func() (string, error) {
			state, err := see(local(port), "app.example.com", nil)
			if err == nil && fingerprintOf(state.PeerCertificates[0]) != want {
				err = fmt.Errorf("another certificate is served")
			}
			return "", err
		})
	}
	serves(first)
	serves(putSecret(t, secret, "..2026_11_25"))
}

// A pod that comes back to its volume finds it as the kubelet has left it for the group: it serves what is there, and orders nothing.
func TestExampleKubernetesOnAVolume(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	volume := t.TempDir()
	n := exampleNode{dir: filepath.Join(example(t, "kubernetes"), "persistent"), storage: filepath.Join(volume, "padlock"), https: ca.TLS, http: ca.HTTP, more: []string{"APP=" + app(t, "python3")}}
	p := n.run(t, ca)
	first := ca.issuedFingerprint(t, "app.example.com")
	p.stop(t)
	orders := ca.orders()

	err := filepath.WalkDir(volume, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.Chmod(path, 0o770|fs.ModeSetgid)
		}
		return os.Chmod(path, 0o660)
	})
	if err != nil {
		t.Fatal(err)
	}
	p = n.run(t, ca)
	if again := ca.issuedFingerprint(t, "app.example.com"); again != first || ca.orders() != orders {
		t.Errorf("another certificate, or %d orders instead of %d", ca.orders(), orders)
	}
	p.stderr.wait(t, "padlock's group can write to the storage")
}

// putSecret writes a generation of a secret as the kubelet does, and returns its certificate's fingerprint.
func putSecret(t *testing.T, dir, generation string) string {
	t.Helper()
	m := newMaker(t, t.TempDir(), "x")
	if err := m.add("app.example.com"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, generation), 0o700); err != nil {
		t.Fatal(err)
	}
	var certificate []byte
	for from, to := range map[string]string{".crt": "tls.crt", ".key": "tls.key"} {
		data, err := os.ReadFile(filepath.Join(m.storage, "certificates/x/app.example.com/app.example.com"+from))
		if err != nil {
			t.Fatal(err)
		}
		if from == ".crt" {
			certificate = data
		}
		if err := os.WriteFile(filepath.Join(dir, generation, to), data, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Symlink(filepath.Join("..data", to), filepath.Join(dir, to)) // there already, later on
	}
	if err := os.Symlink(generation, filepath.Join(dir, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	return fingerprintOf(parsePEM(t, certificate))
}

func TestExamplesOfTwoNodes(t *testing.T) {
	besides(t)
	for _, c := range []struct {
		example string
		start   func(testing.TB) *servicetest.Service
	}{
		{"two-nodes-redis", func(t testing.TB) *servicetest.Service { return servicetest.StartRedis(t) }},
		{"two-nodes-postgresql", servicetest.StartPostgres},
	} {
		t.Run(c.example, func(t *testing.T) {
			ca, store := startCA(t, servicetest.PebbleOptions{}), c.start(t)
			dir := example(t, c.example)
			data, err := os.ReadFile(filepath.Join(dir, "compose.yaml"))
			var compose map[string]any
			if err == nil {
				err = yaml.Unmarshal(data, &compose)
			}
			if err != nil || compose["services"] == nil {
				t.Errorf("compose.yaml: %v", err)
			}
			more := []string{"APP=" + app(t, "python3"), "STORAGE_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
			second := servicetest.FreePort(t)
			exampleNode{dir, store.URL, ca.TLS, ca.HTTP, more}.run(t, ca)
			exampleNode{dir, store.URL, second, servicetest.FreePort(t), more}.run(t, ca)
			for _, port := range []int{ca.TLS, second} {
				eventually(t, func() (string, error) { return fetch(ca, "app.example.com", port) })
			}
			if n := ca.orders(); n != 1 {
				t.Errorf("%d orders", n)
			}
		})
	}
}

func parsePEM(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
