//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// gallery is an app whose page needs many files, so that a browser opens as many connections as it likes to.
func gallery(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			w.Header().Set("Content-Type", "image/svg+xml")
			fmt.Fprint(w, `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40" fill="teal"/></svg>`)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><title>loading</title><h1>The gallery</h1>`)
		for i := range 30 {
			fmt.Fprintf(w, `<img src="/%d.svg" alt="">`, i)
		}
		fmt.Fprint(w, `<script>addEventListener("load", () => fetch("/again").then(() => document.title = "The gallery is complete"))</script>`)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// A newcomer trusts the local CA and opens the page, with a profile that the browser has just made, wherever it makes one, and with no
// option about QUIC. Events, story, metrics and console then show complete handshakes and nothing else. The short form opens the page that
// takes most connections.
func TestAFirstVisitShowsCompleteHandshakesAlone(t *testing.T) {
	besides(t)
	pages := []string{"an app"}
	if *long {
		pages = append(pages, "the built-in page")
	}
	for name, visit := range map[string]func(*testing.T, *padlock, string) *browser{"Chromium": visitByChromium, "Firefox": visitByFirefox} {
		for _, url := range pages {
			t.Run(name+"/"+url, func(t *testing.T) {
				args, title := []string{"--admin", "127.0.0.1:0"}, "Your handshake with localhost"
				if url == "an app" {
					args, title = append([]string{gallery(t)}, args...), "The gallery is complete"
				}
				p := start(t, args...)
				b := visit(t, p, title)
				shots, file := os.Getenv("SHOTS"), strings.ReplaceAll(t.Name(), "/", "-")
				if shots != "" {
					b.shoot(t, filepath.Join(shots, file+".png"))
				}
				b.leave(t)
				onlyComplete(t, p)
				if shots != "" {
					ctx := chromium(t, p)
					if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.admin)); err != nil {
						t.Fatal(err)
					}
					until(t, ctx, `document.querySelectorAll("#rows .complete").length > 0`)
					shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
					if err := errors.Join(err, os.WriteFile(filepath.Join(shots, file+"-console.png"), shot, 0o600)); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// onlyComplete waits until no connection is open, and looks at all that padlock says of handshakes.
func onlyComplete(t *testing.T, p *padlock) {
	t.Helper()
	metrics := eventually(t, func() (string, error) {
		text, err := adminText(p, "/metrics")
		if err == nil && !strings.Contains(text, "padlock_connections_open 0\n") {
			err = errors.New("connections are open")
		}
		return text, err
	})
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "padlock_handshakes_total") && !strings.Contains(line, `outcome="complete"`) && !strings.Contains(line, `outcome="unused"`) || strings.HasPrefix(line, "padlock_handshake_failures_total") {
			t.Errorf("metrics: %s", line)
		}
	}
	if strings.Count(metrics, "padlock_handshakes_total{") == 0 {
		t.Error("no handshake is counted")
	}
	events, err := adminText(p, "/handshakes?format=json")
	if err != nil {
		t.Fatal(err)
	}
	complete := 0
	for lines := bufio.NewScanner(strings.NewReader(events)); lines.Scan(); {
		var event struct {
			Outcome string
			Failure json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		if event.Outcome != "complete" && event.Outcome != "unused" || event.Failure != nil {
			t.Errorf("event: %s", lines.Text())
		}
		if event.Outcome == "complete" {
			complete++
		}
	}
	if complete == 0 {
		t.Error("no event is complete")
	}
	if console, err := adminText(p, "/"); err != nil || strings.Contains(console, "Needs attention") {
		t.Errorf("the console: %v\n%s", err, console)
	}
	if story := p.stderr.wait(t, "the padlock is closed"); strings.Contains(story, "✗") || strings.Contains(story, "hung up") {
		t.Errorf("the story:\n%s", story)
	}
}

func adminText(p *padlock, path string) (string, error) {
	response, err := http.Get(strings.TrimSuffix(p.admin, "/") + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != 200 {
		err = errors.New(response.Status)
	}
	return string(body), err
}

// visitByChromium starts a Chromium as a person would, in a window of its own.
func visitByChromium(t *testing.T, p *padlock, title string) *browser {
	t.Helper()
	data := filepath.Join(p.home, ".local", "share", "pki", "nssdb")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(need(t, "certutil"), "-N", "--empty-password", "-d", "sql:"+data).CombinedOutput(); err != nil { // as Chromium of today makes it
		t.Fatalf("certutil: %v\n%s", err, out)
	}
	p.trust(t, data)
	if _, err := os.Stat(filepath.Join(p.home, ".pki")); err == nil {
		t.Error("padlock trust has made ~/.pki, which hides the store that there was")
	}
	b := &browser{home: p.home, display: xvfb(t)}
	b.start(t, chromiumPath(t), "--no-sandbox", "--no-first-run", "--no-default-browser-check", "--password-store=basic", "--test-type", "--window-size=1280,900", "--window-position=0,0", p.url)
	b.title(t, title)
	return b
}

// visitByFirefox has Firefox make its profile where it likes.
func visitByFirefox(t *testing.T, p *padlock, title string) *browser {
	t.Helper()
	b := &browser{home: p.home, display: xvfb(t)}
	b.start(t, need(t, "firefox-esr"), "about:blank")
	eventuallyLong(t, func() error {
		found, _ := filepath.Glob(filepath.Join(p.home, ".config", "mozilla", "firefox", "*", "cert9.db"))
		if len(found) == 0 {
			return errors.New("Firefox makes no profile in ~/.config/mozilla/firefox")
		}
		b.profile = filepath.Dir(found[0])
		return nil
	})
	b.leave(t)
	if err := os.WriteFile(filepath.Join(b.profile, "user.js"), []byte(firefoxPreferences), 0o600); err != nil {
		t.Fatal(err)
	}
	p.trust(t, b.profile)
	b.start(t, need(t, "firefox-esr"), "--width", "1280", "--height", "900", p.url)
	b.title(t, title)
	return b
}

// eventuallyLong is eventually for what a browser does on a busy machine.
func eventuallyLong(t *testing.T, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// start runs a browser in a process group of its own.
func (f *browser) start(t *testing.T, program string, args ...string) {
	t.Helper()
	c := exec.Command(program, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Stderr = &bytes.Buffer{}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "XDG_") {
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(c.Env, "HOME="+f.home, "DISPLAY="+f.display, "MOZ_CRASHREPORTER_DISABLE=1")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	f.running = c
	t.Cleanup(func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL); _ = c.Wait() })
}

// leave ends the browser, which closes its connections.
func (f *browser) leave(t *testing.T) {
	t.Helper()
	_ = f.running.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = f.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("the browser does not end")
	}
	_ = syscall.Kill(-f.running.Process.Pid, syscall.SIGKILL) // what it may have left
}

// shoot takes a picture of the screen.
func (f *browser) shoot(t *testing.T, file string) {
	t.Helper()
	c := exec.Command(need(t, "import"), "-window", "root", file)
	c.Env = append(os.Environ(), "DISPLAY="+f.display)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("import: %v\n%s", err, out)
	}
}
