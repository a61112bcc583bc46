//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

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

// pageResults waits until the page has a verdict for every endpoint, and returns them.
func pageResults(t *testing.T, root, page string) *labReport {
	t.Helper()
	address := strings.TrimSuffix(strings.TrimPrefix(page, "https://lab.localhost:"), "/")
	text := eventuallyFor(t, 5*time.Minute, func() (string, error) {
		out, err := exec.Command(need(t, "curl"), "-sS", "--cacert", root, "--resolve", "lab.localhost:"+address+":127.0.0.1", page+"results").Output()
		if n := strings.Count(string(out), `"verdict"`); err == nil && n < len(lab.Endpoints()) {
			err = fmt.Errorf("%d verdicts", n)
		}
		return string(out), err
	})

	r := &labReport{Counts: map[lab.Verdict]int{}}
	if err := json.Unmarshal([]byte(text), &r.Results); err != nil {
		t.Fatal(err)
	}
	r.Results = slices.DeleteFunc(r.Results, func(result labResult) bool { return result.Group == lab.Controls })
	for _, result := range r.Results {
		r.Counts[result.Verdict]++
	}
	return r
}

// eventuallyFor is eventually for what takes minutes on a busy machine.
func eventuallyFor(t *testing.T, limit time.Duration, try func() (string, error)) string {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Second) { // each look starts a program
		out, err := try()
		if err == nil {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// sound fails where a browser does not refuse what is at the heart of TLS.
func (r *labReport) sound(t *testing.T, client string) {
	t.Helper()
	for _, result := range r.Results {
		if slices.Contains(labHeart, result.Endpoint) && result.Verdict != lab.OK {
			t.Errorf("%s at %s: %s, %s", client, result.Endpoint, result.Verdict, result.Reason)
		}
	}
	t.Logf("%s: %v\nunsafe: %q\nweak: %q\ntoo strict: %q\nunclear: %q", client, r.Counts, r.with(lab.Unsafe), r.with(lab.Weak), r.with(lab.TooStrict), r.with(lab.Unclear))
}

// The lab's page shows what each endpoint has seen, and tests the browser that shows it.
func TestTheLabsPageInBrowsers(t *testing.T) {
	besides(t)
	p, root, page := startLab(t)
	trustRoot(t, filepath.Join(p.home, ".pki", "nssdb"), root)
	ctx := chromium(t, p)
	// The endpoints that say nothing are left after a second.
	if err := chromedp.Do(ctx, chromedp.Navigate(page+"?limit=1000"), chromedp.Click("#test")); err != nil {
		t.Fatal(err)
	}
	pageResults(t, root, page).sound(t, "Chromium")
	until(t, ctx, `document.querySelector("#e-expired .seen").textContent.includes("refused") && document.querySelector("#summary").dataset.done == "yes"`)
	// A story opens by the keyboard, over the width of the table.
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`(document.querySelector("#e-expired .story summary").focus(), true)`)); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `(pre => pre.textContent.includes("ClientHello") && pre.clientWidth > 0.9 * document.querySelector("#e-expired").clientWidth)(document.querySelector("#e-expired .story pre"))`)
	picture(t, ctx, "", 1280, 900, false)
	picture(t, ctx, "", 1280, 900, true)
	picture(t, ctx, "", 390, 844, false)
}

// firefoxReport is what the page concludes of Firefox.
func firefoxReport(t *testing.T) *labReport {
	t.Helper()
	p, root, page := startLab(t)
	f := firefox(t, p, "")
	trustRoot(t, f.profile, root)
	f.open(t, page+"?run&limit=3000")
	return pageResults(t, root, page)
}

// chromiumReport is what the page concludes of Chromium.
func chromiumReport(t *testing.T) *labReport {
	t.Helper()
	p, root, page := startLab(t)
	trustRoot(t, filepath.Join(p.home, ".pki", "nssdb"), root)
	c := exec.Command(chromiumPath(t), "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+filepath.Join(p.home, "chromium"), "--remote-debugging-port=0", page+"?run&limit=3000")
	c.Env = append(os.Environ(), "HOME="+p.home)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	}()
	return pageResults(t, root, page)
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
