//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"padlock/internal/servicetest"
)

// project is an example that Compose runs, from its unchanged files, under a name and on ports of its own.
type project struct {
	dir   string
	env   []string
	ports map[string]string // by the variable that the example takes each from
}

// startProject has the images made that the example names. What it starts ends with the test, volumes and networks too. Variables
// of ports end with _PORT; others are addresses with a port.
func startProject(t *testing.T, name string, ports []string, env ...string) *project {
	t.Helper()
	need(t, "docker-compose")
	padlockImage(t)
	p := &project{example(t, name), append(env, "COMPOSE_PROJECT_NAME="+ownName()), map[string]string{}}
	var names []string
	for _, file := range []string{"compose.yaml", "pebble.yaml"} {
		data, _ := os.ReadFile(filepath.Join(p.dir, file)) // not every example has the second
		for _, image := range regexp.MustCompile(`(?m)^ +image: (\S+)`).FindAllStringSubmatch(string(data), -1) {
			if image[1] != "padlock" {
				names = append(names, image[1])
			}
		}
	}
	images(t, names...)
	for _, variable := range ports {
		p.ports[variable] = freePort(t)
		if !strings.HasSuffix(variable, "_PORT") {
			p.ports[variable] = "127.0.0.1:" + p.ports[variable]
		}
		p.env = append(p.env, variable+"="+p.ports[variable])
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.compose("logs", "--no-color", "--tail", "40"))
		}
		if out, err := p.compose("down", "-v", "-t", "0", "--remove-orphans"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return p
}

func (p *project) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir = p.dir
	c.Env = append(os.Environ(), p.env...)
	return c
}

func (p *project) compose(args ...string) (string, error) {
	out, err := p.command("docker-compose", args...).CombinedOutput()
	return string(out), err
}

func (p *project) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.compose(args...)
	if err != nil {
		t.Fatalf("docker-compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// follow runs the commands of a block of the example's README, and returns what they print. Those of other versions of Compose are
// spelt docker-compose.
func (p *project) follow(t *testing.T, block int) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(p.dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```\n(.*?)^```").FindAllStringSubmatch(string(readme), -1)
	script := "docker() { if [ \"$1\" = compose ]; then shift; docker-compose \"$@\"; else command docker \"$@\"; fi; }\n" + blocks[block][1]
	began := time.Now()
	out, err := p.command("bash", "-euo", "pipefail", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s%s", err, blocks[block][1], out)
	}
	t.Logf("the README's commands took %s", time.Since(began).Round(time.Millisecond))
	return string(out)
}

// container is the one that runs a service.
func (p *project) container(t *testing.T, service string) string {
	t.Helper()
	return strings.TrimSpace(p.must(t, "ps", "-q", service))
}

// roots are those that the README's commands have put into root.pem.
func (p *project) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return appended(string(data))
}

func expect(t *testing.T, said string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("%q is not in:\n%s", word, said)
		}
	}
}

func TestExampleComposeLocal(t *testing.T) {
	besides(t)
	p := startProject(t, "compose-local", []string{"HTTPS_PORT", "HTTP_PORT"})
	https, plain := p.ports["HTTPS_PORT"], p.ports["HTTP_PORT"]
	expect(t, p.follow(t, 0), "An app in a container", "https://app.localhost:"+https, "I want app.localhost", "the padlock is closed")
	out, err := exec.Command(need(t, "curl"), "-sS", "-o", os.DevNull, "-w", "%{redirect_url}", "http://app.localhost:"+plain+"/x").CombinedOutput()
	if err != nil || string(out) != "https://app.localhost:"+https+"/x" {
		t.Errorf("plain HTTP leads to %s: %v", out, err)
	}
	three := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t), ServerName: "app.localhost"}, QUICConfig: servicetest.Patient(nil)}
	defer three.Close()
	request, _ := http.NewRequest("GET", "https://127.0.0.1:"+https, nil)
	request.Host = "app.localhost"
	response, err := three.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("by HTTP/3: %s", response.Status)
	}
}

func TestExampleComposeACME(t *testing.T) {
	besides(t)
	p := startProject(t, "compose-acme", withPebble)
	expect(t, p.follow(t, 0), "An app with a certificate by ACME", "app.example.com", "stage=certificate")
}

// withPebble are the variables of examples with a CA.
var withPebble = []string{"HTTP", "HTTPS", "PEBBLE_PORT"}

func TestExampleComposePostgreSQL(t *testing.T) {
	besides(t)
	need(t, "psql")
	p := startProject(t, "compose-postgresql", []string{"POSTGRES_PORT"})
	expect(t, p.follow(t, 0), "PostgreSQL 1", "padlock serves", "version "+imageVersion, "db.localhost")
}

// issued counts the certificates that the CA of a project has given out.
func (p *project) issued(t *testing.T) int {
	t.Helper()
	return strings.Count(p.must(t, "logs", "--no-color", "pebble"), "Issued certificate")
}

func TestExampleComposeTwoNodesWithPostgreSQL(t *testing.T) {
	besides(t)
	p := startProject(t, "two-nodes-postgresql", withPebble, "COMPOSE_FILE=compose.yaml:pebble.yaml", "POSTGRES_PASSWORD=", "STORAGE_KEY=", "EMAIL=")
	expect(t, p.follow(t, 1), "An app behind two nodes")
	for _, node := range []string{"padlock-1", "padlock-2"} {
		p.healthy(t, node)
	}
	if n := p.issued(t); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

func (p *project) healthy(t *testing.T, service string) {
	t.Helper()
	(&container{name: p.container(t, service)}).healthy(t)
}

// One node of two is stopped, and hardly anybody notices; one is cut off the network, which those notice who are on their way to it, for as long
// as the balancer needs to find out. All the time there is one certificate.
func TestExampleComposeTwoNodesWithRedis(t *testing.T) {
	besides(t)
	p := startProject(t, "two-nodes-redis", withPebble, "COMPOSE_FILE=compose.yaml:pebble.yaml", "REDIS_PASSWORD=", "STORAGE_KEY=", "EMAIL=")
	address := p.ports["HTTPS"]
	expect(t, p.follow(t, 1), "An app behind two nodes")
	roots := p.roots(t)
	for _, node := range []string{"padlock-1", "padlock-2"} {
		p.healthy(t, node)
	}
	served := func(node string) {
		t.Helper()
		eventually(t, func() (string, error) {
			out, err := p.compose("exec", "-T", node, "/padlock", "status")
			if err == nil && !strings.Contains(out, "serves") {
				err = errors.New(out)
			}
			return out, err
		})
	}

	seen := watchAddress(address, roots)
	first := p.container(t, "padlock-1")
	p.must(t, "stop", "padlock-1")
	if code := docker(t, "inspect", "-f", "{{.State.ExitCode}}", first); code != "0" {
		t.Errorf("the node that was stopped exits with %s", code)
	}
	stopped := seen.end()
	t.Logf("a node is stopped: %s", stopped)
	if stopped.failed > max(2, stopped.done/20) || stopped.done < 10 { // whoever the kernel had let in at the moment of the end
		t.Errorf("clients noticed: %s", stopped)
	}
	p.must(t, "start", "padlock-1")
	p.healthy(t, "padlock-1")
	served("padlock-1")

	second, net := p.container(t, "padlock-2"), docker(t, "inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}", p.container(t, "padlock-2"))
	seen = watchAddress(address, roots)
	docker(t, "network", "disconnect", net, second)
	seen.await(200) // ten seconds of requests
	cut := seen.end()
	t.Logf("a node is cut off: %s", cut)
	if cut.failed > 4 || cut.until > 20*time.Second { // those whose request was on its way wait until their own patience ends
		t.Errorf("clients noticed: %s", cut)
	}
	docker(t, "network", "connect", "--alias", "padlock-2", net, second)
	served("padlock-2")
	p.must(t, "stop", "padlock-1")
	eventually(t, func() (string, error) {
		_, err := see(address, "app.example.com", func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, roots })
		return "the node that was cut off", err
	})
	if n := p.issued(t); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// watched is what clients see who come one after the other, twenty a second.
type watched struct {
	began   time.Time
	ticks   chan outcome
	stop    chan struct{}
	summary watchedSummary
}

type outcome struct {
	at, took time.Duration
	err      error
}

type watchedSummary struct {
	done, failed int
	slowest      time.Duration
	until        time.Duration // when the last one failed, or took longer than a second, from the beginning
	last         error
}

func (s watchedSummary) String() string {
	return fmt.Sprintf("%d of %d failed, the slowest took %s, all is well after %s (%v)", s.failed, s.done, s.slowest.Round(time.Millisecond), s.until.Round(time.Millisecond), s.last)
}

func watchAddress(address string, roots *x509.CertPool) *watched {
	w := &watched{began: time.Now(), ticks: make(chan outcome, 10_000), stop: make(chan struct{})}
	go func() {
		defer close(w.ticks)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		open := make(chan struct{}, 100)
		for {
			select {
			case <-w.stop:
				for range cap(open) {
					open <- struct{}{}
				}
				return
			case <-ticker.C:
			}
			open <- struct{}{}
			go func() {
				began := time.Now()
				_, err := see(address, "app.example.com", func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, roots })
				w.ticks <- outcome{time.Since(w.began), time.Since(began), err}
				<-open
			}()
		}
	}()
	return w
}

// await waits for more outcomes.
func (w *watched) await(more int) {
	for range more {
		w.add(<-w.ticks)
	}
}

func (w *watched) add(o outcome) {
	s := &w.summary
	s.done++
	s.slowest = max(s.slowest, o.took)
	if o.err != nil {
		s.failed, s.last = s.failed+1, o.err
	}
	if o.err != nil || o.took > time.Second {
		s.until = max(s.until, o.at)
	}
}

// end returns what all have seen, once those that are on their way are back.
func (w *watched) end() watchedSummary {
	close(w.stop)
	for o := range w.ticks {
		w.add(o)
	}
	return w.summary
}
