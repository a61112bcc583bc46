//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// appArchive has the application in testdata/container as the only file.
var appArchive = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "padlock-e2e-app-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := servicetest.BuildPlain(filepath.Join(dir, "container"), "./testdata/container", "-ldflags", "-s -w"); err != nil {
		return nil, err
	}
	return exec.Command("tar", "-C", dir, "-cf", "-", "container").Output()
})

// appImage makes an image of the application, with more lines of a Dockerfile.
func appImage(t *testing.T, more ...string) string {
	t.Helper()
	data, err := appArchive()
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, data, 0o600); err != nil {
		t.Fatal(err)
	}
	args, name := []string{"import"}, ownName()
	for _, line := range append(more, `ENTRYPOINT ["/container"]`, "EXPOSE 8080") {
		args = append(args, "-c", line)
	}
	docker(t, append(args, archive, name)...)
	t.Cleanup(func() { docker(t, "rmi", "-f", name) })
	return name
}

// fleet is padlock beside an engine's containers of one test.
type fleet struct {
	*padlock
	image, network, label string
	dir                   string
	client                *http.Client
}

// startFleet runs padlock with a site of its own, and the containers that this test makes. The engine is at an endpoint, or "".
func startFleet(t *testing.T, endpoint, more string) *fleet {
	t.Helper()
	f := &fleet{image: appImage(t), label: ownName(), dir: t.TempDir()}
	f.network, _ = bridge(t)
	f.configure(t, endpoint, more)
	f.padlock = startFile(t, f.dir)
	f.client = f.newClient(t, false)
	return f
}

func (f *fleet) configure(t *testing.T, endpoint, more string) {
	t.Helper()
	if endpoint != "" {
		endpoint = "endpoint: \"" + endpoint + "\", "
	}
	text := fmt.Sprintf(`listen: {https: ["127.0.0.1:0"], http: [], http3: false}
handshakes: {show: "off"}
access_log: {format: "off"}
docker: {%slabels: [test=%s]}
sites:
  - {hosts: [localhost], routes: [{respond: {body: padlock}}]}
%s`, endpoint, f.label, more)
	if err := os.WriteFile(filepath.Join(f.dir, "padlock.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newClient finds every name at padlock's port.
func (f *fleet) newClient(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	client := clientAt(strings.TrimPrefix(strings.Replace(f.url, "localhost", "127.0.0.1", 1), "https://"), f.roots(t), http2)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func clientAt(address string, roots *x509.CertPool, http2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	}
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// app runs a container with labels such as "host=a.test path=/api" and, after a bar, more arguments of docker run.
func (f *fleet) app(t *testing.T, labels string) *container {
	t.Helper()
	labels, more, _ := strings.Cut(labels, " | ")
	args := append([]string{"--network", f.network, "--label", "test=" + f.label}, strings.Fields(more)...)
	for _, label := range strings.Fields(labels) {
		args = append(args, "--label", "padlock."+label)
	}
	return runContainer(t, append(args, f.image)...)
}

// id is what the container answers with.
func (c *container) id(t *testing.T) string {
	t.Helper()
	return docker(t, "inspect", "-f", "{{.Config.Hostname}}", c.name)
}

// ask returns what a name answers with, or what went wrong.
func ask(client *http.Client, method, url string) (string, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(map[string]string{"POST": "content"}[method]))
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(body), err
}

// answers waits until a name is answered by these containers alone, each of them.
func (f *fleet) answers(t *testing.T, url string, containers ...*container) {
	t.Helper()
	want := map[string]bool{}
	for _, c := range containers {
		want[c.id(t)] = true
	}
	eventually(t, func() (string, error) {
		seen := map[string]bool{}
		for range 4 * len(want) {
			body, err := ask(f.client, "GET", url)
			if err != nil {
				return body, err
			}
			name, _, _ := strings.Cut(body, " ")
			if !want[name] {
				return body, errors.New("another answers")
			}
			seen[name] = true
		}
		if len(seen) < len(want) {
			return fmt.Sprint(seen), errors.New("not all of them answer")
		}
		return "", nil
	})
}

// gone waits until a name is served no more.
func (f *fleet) gone(t *testing.T, url string) {
	t.Helper()
	eventually(t, func() (string, error) {
		body, err := ask(f.client, "GET", url)
		if err == nil || err.Error() != "421 Misdirected Request" && !strings.Contains(err.Error(), "unrecognized name") {
			return body, fmt.Errorf("it is still served, or fails otherwise: %w", err)
		}
		return "", nil
	})
}

// visitors ask names for as long as the test likes, and count what is answered.
type visitors struct {
	requests atomic.Int64
	cancel   context.CancelFunc
	clients  sync.WaitGroup
}

func (f *fleet) visit(t *testing.T, requests ...string) *visitors {
	t.Helper()
	return visiting(t, func(i int) *http.Client { return f.newClient(t, i%2 == 0) }, requests...)
}

func visiting(t *testing.T, newClient func(int) *http.Client, requests ...string) *visitors {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	l := &visitors{cancel: cancel}
	for i, r := range requests {
		method, url, _ := strings.Cut(r, " ")
		for j := range 2 {
			client := newClient(i + j)
			l.clients.Go(func() {
				pace := time.NewTicker(2 * time.Millisecond) // the machine has other things to do
				defer pace.Stop()
				for ; ctx.Err() == nil; <-pace.C {
					if body, err := ask(client, method, url); err != nil {
						t.Errorf("%s: %v %s", r, err, body)
						return
					}
					l.requests.Add(1)
				}
			})
		}
	}
	t.Cleanup(func() { l.end(t) })
	return l
}

func (l *visitors) end(t *testing.T) {
	l.cancel()
	l.clients.Wait()
	if n := l.requests.Swap(0); n > 0 {
		t.Logf("%d requests", n)
	}
}

// Containers start and stop, and their names come and go, with certificates of the local CA, while others answer every request. Of two
// that share a route one is told to stop: neither it nor the other fails a request, also where its application knows no grace.
func TestContainersComeAndGoUnderLoad(t *testing.T) {
	besides(t, &labels)
	f := startFleet(t, "", "")
	steady := f.app(t, "host=steady.localhost")
	one := f.app(t, "host=shared.localhost | -e LINGER=1s")
	two := f.app(t, "host=shared.localhost")
	f.answers(t, "https://steady.localhost/", steady)
	f.answers(t, "https://shared.localhost/", one, two)
	l := f.visit(t, "GET https://steady.localhost/", "POST https://steady.localhost/", "GET https://shared.localhost/", "POST https://shared.localhost/", "GET https://localhost/")
	docker(t, "stop", one.name)
	f.answers(t, "https://shared.localhost/", two)
	for _, end := range []string{"stop", "kill"} {
		guest := f.app(t, "host=guest.test,also.test")
		f.answers(t, "https://guest.test/", guest)
		docker(t, end, guest.name)
		f.gone(t, "https://guest.test/")
		docker(t, "start", one.name)
		f.answers(t, "https://shared.localhost/", one, two)
		docker(t, "stop", one.name)
	}
	l.end(t) // a container that is frozen fails what it has taken
	docker(t, "pause", two.name)
	f.stderr.wait(t, "gone=shared.localhost")
	f.gone(t, "https://shared.localhost/")
	docker(t, "unpause", two.name)
	f.answers(t, "https://shared.localhost/", two)

	out, err := command(f.home, "status").CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^steady\.localhost +\d+ `).Match(out) {
		t.Errorf("padlock status: %v\n%s", err, out)
	}
}

// Paths, fields, passwords and plain bytes by labels, a second route of one container, and an image whose health check is not good yet.
func TestLabelsSayWhatARouteDoes(t *testing.T) {
	besides(t, &labels)
	f := startFleet(t, "", "")
	web := f.app(t, "host=app.test headers.request.set.X-Edge=padlock routes.admin.path=/admin routes.admin.deny=0.0.0.0/0,::/0")
	api := f.app(t, "host=app.test path=/api strip_prefix=true")
	echo := f.app(t, "host=bytes.test tcp=true port=9000")
	f.answers(t, "https://app.test/", web)
	f.answers(t, "https://app.test/api/x", api)
	if body, err := ask(f.client, "GET", "https://app.test/deep/path"); err != nil || body != web.id(t)+" /deep/path padlock" {
		t.Errorf("%v %s", err, body)
	}
	if body, err := ask(f.client, "GET", "https://app.test/api/orders"); err != nil || body != api.id(t)+" /orders " {
		t.Errorf("%v %s", err, body)
	}
	if body, err := ask(f.client, "GET", "https://app.test/admin/x"); err == nil || err.Error() != "403 Forbidden" {
		t.Errorf("%v %s", err, body)
	}
	eventually(t, func() (string, error) {
		conn, err := f.client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			return "", err
		}
		config := f.client.Transport.(*http.Transport).TLSClientConfig.Clone()
		config.ServerName, config.NextProtos = "bytes.test", nil
		secure := tls.Client(conn, config)
		defer secure.Close()
		if _, err := secure.Write([]byte("bytes")); err != nil {
			return "", err
		}
		answer := make([]byte, 5)
		_, err = io.ReadFull(secure, answer)
		return string(answer), err
	})
	docker(t, "stop", echo.name)
	f.gone(t, "https://bytes.test/")

	f.image = appImage(t, `HEALTHCHECK --interval=1s --timeout=5s --retries=1000 CMD ["/container", "check"]`)
	late := f.app(t, "host=late.test | -e UNWELL=yes")
	f.stderr.wait(t, "container="+late.name+` reason="its health check says starting"`)
	f.gone(t, "https://late.test/")
	address := docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", late.name)
	eventually(t, func() (string, error) { return ask(http.DefaultClient, "POST", "http://"+address+":8080/well") }) // once it listens
	f.answers(t, "https://late.test/", late)
}

// A container with wrong labels is named with the label and the remedy, and nothing happens to the others.
func TestWrongLabelsStopNobodyElse(t *testing.T) {
	besides(t, &labels)
	f := startFleet(t, "", "")
	good := f.app(t, "host=good.test")
	f.answers(t, "https://good.test/", good)
	l := f.visit(t, "GET https://good.test/", "GET https://localhost/")
	for labels, want := range map[string]string{
		"host=bad.test alow=10.0.0.0/8":             `label=padlock.alow reason="padlock knows no such label; did you mean allow?" remedy="correct the label or take it off`,
		"host=good.test path=/x health.interval=5s": `label=padlock.health.path reason="\"\" is not a path such as /healthz"`,
		"host=bad.test port=web":                    `label=padlock.port reason="\"web\" is not a number from 1 to 65535"`,
		"host=a..b":                                 `label=padlock.host reason="\"a..b\" is not a host name`,
		"host=localhost":                            `label=padlock.host reason="localhost is a site of padlock's own configuration, which goes first"`,
		"host=www.good.test www=remove":             `label=padlock.host reason="cannot be served beside the others: another site: good.test already stands at another site"`,
		"host=*.example.com":                        `label=padlock.host reason="a wildcard certificate needs dns-01`,
		"host=bad.test network=nowhere":             `label=padlock.network reason="is not in the network nowhere, but in: ` + f.network,
		"host=good.test tcp=true":                   `label=padlock.host reason="container ` + good.name + ` forwards HTTP under the same name"`,
	} {
		bad := f.app(t, labels)
		f.stderr.wait(t, "container="+bad.name+" "+want)
		docker(t, "rm", "-f", bad.name)
	}
	f.answers(t, "https://good.test/", good)
	f.gone(t, "https://bad.test/")
	l.end(t)
}

// relay stands between padlock and the engine's socket, so that a test can take the engine away from padlock alone.
type relay struct {
	path string

	mu       sync.Mutex
	listener net.Listener
	open     []net.Conn
	joining  sync.WaitGroup
}

func newRelay(t *testing.T) *relay {
	r := &relay{path: filepath.Join(t.TempDir(), "engine.sock")}
	r.back(t)
	t.Cleanup(r.cut)
	return r
}

func (r *relay) back(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	r.listener = l
	r.joining.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			engine, err := net.Dial("unix", "/var/run/docker.sock")
			if err != nil {
				conn.Close()
				continue
			}
			r.mu.Lock()
			r.open = append(r.open, conn, engine)
			r.mu.Unlock()
			for _, pair := range [][2]net.Conn{{conn, engine}, {engine, conn}} {
				r.joining.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
				})
			}
		}
	})
}

// cut ends every connection, and leaves nobody to connect to.
func (r *relay) cut() {
	r.listener.Close()
	r.mu.Lock()
	for _, conn := range r.open {
		conn.Close()
	}
	r.open = nil
	r.mu.Unlock()
	r.joining.Wait()
}

// The engine is away, and what it told of last is served on, over a reload too. A restart is refused, as the new padlock would know of no
// container. When the engine is back, everything is as it is there, and a restart under load fails no request.
func TestContainersAreServedWhileTheEngineIsAway(t *testing.T) {
	besides(t, &labels)
	r := newRelay(t)
	f := startFleet(t, "unix://"+r.path, "")
	stays, goes := f.app(t, "host=stays.test"), f.app(t, "host=goes.test")
	f.answers(t, "https://stays.test/", stays)
	f.answers(t, "https://goes.test/", goes)
	l := f.visit(t, "GET https://stays.test/", "POST https://stays.test/")
	r.cut()
	f.stderr.wait(t, "the container engine does not answer; the sites that it told of last stay")
	docker(t, "rm", "-f", goes.name)
	comes := f.app(t, "host=comes.test")
	f.configure(t, "unix://"+r.path, "  - {hosts: [more.test], routes: [{respond: {body: more}}]}\n")
	if out, err := command(f.home, "reload").CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
	f.answers(t, "https://stays.test/", stays)
	if body, err := ask(f.client, "GET", "https://more.test/"); err != nil || body != "more" {
		t.Errorf("%v %s", err, body)
	}
	if err := syscall.Kill(f.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	f.stderr.wait(t, "the new padlock does not serve; this one goes on", "asking the container engine unix://"+r.path)
	f.answers(t, "https://stays.test/", stays)

	r.back(t)
	f.answers(t, "https://comes.test/", comes)
	f.gone(t, "https://goes.test/")
	f.stderr.wait(t, "the container engine answers again")
	if err := syscall.Kill(f.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	next := child(t, f.padlock, 0)
	t.Cleanup(func() { end(t, next) })
	f.answers(t, "https://comes.test/", comes)
	guest := f.app(t, "host=guest.test")
	f.answers(t, "https://guest.test/", guest)
	l.end(t)
}

// padlock in a container, without root and with the socket's group, finds itself among the containers, and reaches others in the network
// that they share, once they share one.
func TestPadlockInAContainerReachesOthersByTheNetworkThatTheyShare(t *testing.T) {
	besides(t, &labels)
	near, _ := bridge(t)
	far, _ := bridge(t)
	socket, err := os.Stat("/var/run/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	group := fmt.Sprint(socket.Sys().(*syscall.Stat_t).Gid)
	p := runContainer(t, append(hardened, "--network", near, "-p", "127.0.0.1::443", "-v", "/var/run/docker.sock:/var/run/docker.sock:ro", "--group-add", group,
		padlockImage(t), "--docker")...)
	app := runContainer(t, "--network", far, "--label", "padlock.host=app.test", appImage(t))
	p.log.wait(t, fmt.Sprintf("container=%s label=padlock.network reason=\"shares no network with padlock: it is in %s, padlock in %s\"", app.name, far, near))
	docker(t, "network", "connect", near, app.name)
	client := clientAt(docker(t, "port", p.name, "443/tcp"), p.root(t), true)
	defer client.CloseIdleConnections()
	eventually(t, func() (string, error) {
		body, err := ask(client, "GET", "https://app.test/")
		if err == nil && body != app.id(t)+" / " {
			err = errors.New("another answers")
		}
		return body, err
	})
}

// The example: two shops share a name with an API below a path, until one of them goes under load. What stands before the engine's socket
// lets nothing but a look at containers through.
func TestExampleDockerLabels(t *testing.T) {
	besides(t, &labels)
	p := startProject(t, "docker-labels", []string{"HTTPS_PORT", "HTTP_PORT"})
	said := p.follow(t, 0)
	expect(t, said, "orders", "shop.localhost")
	shops := strings.Fields(p.must(t, "ps", "-q", "shop"))
	for _, id := range shops {
		expect(t, said, id[:12])
	}
	client := clientAt("127.0.0.1:"+p.ports["HTTPS_PORT"], p.roots(t), true)
	defer client.CloseIdleConnections()
	visitors := visiting(t, func(int) *http.Client { return client }, "GET https://shop.localhost/", "GET https://shop.localhost/api/orders")
	p.must(t, "up", "-d", "--no-deps", "--scale", "shop=1", "shop")
	left := p.container(t, "shop")
	for range 4 {
		if body, err := ask(client, "GET", "https://shop.localhost/"); err != nil || strings.TrimSpace(body) != left[:12] {
			t.Errorf("%v %s", err, body)
		}
	}
	visitors.end(t)

	socket := func(args ...string) string {
		out, _ := exec.Command("docker", append([]string{"run", "--rm", "--network", p.network("engine"), "busybox:1.37", "wget", "-q", "-O", "-"}, args...)...).CombinedOutput()
		return string(out)
	}
	expect(t, socket("http://engine:2375/containers/json"), left)
	expect(t, socket("http://engine:2375/v1.41/containers/"+left+"/json"), left)
	for _, denied := range []string{"images/json", "containers/" + left + "/logs?stdout=1", "v1.41/containers/" + left + "/../../images/json", "info", "containers/json/../../secrets"} {
		expect(t, socket("http://engine:2375/"+denied), "403 Forbidden")
	}
	expect(t, socket("--post-data", "", "http://engine:2375/containers/"+left+"/stop"), "403 Forbidden")
}

// network is the full name of a network of the project.
func (p *project) network(name string) string {
	for _, variable := range p.env {
		if project, ok := strings.CutPrefix(variable, "COMPOSE_PROJECT_NAME="); ok {
			return project + "_" + name
		}
	}
	return name
}
