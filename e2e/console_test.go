//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"padlock/console"
)

var consoleRounds = flag.Int("console-rounds", 1, "rounds of 1,000 handshakes a second with and without an open console")

// until evaluates an expression in the browser until it is true.
func until(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	eventually(t, func() (string, error) {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err == nil && !ok {
			err = fmt.Errorf("not true: %s", expression)
		}
		return "", err
	})
}

// picture takes one, and fails where the page is wider than the screen. UPDATE_DOCS=1 keeps those that have a name.
func picture(t *testing.T, ctx context.Context, name string, width, height int64, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media)
	if err == nil {
		err = chromedp.Do(ctx, chromedp.EmulateViewport(width, height))
	}
	if err == nil {
		_, err = chromedp.Run(ctx, chromedp.Evaluate[bool]("(scrollTo(0, 0), true)"))
	}
	if err != nil {
		t.Fatal(err)
	}
	wide, err := chromedp.Run(ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth"))
	if err != nil || wide > width {
		t.Errorf("%s: the page is %d pixels wide on a screen of %d, %v", name, wide, width, err)
	}
	shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil || len(shot) < 10_000 {
		t.Fatalf("%s: %d bytes, %v", name, len(shot), err)
	}
	if os.Getenv("UPDATE_DOCS") == "1" && name != "" {
		if err := os.WriteFile(filepath.Join("..", "docs", name), shot, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// uncut fails where something stands beyond the screen, or is cut off by what it stands in.
func uncut(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	const script = `(() => {
		const cut = [];
		for (const e of document.querySelectorAll("body *")) {
			const box = e.getBoundingClientRect(), style = getComputedStyle(e);
			if (!box.width || e.closest(".hide, .skip, svg, option") || style.visibility == "hidden") continue;
			if (box.right > innerWidth + 1 || box.left < -1) cut.push("beyond the screen: " + e.outerHTML.slice(0, 80));
			if (style.overflowX != "visible" && e.scrollWidth > e.clientWidth + 1 && !/^(INPUT|SELECT)$/.test(e.tagName)) {
				const beyond = [...e.querySelectorAll("*")].filter(c => c.firstChild && !c.closest(".hide") && (() => { const r = document.createRange(); r.selectNodeContents(c); return r.getBoundingClientRect().right > box.right; })()).pop();
				cut.push("cut off: " + e.outerHTML.slice(0, 80) + ", " + e.scrollWidth + " pixels in " + e.clientWidth + ", by " + (beyond || e).outerHTML.slice(0, 120));
			}
		}
		return cut.join("\n");
	})()`
	if cut, err := chromedp.Run(ctx, chromedp.Evaluate[string](script)); err != nil || cut != "" {
		t.Errorf("%s: %v\n%s", what, err, cut)
	}
}

// readable fails where a text, or the placeholder of an input, has a contrast of less than 4.5 to 1 (WCAG 2.2, 1.4.3).
func readable(t *testing.T, ctx context.Context, dark bool) {
	t.Helper()
	picture(t, ctx, "", 1280, 900, dark)
	const script = `(() => {
		const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
		const light = (c) => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
		const behind = (e) => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] == 1) return c; } return [255, 255, 255]; };
		const faint = [];
		const judge = (e, style, what) => {
			const [a, b] = [light(channels(style.color)), light(behind(e))], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) * (what && style.opacity < 1 ? style.opacity : 1);
			if (ratio < 4.5) faint.push(ratio.toFixed(2) + " " + (what || e.outerHTML.slice(0, 80)));
		};
		for (const e of document.querySelectorAll("body *")) {
			if (e.tagName == "INPUT") judge(e, getComputedStyle(e, "::placeholder"), "placeholder of " + e.name);
			else if ([...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) && !e.closest(".fresh, svg, option, style, script")) judge(e, getComputedStyle(e));
		}
		return faint.join("\n");
	})()`
	if faint, err := chromedp.Run(ctx, chromedp.Evaluate[string](script)); err != nil || faint != "" {
		t.Errorf("dark %t: %v\n%s", dark, err, faint)
	}
}

// The console in a real browser: failures stand on top with their remedy, handshakes appear as they happen, open in place as ladders, can
// be chosen and paused, and the page is good at the width of a desk and of a phone, in light and dark.
func TestTheConsoleShowsHandshakesAsTheyHappen(t *testing.T) {
	besides(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") }))
	defer app.Close()
	p := start(t, strings.TrimPrefix(app.URL, "http://"), "--admin", "127.0.0.1:0", "--insecure-export-secrets")
	root := p.root(t)
	curl := func(fine bool, args ...string) {
		t.Helper()
		if out, err := exec.Command(need(t, "curl"), append([]string{"-sS", "--cacert", root}, args...)...).CombinedOutput(); (err == nil) != fine {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
	}
	for range 4 {
		curl(true, p.url)
	}
	curl(true, "--tls-max", "1.2", p.url)
	curl(false, "--cacert", "/etc/ssl/certs/ca-certificates.crt", p.url)
	p.stderr.wait(t, "alert 48, unknown_ca")
	ctx := chromium(t, p)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.admin)); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector("#attention").innerText.includes("does not trust the CA")`)
	until(t, ctx, `document.querySelector("#pulse").innerText == "live"`)
	curl(false, "--connect-to", "nobody.example:443:"+strings.TrimPrefix(p.url, "https://"), "https://nobody.example/")
	until(t, ctx, `document.querySelector("#rows li").innerText.includes("nobody.example")`)
	until(t, ctx, `document.querySelector("#attention").innerText.includes("nobody.example")`)
	until(t, ctx, `document.querySelector("#attention li").innerText.includes("does not trust the CA")`) // older, and graver than a name that nobody has
	for i, heading := range []string{"No.", "Time", "Name", "Client", "Outcome", "Took"} {
		until(t, ctx, fmt.Sprintf(`(() => { // each stands above its column
			const head = document.querySelectorAll(".heads span")[%d], cell = document.querySelector("#rows li > a").children[%d];
			const a = head.getBoundingClientRect(), b = cell.getBoundingClientRect();
			return head.innerText == %q && Math.abs(a.left - b.left) < 3 && Math.abs(a.right - b.right) < 3 && a.bottom <= b.top;
		})()`, i+1, i+1, heading))
	}
	for _, dark := range []bool{false, true} {
		readable(t, ctx, dark)
	}

	// It opens in place, by the keyboard too.
	if err := chromedp.Do(ctx, chromedp.Focus("#rows li.complete > a"), chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelectorAll("#rows .complete .ladder > li").length > 7`)
	until(t, ctx, `document.querySelector("#rows .complete > a").getAttribute("aria-expanded") == "true"`)
	picture(t, ctx, "console.png", 1280, 1000, false)
	picture(t, ctx, "console-phone.png", 390, 844, true)
	uncut(t, ctx, "the console")
	until(t, ctx, `(document.querySelector("#rows .complete > a").click(), !document.querySelector("#rows .ladder"))`)

	// Paused, nothing moves; then nothing is lost.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Click("#pause")); err != nil {
		t.Fatal(err)
	}
	before, err := chromedp.Run(ctx, chromedp.Evaluate[int]("document.querySelectorAll('#rows > li').length"))
	if err != nil {
		t.Fatal(err)
	}
	curl(true, p.url)
	p.stderr.wait(t, fmt.Sprintf("#%d ", before+1))
	until(t, ctx, fmt.Sprintf("document.querySelectorAll('#rows > li').length == %d", before))
	if err := chromedp.Do(ctx, chromedp.Click("#pause"), chromedp.SetValue("[name=outcome]", "attention"), chromedp.SendKeys("[name=sni]", "NOBODY")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelectorAll("#rows > li").length == 1 && location.search.includes("sni=NOBODY")`)

	// A permalink is a page; the packets are a file that tshark reads.
	if err := chromedp.Do(ctx, chromedp.Navigate(p.admin+"/handshakes/1")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector("h1").innerText.includes("localhost") && document.querySelectorAll(".ladder > li").length > 7`)
	until(t, ctx, `document.querySelector(".ladder details").open = true`)
	picture(t, ctx, "", 390, 844, false)
	uncut(t, ctx, "a handshake")
	picture(t, ctx, "handshake.png", 1280, 1300, false)
	file := filepath.Join(t.TempDir(), "one.pcapng")
	curl(true, "-o", file, p.admin+"/handshakes/1.pcapng")
	out, err := exec.Command(need(t, "tshark"), "-r", file, "-d", "tcp.port=="+p.url[strings.LastIndex(p.url, ":")+1:]+",tls", "-V").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Handshake Protocol: Certificate Verify") {
		t.Errorf("tshark: %v\n%s", err, out)
	}
	for _, at := range []string{"/traffic", "/keys"} {
		if err := chromedp.Do(ctx, chromedp.Navigate(p.admin+at)); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, `document.querySelector("table").innerText.length > 40`)
		picture(t, ctx, "", 1280, 500, at == "/keys")
		if at == "/keys" {
			until(t, ctx, `[...document.querySelectorAll("tbody tr")].some(row => row.querySelector("th").innerText.startsWith("localhost") && row.innerText.includes("in order"))`)
		}
		picture(t, ctx, "", 390, 844, at == "/keys")
		uncut(t, ctx, at)
	}
}

// From other machines the console comes by HTTPS, and asks for a token, a certificate, or both; a foreign name gets nothing.
func TestTheAdminEndpointForOtherMachines(t *testing.T) {
	besides(t)
	ca := clientCA(t)
	dir := t.TempDir()
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	const token = "a-token-of-the-test-1234"
	said.keep("the admin token", []byte(token))
	file := filepath.Join(dir, "padlock.yaml")
	yaml := "listen: {https: ['127.0.0.1:0'], http: []}\nadmin: {address: '0.0.0.0:0', token_file: token, client_ca: " + ca.file + "}\nsites: [{hosts: [localhost]}]\n"
	for name, text := range map[string]string{file: yaml, filepath.Join(dir, "token"): token + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := command(p.home, "run", "--config", file)
	c.Dir = dir
	p.run(t, c)
	at := strings.Replace(strings.Replace(p.admin, "[::]", "127.0.0.1", 1), "0.0.0.0", "127.0.0.1", 1)
	if !strings.HasPrefix(at, "https://127.0.0.1:") {
		t.Fatalf("it is at %s", p.admin)
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(p.root(t))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	get := func(with bool, host, token string) (int, error) {
		tlsConfig := &tls.Config{RootCAs: roots}
		if with {
			tlsConfig.Certificates = []tls.Certificate{ca.client}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}, Timeout: 20 * time.Second}
		request, _ := http.NewRequest("GET", at+"/metrics", nil)
		request.Host = host
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return response.StatusCode, err
	}
	for _, c := range []struct {
		certificate bool
		host, token string
		want        int
	}{{true, "", token, 200}, {true, "", "", 401}, {true, "", token + "x", 401}, {true, "evil.example", token, 403}} {
		if got, err := get(c.certificate, c.host, c.token); got != c.want {
			t.Errorf("%+v: %d, %v", c, got, err)
		}
	}
	if code, err := get(false, "", token); err == nil {
		t.Errorf("without a certificate: %d", code)
	}
	plain, err := http.Get(strings.Replace(at, "https:", "http:", 1) + "/metrics")
	if err == nil && plain.StatusCode == 200 {
		t.Error("it answers without TLS")
	}
	if strings.Contains(p.stderr.wait(t), token) {
		t.Error("the token is in the log")
	}
}

// padlock status asks the running padlock; its exit code is what a health check needs.
func TestStatusTellsHowTheRunningPadlockIs(t *testing.T) {
	besides(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }))
	defer app.Close()
	target := strings.TrimPrefix(app.URL, "http://")
	p := start(t, target)
	if out, err := exec.Command(need(t, "curl"), "-sS", "--cacert", p.root(t), p.url).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	status := func(args ...string) (string, int) {
		c := command(p.home, append([]string{"status", "--storage", p.storage}, args...)...)
		out, _ := c.CombinedOutput()
		return string(out), c.ProcessState.ExitCode()
	}
	out, code := status()
	for _, want := range []string{"serves", "SITE", "localhost", "TARGET", target, "healthy"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if code != 0 {
		t.Error(code)
	}
	var s console.Status
	if out, _ := status("--json"); json.Unmarshal([]byte(out), &s) != nil || len(s.Sites) != 1 || s.Sites[0].Requests != 1 || s.Sites[0].Failed != 1 {
		t.Errorf("%s", out)
	}
	if out, code := status("--quiet"); out != "" || code != 0 {
		t.Errorf("%d %q", code, out)
	}
	p.stop(t)
	if out, code := status("--quiet"); code != 1 || !strings.Contains(out, "no padlock answers") {
		t.Errorf("%d %q", code, out)
	}
}

// padlock console lends the socket's console a port, for whoever has the key that it prints.
func TestTheConsoleOfASocketIsOpenedByACommand(t *testing.T) {
	besides(t)
	p := start(t)
	c := command(p.home, "console", "--storage", p.storage)
	stdout, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 200)
	n, err := stdout.Read(line)
	at, err2 := url.Parse(strings.Fields(strings.TrimPrefix(string(line[:n]), "padlock: console at "))[0])
	if err != nil || err2 != nil || at.Query().Get("key") == "" {
		t.Fatalf("%q, %v, %v", line[:n], err, err2)
	}
	for _, host := range []string{at.Host, "127.0.0.1:" + at.Port(), "localhost:" + at.Port()} {
		request, err := http.NewRequest("GET", "http://127.0.0.1:"+at.Port()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		if response, err := http.DefaultClient.Do(request); err != nil || response.StatusCode != 403 {
			t.Errorf("as %s, without the key: %v, %v", host, response, err)
		}
	}
	var told atomic.Value // cookies that another service of this machine gets
	told.Store("")
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie := r.Header.Get("Cookie"); cookie != "" {
			told.Store(cookie)
		}
		fmt.Fprintln(w, "<title>another service</title>")
	}))
	defer other.Close()
	ctx := chromium(t, p)
	if err := chromedp.Do(ctx, chromedp.Navigate(at.String())); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `location.search == "" && document.querySelector("#pulse").innerText == "live"`)
	if out, err := exec.Command(need(t, "curl"), "-sS", "--cacert", p.root(t), p.url).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	until(t, ctx, `document.querySelectorAll("#rows .complete").length == 1`)
	for _, name := range []string{"127.0.0.1", "localhost", "app.localhost"} {
		if err := chromedp.Do(ctx, chromedp.Navigate(strings.Replace(other.URL, "127.0.0.1", name, 1))); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, `document.title == "another service"`)
	}
	if told.Load() != "" {
		t.Errorf("another service gets the console's cookie: %v", told.Load())
	}
	_ = c.Process.Signal(syscall.SIGINT)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// With 1,000 handshakes a second an open console stays quick, and costs the proxy little. -console-rounds repeats the measurement; its
// figures are logged.
func TestTheConsoleUnderManyHandshakes(t *testing.T) {
	p := startBinary(t, plain, "--admin", "127.0.0.1:0", "--handshakes", "failures", "--admin-token", "0123456789abcdef")
	ctx := chromium(t, p)
	address := strings.TrimPrefix(p.url, "https://")
	handshakes := func(of time.Duration) (count int64) { return handshakeFor(t, address, 1000, of) }
	handshakes(time.Second)
	var without, with []float64
	for range *consoleRounds {
		without = append(without, cpuPer(t, p.pid, handshakes))
		if err := chromedp.Do(ctx, chromedp.Navigate(strings.Replace(p.admin, "http://", "http://any:0123456789abcdef@", 1))); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, `document.querySelector("#pulse").innerText == "live"`)
		done := make(chan struct{})
		go func() {
			defer close(done)
			with = append(with, cpuPer(t, p.pid, handshakes))
		}()
		until(t, ctx, `document.querySelector("#pulse").innerText.includes("a second")`)
		slowest := time.Duration(0)
		for range 5 {
			begun := time.Now()
			until(t, ctx, `(document.querySelector("#rows > li > a").click(), true)`)
			until(t, ctx, `document.querySelector("#rows .ladder") != null`)
			slowest = max(slowest, time.Since(begun))
			until(t, ctx, `(document.querySelectorAll("#rows .detail").forEach(d => d.remove()), true)`)
		}
		if rows, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll("#rows > li").length`)); err != nil || rows > 250 {
			t.Errorf("%d rows on the page, %v", rows, err)
		}
		<-done
		if slowest > 2*time.Second {
			t.Errorf("a handshake opened after %s", slowest)
		}
		t.Logf("the slowest of five handshakes opened after %s", slowest)
		if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(without)
	slices.Sort(with)
	t.Logf("CPU per handshake, medians of %d: %.0f µs without a console, %.0f µs with one open: %+.1f %%", len(with),
		without[len(without)/2], with[len(with)/2], 100*(with[len(with)/2]/without[len(without)/2]-1))
}

// handshakeFor makes handshakes at a rate, each with an orderly end, and counts them.
func handshakeFor(t *testing.T, address string, rate int, of time.Duration) int64 {
	t.Helper()
	var made atomic.Int64
	var workers sync.WaitGroup
	due := make(chan struct{}, rate)
	for range 16 {
		workers.Go(func() {
			for range due {
				conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}})
				if err != nil {
					continue
				}
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
				made.Add(1)
			}
		})
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(of); time.Now().Before(end); <-tick.C {
		for range rate / 200 {
			select {
			case due <- struct{}{}:
			default:
			}
		}
	}
	close(due)
	workers.Wait()
	return made.Load()
}

// cpuPer is the processor time of a process for each handshake, in microseconds.
func cpuPer(t *testing.T, pid int, handshakes func(time.Duration) int64) float64 {
	t.Helper()
	before := cpuTime(t, pid)
	count := handshakes(5 * time.Second)
	t.Logf("%d handshakes a second", count/5)
	return float64((cpuTime(t, pid) - before).Microseconds()) / float64(count)
}

func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}

// clients is a CA with one client's certificate.
type clients struct {
	file   string
	client tls.Certificate
}

func clientCA(t *testing.T) clients {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=clients of the test", "-days", "2"},
		{"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=operator"},
		{"x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-out", "cert.pem", "-days", "2"},
	} {
		c := exec.Command(need(t, "openssl"), args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return clients{filepath.Join(dir, "ca.pem"), pair}
}
