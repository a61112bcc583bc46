//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"padlock/lab"
)

// startLab starts a lab and returns it with the file of its root and the URL of its page.
func startLab(t *testing.T) (p *padlock, root, page string) {
	t.Helper()
	p = &padlock{home: t.TempDir()}
	c := command(p.home, "lab", "--listen", "localhost:0")
	p.stderr = &log{more: make(chan struct{})}
	c.Stderr = p.stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil {
			t.Errorf("padlock lab ended with %v:\n%s", err, p.stderr.wait(t))
		}
	})

	text := strings.ReplaceAll(p.stderr.wait(t, "--cacert"), "\n", " ")
	root, page = regexp.MustCompile(`\S+root\.pem`).FindString(text), regexp.MustCompile(`https://lab\.localhost:\d+/`).FindString(text)
	if root == "" || page == "" {
		t.Fatalf("no root or page in:\n%s", text)
	}
	return p, root, page
}

// trustRoot puts the lab's root into a database of NSS, which belongs to one browser alone.
func trustRoot(t *testing.T, database, root string) {
	t.Helper()
	if err := os.MkdirAll(database, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(database, "cert9.db")); err != nil {
		if out, err := exec.Command(need(t, "certutil"), "-N", "--empty-password", "-d", "sql:"+database).CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v\n%s", err, out)
		}
	}
	if out, err := exec.Command(need(t, "certutil"), "-A", "-d", "sql:"+database, "-n", "lab", "-t", "C,,", "-i", root).CombinedOutput(); err != nil {
		t.Fatalf("certutil: %v\n%s", err, out)
	}
}

// pageVerdicts presses the page's button, and waits for what it concludes.
func pageVerdicts(t *testing.T, ctx context.Context, page string) *labReport {
	t.Helper()
	// The endpoints that say nothing are left after a second.
	if err := chromedp.Do(ctx, chromedp.Navigate(page+"?limit=1000"), chromedp.Click("#test")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector("#summary").dataset.done !== undefined`)
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`JSON.stringify([...document.querySelectorAll("tr[data-verdict]")].map(row => ({Endpoint: row.dataset.name, Verdict: row.dataset.verdict, Reason: row.dataset.reason})))`))
	if err != nil {
		t.Fatal(err)
	}
	r := &labReport{Counts: map[lab.Verdict]int{}}
	if err := json.Unmarshal([]byte(text), &r.Results); err != nil {
		t.Fatal(err)
	}
	for _, result := range r.Results {
		r.Counts[result.Verdict]++
	}
	return r
}

// The lab's page shows what each endpoint has seen, and tests the browser that shows it.
func TestTheLabsPageInBrowsers(t *testing.T) {
	besides(t)
	p, root, page := startLab(t)
	trustRoot(t, filepath.Join(p.home, ".pki", "nssdb"), root)
	ctx := chromium(t, p)
	report := pageVerdicts(t, ctx, page)
	picture(t, ctx, "lab.png", 1280, 900, false)
	picture(t, ctx, "", 1280, 900, true)
	picture(t, ctx, "", 390, 844, false)
	if len(report.Results) < 180 {
		t.Errorf("only %d verdicts", len(report.Results))
	}
	for _, result := range report.Results {
		for _, name := range labHeart {
			if result.Endpoint == name && result.Verdict != lab.OK {
				t.Errorf("Chromium at %s: %s, %s", name, result.Verdict, result.Reason)
			}
		}
	}
	t.Logf("%v\nunsafe: %q\nweak: %q\ntoo strict: %q\nunclear: %q", report.Counts, report.with(lab.Unsafe), report.with(lab.Weak), report.with(lab.TooStrict), report.with(lab.Unclear))
	until(t, ctx, `document.querySelector("#e-expired .seen").textContent.includes("refused")`)
}

// The names of the lab can be written into the hosts file, and taken out again.
func TestTheLabsNamesInTheHostsFile(t *testing.T) {
	besides(t)
	home := t.TempDir()
	file := filepath.Join(home, "hosts")
	if err := os.WriteFile(file, []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := command(home, "lab", "--names").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(out))
	if out, err := command(home, append([]string{"hosts", "add", "--file", file}, names...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "127.0.0.1 wrong-host.lab.localhost # padlock\n") {
		t.Errorf("%v\n%s", err, text)
	}
	if out, err := command(home, append([]string{"hosts", "remove", "--file", file}, names...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "127.0.0.1 localhost\n" {
		t.Errorf("%v\n%s", err, text)
	}
}
