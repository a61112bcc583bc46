//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
)

// Chromium that trusts the local CA through padlock trust shows its padlock: its own security state is secure.
func TestChromiumReportsTheConnectionAsSecure(t *testing.T) {
	p := start(t)
	if out, _ := command(p.home, "trust").CombinedOutput(); !strings.Contains(string(out), "nssdb: trusts it") {
		t.Fatalf("trust:\n%s", out)
	}
	t.Cleanup(func() { _ = command(p.home, "untrust").Run() })
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(need(t, "chromium")), chromedp.NoSandbox, chromedp.Env("HOME="+p.home))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
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
	if heading != "This connection is secure." {
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
	firefox, certutil := need(t, "firefox-esr"), need(t, "certutil")
	need(t, "import")
	need(t, "xdotool")
	p := start(t)
	profile := filepath.Join(p.home, ".mozilla", "firefox", "e2e.default")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	preferences := `user_pref("browser.urlbar.trustPanel.featureGate", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("datareporting.policy.firstRunURL", "");
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("app.update.enabled", false);
user_pref("termsofuse.bypassNotification", true);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
`
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(preferences), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(certutil, "-N", "--empty-password", "-d", "sql:"+profile).CombinedOutput(); err != nil {
		t.Fatalf("certutil: %v\n%s", err, out)
	}
	if out, _ := command(p.home, "trust").CombinedOutput(); !strings.Contains(string(out), profile+": trusts it") {
		t.Fatalf("trust:\n%s", out)
	}
	t.Cleanup(func() { _ = command(p.home, "untrust").Run() })
	display := xvfb(t)
	browser := exec.Command(firefox, "--no-remote", "--profile", profile, "--width", "1280", "--height", "900", p.url)
	browser.Env = append(os.Environ(), "HOME="+p.home, "DISPLAY="+display, "MOZ_CRASHREPORTER_DISABLE=1")
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = browser.Process.Kill(); _ = browser.Wait() })
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	find := exec.CommandContext(ctx, "xdotool", "search", "--sync", "--onlyvisible", "--name", "Your handshake with localhost")
	find.Env = append(os.Environ(), "DISPLAY="+display)
	if out, err := find.CombinedOutput(); err != nil {
		t.Fatalf("the page's title never showed: %v\n%s\n%s", err, out, p.stderr.wait(t))
	}
	p.stderr.wait(t, "h2", "the padlock is closed")
	picture := filepath.Join(t.TempDir(), "firefox.png")
	if os.Getenv("UPDATE_DOCS") == "1" {
		picture = "../docs/padlock-in-firefox.png"
	}
	for settled, last := false, int64(-1); !settled; { // until two pictures in a row are the same size, and not blank
		shot := exec.CommandContext(ctx, "import", "-window", "root", picture)
		shot.Env = append(os.Environ(), "DISPLAY="+display)
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
