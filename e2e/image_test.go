//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// imageConfig is what an image says about itself.
type imageConfig struct {
	User         string
	ExposedPorts map[string]struct{}
	Volumes      map[string]struct{}
	Labels       map[string]string
	Entrypoint   []string
}

// The image holds padlock and an empty volume above its base, each entry as the source and the arguments alone make it: another build,
// here on this machine, comes to the same program. It is small enough to be pulled in no time.
func TestTheImageIsSmallAndReproducible(t *testing.T) {
	besides(t)
	image := padlockImage(t)
	var c imageConfig
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", "-f", "{{json .Config}}", image)), &c); err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"80/tcp", "443/tcp", "443/udp"} {
		if _, ok := c.ExposedPorts[port]; !ok {
			t.Errorf("%s is not exposed: %v", port, c.ExposedPorts)
		}
	}
	if _, ok := c.Volumes["/data"]; !ok || c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/padlock"}) {
		t.Errorf("%+v", c)
	}
	for label, want := range map[string]string{"title": "padlock", "version": imageVersion, "revision": imageRevision, "licenses": "MIT"} {
		if got := c.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("label %s is %q, not %q", label, got, want)
		}
	}

	saved, size := saveImage(t, image)
	t.Logf("%.1f MB compressed", float64(size)/1e6)
	if size > 25e6 {
		t.Errorf("%.1f MB compressed", float64(size)/1e6)
	}
	data, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	nothing := sha256.Sum256(nil)
	want := []string{
		fmt.Sprintf("etc/ 0:0 755 1970 %x", nothing),
		fmt.Sprintf("etc/padlock/ 0:0 755 1970 %x", nothing),
		fmt.Sprintf("padlock 0:0 755 1970 %x", sha256.Sum256(data)),
		fmt.Sprintf("data/ 65532:65532 700 1970 %x", nothing),
	}
	if got := layersAbove(t, saved, "gcr.io/distroless/static-debian12:nonroot"); !slices.Equal(got, want) {
		t.Errorf("above the base are\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// saveImage returns the files of an image, and how large they are compressed.
func saveImage(t *testing.T, image string) (files map[string][]byte, compressed int) {
	t.Helper()
	archive, err := exec.Command("docker", "save", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	w := gzip.NewWriter(&small)
	_, _ = w.Write(archive)
	w.Close()
	files = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files, small.Len()
		} else if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// layersAbove describes every entry of the layers that an image has above its base.
func layersAbove(t *testing.T, saved map[string][]byte, base string) (entries []string) {
	t.Helper()
	var manifest []struct{ Layers []string }
	if err := json.Unmarshal(saved["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("%v %s", err, saved["manifest.json"])
	}
	var below []string
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", "-f", "{{json .RootFS.Layers}}", base)), &below); err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest[0].Layers[len(below):] {
		for r := tar.NewReader(bytes.NewReader(saved[layer])); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, fmt.Sprintf("%s %d:%d %o %d %x", h.Name, h.Uid, h.Gid, h.Mode&0o7777, h.ModTime.UTC().Year(), sha256.Sum256(data)))
		}
	}
	return entries
}

// hardened is how a careful operator runs it.
var hardened = []string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

// published is a port of this machine that leads to port 443 of a container, by TCP and UDP.
func published(t *testing.T) (address string, flags []string) {
	address = "127.0.0.1:" + freePort(t)
	return address, []string{"-p", address + ":443", "-p", address + ":443/udp"}
}

// containerRoot is the local CA of a container.
func (c *container) root(t *testing.T) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	if pem := docker(t, "exec", c.name, "/padlock", "trust", "--print"); !roots.AppendCertsFromPEM([]byte(pem)) {
		t.Fatalf("no certificate: %s", pem)
	}
	return roots
}

// A container without root, capabilities and a writable file system serves an app to the outside by every protocol. docker stop ends it
// when an open request has its answer, and another container goes on with the volume.
func TestAContainerWithoutPrivilegesServesAnApp(t *testing.T) {
	besides(t)
	image := padlockImage(t)
	name, gateway := bridge(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(began)
			<-goOn
		}
		fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"), " to the app")
	}))
	l, err := net.Listen("tcp", gateway+":0")
	if err != nil {
		t.Fatal(err)
	}
	app.Listener.Close()
	app.Listener = l
	app.Start()
	defer app.Close()

	data := volume(t)
	plain := "127.0.0.1:" + freePort(t)
	address, ports := published(t)
	run := slices.Concat(hardened, ports, []string{"-p", plain + ":80", "--network", name, "-v", data + ":/data", image, "localhost,127.0.0.1=" + l.Addr().String()})
	c := runContainer(t, run...)
	c.log.wait(t, "padlock: https://localhost → http://"+l.Addr().String())
	roots := c.root(t)
	for protocol, front := range fronts(t, address, roots) {
		response, err := front.client.Get("https://" + address + "/")
		if err != nil {
			t.Errorf("%s: %v", protocol, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(body) != "https to the app" {
			t.Errorf("%s: %v %q", protocol, err, body)
		}
		if want := map[string]int{"h1": 1, "h2": 2, "h3": 3}[protocol]; response.ProtoMajor != want {
			t.Errorf("%s: %s", protocol, response.Proto)
		}
	}
	request, _ := http.NewRequest("GET", "http://"+plain+"/x", nil)
	request.Host = "localhost"
	redirect, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	redirect.Body.Close()
	if to := redirect.Header.Get("Location"); to != "https://localhost/x" {
		t.Errorf("plain HTTP leads to %q", to)
	}
	if users := docker(t, "top", c.name, "-eo", "pid,uid,comm"); !strings.Contains(strings.Join(strings.Fields(users), " "), "65532 padlock") {
		t.Errorf("who runs: %s", users)
	}
	c.healthy(t)

	client := fronts(t, address, roots)["h1"].client
	answer := make(chan error, 1)
	go func() {
		response, err := client.Get("https://" + address + "/slow")
		if err == nil {
			var body []byte
			body, err = io.ReadAll(response.Body)
			response.Body.Close()
			if err == nil && string(body) != "https to the app" {
				err = fmt.Errorf("%q", body)
			}
		}
		answer <- err
	}()
	<-began
	c.signal(t, "TERM")
	c.log.wait(t, "finishing open requests")
	close(goOn)
	if err := <-answer; err != nil {
		t.Errorf("a request that was open: %v", err)
	}
	if code := c.exit(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	docker(t, "rm", c.name)

	next := runContainer(t, run...)
	next.log.wait(t, "padlock: https://localhost → ")
	if !next.root(t).Equal(roots) {
		t.Error("another container with the volume has another local CA")
	}
	if _, pem := ended(t, "-v", data+":/data", image, "trust", "--print"); pem == "" || !appended(pem).Equal(roots) {
		t.Errorf("docker run trust --print: %s", pem)
	}
}

func appended(pem string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(pem))
	return pool
}

// As process 1, padlock answers signals as it does elsewhere: the kernel leaves process 1 without any default action.
func TestSignalsOfAContainer(t *testing.T) {
	besides(t)
	image := padlockImage(t)
	t.Run("a file is read again with SIGHUP", func(t *testing.T) {
		dir := t.TempDir()
		configure := func(body string) {
			t.Helper()
			text := "handshakes: {show: off}\nsites: [{hosts: [localhost], routes: [{respond: {body: " + body + "}}]}]\n"
			if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		configure("before")
		address, ports := published(t)
		c := runContainer(t, slices.Concat(hardened, ports, []string{"-v", dir + ":/etc/padlock:ro", image, "run"})...)
		c.log.wait(t, "padlock: https://localhost →")
		_, err := dockerTry("exec", c.name, "/padlock", "trust")
		expect(t, fmt.Sprint(err), "on the host, run: docker exec ", " /padlock trust --print")
		client := fronts(t, address, c.root(t))["h1"].client
		get := func() string {
			request, _ := http.NewRequest("GET", "https://"+address, nil)
			request.Host = "localhost"
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			return string(body)
		}
		if got := get(); got != "before" {
			t.Errorf("%q", got)
		}
		configure("after")
		c.signal(t, "HUP")
		c.log.wait(t, "configuration reloaded")
		if got := get(); got != "after" {
			t.Errorf("%q", got)
		}
		configure("in the end")
		docker(t, "exec", c.name, "/padlock", "check")
		docker(t, "exec", c.name, "/padlock", "reload")
		if got := get(); got != "in the end" {
			t.Errorf("%q", got)
		}
		c.signal(t, "USR2")
		c.log.wait(t, "this is process 1: the container would end with it")
		c.signal(t, "INT")
		if code := c.exit(t); code != 0 {
			t.Errorf("exit code %d after SIGINT", code)
		}
	})
	t.Run("without a file SIGHUP does nothing, and a second SIGTERM ends at once", func(t *testing.T) {
		address, ports := published(t)
		c := runContainer(t, append(ports, image)...)
		c.log.wait(t, "padlock: https://localhost →")
		c.signal(t, "HUP")
		conn, err := net.Dial("tcp", address) // holds the end back: its handshake may still come
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		eventually(t, func() (string, error) {
			out, err := dockerTry("exec", c.name, "/padlock", "status")
			if err == nil && !strings.Contains(out, "serves") {
				err = errors.New(out)
			}
			return out, err
		})
		c.signal(t, "TERM")
		c.log.wait(t, "interrupt again to end at once")
		began := time.Now()
		_, _ = dockerTry("kill", "-s", "TERM", c.name) // may have ended by itself: then the code tells
		if code := c.exit(t); code != 143 || time.Since(began) > 20*time.Second {
			t.Errorf("exit code %d after %s", code, time.Since(began))
		}
	})
}

// What ends before it serves says why, with the remedy and the exit code that it has elsewhere.
func TestExitCodesOfAContainer(t *testing.T) {
	besides(t)
	image := padlockImage(t)
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte("sites: [{hosts: ['a b']}]\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	privileged := []string{"--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"}
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"the version", []string{image, "version"}, 0, []string{"padlock " + imageVersion}},
		{"a flag that is none", []string{image, "--nope"}, 2, []string{"-nope"}},
		{"a pair that is none", []string{image, "app.localhost="}, 2, []string{"app.localhost=: TARGET empty"}},
		{"a bad file", []string{"-v", dir + ":/etc/padlock:ro", image, "run"}, 1, []string{"padlock.yaml:1:18", `"a b": each host is an item of its own in the list`}},
		{"no file", []string{image, "run"}, 1, []string{"padlock.yaml: no such file"}},
		{"port 443 without privilege", append(privileged, image), 1, []string{":443: bind: permission denied", "--sysctl net.ipv4.ip_unprivileged_port_start=0"}},
		{"a volume of somebody else", []string{"--tmpfs", "/data:uid=0,mode=0700", image}, 1, []string{"/data/padlock", "permission denied"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, said := ended(t, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, not %d", code, c.code)
			}
			for _, word := range c.words {
				if !strings.Contains(said, word) {
					t.Errorf("%q is not in:\n%s", word, said)
				}
			}
		})
	}
	t.Run("higher ports", func(t *testing.T) {
		c := runContainer(t, append(privileged, "-e", "PADLOCK_LISTEN=:8443", "-e", "PADLOCK_HTTP=:8080", "-e", "PADLOCK_SITES=app.localhost=app:3000 api.localhost=api:9000", image)...)
		c.log.wait(t, "https://app.localhost:8443 → http://app:3000", "https://api.localhost:8443 → http://api:9000")
		u := url.URL{Scheme: "https", Host: docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", c.name) + ":8443"}
		if _, err := see(u.Host, "api.localhost", nil); err != nil {
			t.Error(err)
		}
	})
}
