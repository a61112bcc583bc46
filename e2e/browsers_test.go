//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// trust runs padlock trust and fails if a browser's store does not trust the root afterwards. The root is taken out again at the
// end. No program but certutil is found, so that the system's store stays as it is: to write it takes seconds of a processor, and
// it is every test's. TestTrustIsVerifiedStoreByStore, TestTrustRenewReplacesTheRootEverywhere and those with sudo write one.
func (p *padlock) trust(t *testing.T, store string) {
	t.Helper()
	programs := t.TempDir()
	if err := os.Symlink(need(t, "certutil"), filepath.Join(programs, "certutil")); err != nil {
		t.Fatal(err)
	}
	run := func(name string) string {
		c := command(p.home, name, "--storage", p.storage)
		c.Env = append(c.Env, "PATH="+programs, "JAVA_HOME="+programs)
		out, _ := c.CombinedOutput() // it fails, as it cannot write the system's
		return string(out)
	}
	if out := run("trust"); !strings.Contains(out, store+": trusts it") {
		t.Fatalf("trust:\n%s", out)
	}
	t.Cleanup(func() { run("untrust") })
}

// chromiumPath is the program that starts Chromium where no container of another test changes the network for it.
func chromiumPath(t *testing.T) string {
	t.Helper()
	need(t, "chromium")
	path, err := filepath.Abs(filepath.Join("testdata", "chromium.py"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// chromium starts a browser with p's home, ready for chromedp.
func chromium(t *testing.T, p *padlock, options ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	all := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromiumPath(t)), chromedp.NoSandbox, chromedp.Env("HOME="+p.home))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(all, options...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Chromium that trusts the local CA through padlock trust shows its padlock: its own security state is secure.
func TestChromiumReportsTheConnectionAsSecure(t *testing.T) {
	besides(t)
	p := start(t)
	p.trust(t, filepath.Join(p.home, ".pki", "nssdb"))
	ctx := chromium(t, p)
	states := make(chan security.State, 16)
	err := chromedp.Listen(ctx, func(event any) {
		if change, ok := event.(*security.EventVisibleSecurityStateChanged); ok {
			select {
			case states <- change.VisibleSecurityState.SecurityState:
			default:
			}
		}
	})
	if err == nil {
		_, err = chromedp.Call(ctx, security.Enable, cdp.Empty{})
	}
	if err == nil {
		err = chromedp.Do(ctx, chromedp.Navigate(p.url))
	}
	if err != nil {
		t.Fatal(err)
	}
	heading, err := chromedp.Run(ctx, chromedp.Text("h1"))
	if err != nil {
		t.Fatal(err)
	}
	if heading != "This connection is encrypted." {
		t.Errorf("the page says %q", heading)
	}
	for state := security.State(""); state != security.StateSecure; {
		select {
		case state = <-states:
		case <-ctx.Done():
			t.Fatalf("the security state was last %q", state)
		}
	}
	p.stderr.wait(t, "X25519MLKEM768", "the padlock is closed")
}

// Firefox that trusts the local CA through padlock trust shows the classic padlock in its address bar, beside the page
// that tells this very handshake. UPDATE_DOCS=1 keeps the picture for the README.
func TestFirefoxShowsThePadlock(t *testing.T) {
	besides(t)
	need(t, "import")
	p := start(t)
	f := firefox(t, p, "")
	p.trust(t, f.profile)
	f.open(t, p.url)
	f.title(t, "Your handshake with localhost")
	p.stderr.wait(t, "h2", "the padlock is closed")
	picture := filepath.Join(t.TempDir(), "firefox.png")
	if os.Getenv("UPDATE_DOCS") == "1" {
		picture = "../docs/padlock-in-firefox.png"
	}
	for settled, last := false, int64(-1); !settled; { // until two pictures in a row are the same size, and not blank
		shot := exec.CommandContext(t.Context(), "import", "-window", "root", picture)
		shot.Env = append(os.Environ(), "DISPLAY="+f.display)
		if out, err := shot.CombinedOutput(); err != nil {
			t.Fatalf("import: %v\n%s", err, out)
		}
		info, err := os.Stat(picture)
		if err != nil {
			t.Fatal(err)
		}
		settled = info.Size() == last && last > 40_000
		last = info.Size()
	}
}

// Chromium opens a page's WebSocket on the page's own HTTP/2 connection (RFC 8441), and the app sees an ordinary upgrade.
func TestChromiumTalksToAWebSocketByHTTP2(t *testing.T) {
	besides(t)
	upgrades := make(chan string, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/chat" {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<!doctype html><h1>waiting</h1><script>
				const socket = new WebSocket("wss://" + location.host + "/chat")
				socket.onopen = () => socket.send("to and fro")
				socket.onmessage = m => document.querySelector("h1").textContent = m.data
				socket.onclose = c => document.querySelector("h1").textContent += " closed " + c.code
			</script>`)
			return
		}
		upgrades <- r.Proto + " " + r.Method + " " + r.Header.Get("Upgrade")
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		kind, data, err := conn.Read(r.Context())
		if err == nil {
			_ = conn.Write(r.Context(), kind, append([]byte("echo: "), data...))
		}
		_ = conn.Close(4000, "enough")
	}))
	defer app.Close()
	dir := t.TempDir()
	yaml := "listen: {https: ['127.0.0.1:0'], http: []}\naccess_log: {format: json, output: access.log}\n" +
		"sites: [{hosts: [localhost], routes: [{to: ['" + app.URL + "']}]}]\n"
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	p.trust(t, filepath.Join(p.home, ".pki", "nssdb"))
	ctx := chromium(t, p)
	if err := chromedp.Do(ctx, chromedp.Navigate(p.url)); err != nil {
		t.Fatal(err)
	}
	for heading := ""; heading != "echo: to and fro closed 4000"; {
		var err error
		if heading, err = chromedp.Run(ctx, chromedp.Text("h1")); err != nil {
			t.Fatalf("the page last said %q: %v", heading, err)
		}
	}
	if upgrade := <-upgrades; upgrade != "HTTP/1.1 GET websocket" {
		t.Errorf("the app saw %s", upgrade)
	}
	eventually(t, func() (string, error) {
		text, err := os.ReadFile(filepath.Join(dir, "access.log"))
		if err == nil && !regexp.MustCompile(`"status":200[^\n]*/chat|/chat[^\n]*"status":200`).Match(text) {
			err = errors.New("no HTTP/2 WebSocket is logged")
		}
		return string(text), err
	})
}

// Both browsers show an app of another language behind padlock.
func TestBrowsersShowAnAppInAnotherLanguage(t *testing.T) {
	besides(t)
	p := start(t, app(t, "node"), "--storage", t.TempDir())
	f := firefox(t, p, "")
	p.trust(t, f.profile)
	f.open(t, p.url)
	f.title(t, "An app in Node.js")
	ctx := chromium(t, p)
	if err := chromedp.Do(ctx, chromedp.Navigate(p.url)); err != nil {
		t.Fatal(err)
	}
	if title, err := chromedp.Run(ctx, chromedp.Title()); err != nil || title != "An app in Node.js" {
		t.Errorf("Chromium shows %q, %v", title, err)
	}
}

// browser is a Firefox with a profile of its own in p's home, on a display of its own.
type browser struct {
	home, profile, display string
	running                *exec.Cmd
}

// firefoxPreferences keep what is of no matter here off the screen.
const firefoxPreferences = `user_pref("browser.urlbar.trustPanel.featureGate", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("datareporting.policy.firstRunURL", "");
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("app.update.enabled", false);
user_pref("termsofuse.bypassNotification", true);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
`

// firefox prepares a profile; preferences are added to user.js.
func firefox(t *testing.T, p *padlock, preferences string) *browser {
	t.Helper()
	need(t, "firefox-esr")
	need(t, "xdotool")
	profiles := filepath.Join(p.home, ".mozilla", "firefox")
	if err := os.MkdirAll(profiles, 0o700); err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp(profiles, "e2e.")
	if err != nil {
		t.Fatal(err)
	}
	f := &browser{home: p.home, profile: profile, display: xvfb(t)}
	preferences += firefoxPreferences
	if err := os.WriteFile(filepath.Join(f.profile, "user.js"), []byte(preferences), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(need(t, "certutil"), "-N", "--empty-password", "-d", "sql:"+f.profile).CombinedOutput(); err != nil {
		t.Fatalf("certutil: %v\n%s", err, out)
	}
	return f
}

func (f *browser) open(t *testing.T, url string) {
	t.Helper()
	c := exec.Command("firefox-esr", "--no-remote", "--profile", f.profile, "--width", "1280", "--height", "900", url)
	c.Env = append(os.Environ(), "HOME="+f.home, "DISPLAY="+f.display, "MOZ_CRASHREPORTER_DISABLE=1")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
}

// title waits for a window with a title.
func (f *browser) title(t *testing.T, title string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	find := exec.CommandContext(ctx, "xdotool", "search", "--sync", "--onlyvisible", "--name", title)
	find.Env = append(os.Environ(), "DISPLAY="+f.display)
	if out, err := find.CombinedOutput(); err != nil {
		t.Fatalf("the title %q never showed: %v\n%s", title, err, out)
	}
}

// xvfb starts an X server on a display of its own choice.
func xvfb(t *testing.T) string {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	server := exec.Command(need(t, "Xvfb"), "-displayfd", "3", "-screen", "0", "1280x900x24", "-nolisten", "tcp")
	server.ExtraFiles = []*os.File{writer}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	var number int
	if _, err := fmt.Fscan(reader, &number); err != nil {
		t.Fatalf("Xvfb did not start: %v", err)
	}
	return fmt.Sprintf(":%d", number)
}
