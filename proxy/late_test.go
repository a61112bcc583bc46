package proxy_test

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/proxy"
)

// soonSaid waits for words in what padlock logs.
func (e *edge) soonSaid(t *testing.T, words ...string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		text, missing := e.log.String(), ""
		for _, word := range words {
			if !strings.Contains(text, word) {
				missing = word
			}
		}
		if missing == "" {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the log does not say %q:\n%s", missing, text)
		}
	}
}

// Without a response timeout a target answers when it likes, and the log says who is being waited for.
func TestATargetMayTakeAsLongAsItTakes(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	slow := func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow/") {
			<-goOn
		}
	}
	for scheme, target := range map[string]string{"http": backend(t, slow), "h2c": h2cBackend(t, slow)} {
		e := startWith(t, target, func(c *config.Config) { c.Timeouts.ResponseHeader = config.Endless }, func(_ *localca.CA, deps *proxy.Dependencies) {
			deps.LateAfter = time.Millisecond
		})
		for name, client := range e.everyClient(t) {
			answered := make(chan int, 1)
			go func() {
				response, err := client.Get("https://localhost/slow/" + name + "?secret")
				if err != nil {
					answered <- 0
					return
				}
				response.Body.Close()
				answered <- response.StatusCode
			}()
			e.soonSaid(t, "an answer takes long", "path=/slow/"+name, "--response-timeout")
			goOn <- struct{}{}
			if status := <-answered; status != 200 {
				t.Errorf("%s: over %s: %d", scheme, name, status)
			}
		}
		if strings.Contains(e.log.String(), "secret") {
			t.Errorf("%s: the query is logged:\n%s", scheme, e.log.String())
		}
	}
}

// alone is a target that serves one connection at a time: it reads from the next when the one before has ended.
type alone struct {
	address     string
	came, asked chan struct{} // a connection, a request
	answer      chan struct{} // lets it answer one
}

func serveAlone(t *testing.T) *alone {
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	a := &alone{l.Addr().String(), make(chan struct{}, 100), make(chan struct{}, 100), make(chan struct{}, 100)}
	line := make(chan net.Conn, 100)
	go func() {
		defer close(line)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line <- c
			a.came <- struct{}{}
		}
	}()
	go func() {
		for c := range line {
			a.serve(c)
		}
	}()
	return a
}

func (a *alone) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		a.asked <- struct{}{}
		<-a.answer
		if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil || r.Close {
			return
		}
	}
}

// A target that serves one connection at a time answers nobody else while padlock keeps that one idle. The 504 says what helps, and that
// does help: without idle connections everybody is answered.
func TestATargetThatServesOneConnectionAtATime(t *testing.T) {
	t.Parallel()
	const help = `set keepalive: "off"`
	kept, single := serveAlone(t), serveAlone(t)
	e := startFile(t, `
timeouts: {response_header: 10s}
sites: [{hosts: [localhost], routes: [{to: %q}, {path: /single, to: %q, keepalive: off}]}]
`, kept.address, single.address)
	client := e.clients(t)["h2"]
	get := func(path string) <-chan string {
		result := make(chan string, 1)
		go func() {
			response, text := fetch(t, client, "GET", "https://localhost"+path, "Accept", "text/plain")
			result <- response.Status + " " + text
		}()
		return result
	}

	first := get("/")
	<-kept.came
	<-kept.asked
	second := get("/")
	<-kept.came
	kept.answer <- struct{}{}
	if got := <-first; !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	if got := <-second; !strings.HasPrefix(got, "504 ") || !strings.Contains(got, help) {
		t.Fatalf("the second of two requests: %s", got)
	}

	var all []<-chan string
	for range 8 {
		all = append(all, get("/single"))
		single.answer <- struct{}{}
	}
	for _, one := range all {
		if got := <-one; !strings.HasPrefix(got, "200 ") {
			t.Errorf("with keepalive: off: %s", got)
		}
	}
}
