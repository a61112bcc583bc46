//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// phone is a browser on the device of a network, with a store of certificates of its own.
type phone struct {
	home, database string
	ctx            context.Context
	padlock        *padlock
}

const androidAgent = "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36"

func newPhone(t *testing.T, l *lan, p *padlock) *phone {
	t.Helper()
	f := &phone{home: t.TempDir(), padlock: p}
	f.database = filepath.Join(f.home, ".pki", "nssdb")
	if err := os.MkdirAll(f.database, 0o700); err != nil {
		t.Fatal(err)
	}
	f.certutil(t, "-N", "--empty-password")
	f.ctx = chromium(t, &padlock{home: f.home}, chromedp.UserAgent(androidAgent), chromedp.ModifyCmdFunc(func(c *exec.Cmd) {
		in(l.device, c)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}))
	f.do(t, chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile))
	return f
}

func (f *phone) certutil(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(need(t, "certutil"), append(args, "-d", "sql:"+f.database)...).CombinedOutput(); err != nil {
		t.Fatalf("certutil: %v\n%s", err, out)
	}
}

func (f *phone) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	for _, a := range actions {
		if _, err := chromedp.Run(f.ctx, a); err != nil {
			t.Fatalf("%v, and padlock says\n%s", err, f.padlock.stderr.wait(t))
		}
	}
}

// text of the first element that a selector finds.
func (f *phone) text(t *testing.T, selector string) string {
	t.Helper()
	text, err := chromedp.Run(f.ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// picture keeps what the phone shows, where UPDATE_DOCS=1 asks for it.
func (f *phone) picture(t *testing.T, name string) {
	t.Helper()
	png, err := chromedp.Run(f.ctx, chromedp.CaptureScreenshot())
	if err != nil || len(png) < 10_000 {
		t.Fatalf("a picture of %d bytes, %v", len(png), err)
	}
	if os.Getenv("UPDATE_DOCS") == "1" {
		if err := os.WriteFile(filepath.Join("../docs", name), png, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// download follows a link and waits for the file.
func (f *phone) download(t *testing.T, link string) []byte {
	t.Helper()
	dir, events := t.TempDir(), true
	if _, err := chromedp.Call(f.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllowAndName, DownloadPath: dir, EventsEnabled: &events,
	}); err != nil {
		t.Fatal(err)
	}
	progress := chromedp.Events(f.ctx, cdpbrowser.DownloadProgress)
	f.do(t, chromedp.Click(chromedp.CSS(link)))
	for event, err := range progress {
		if err != nil {
			t.Fatal(err)
		}
		if event.State == cdpbrowser.DownloadProgressStateCompleted {
			data, err := os.ReadFile(filepath.Join(dir, event.GUID))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
	t.Fatal("the download never ended")
	return nil
}

// A phone that knows nothing of padlock opens the page by plain HTTP. It says that the phone does not trust the CA yet, and why. The
// certificate is downloaded there, compared and installed, and the page turns green by itself. UPDATE_DOCS=1 keeps the picture.
func TestAPhoneComesToTrustPadlock(t *testing.T) {
	l := newLAN(t)
	p := l.start(t, "--lan")
	f := newPhone(t, l, p)
	f.do(t, chromedp.Navigate("http://"+l.address+"/"), chromedp.WaitVisible(chromedp.CSS("#state.refused")))
	if text := f.text(t, "#state"); !strings.Contains(text, "Not yet trusted") || !strings.Contains(text, "does not trust the CA") {
		t.Errorf("before, the page says %q", text)
	}
	if text := f.text(t, "details[open]"); !strings.HasPrefix(text, "Android") {
		t.Errorf("the steps that are shown are %q", text)
	}
	f.picture(t, "trust-page-phone.png")
	der := f.download(t, `a[href$=".crt"]`)
	printed := strings.ReplaceAll(f.text(t, "#fingerprint"), "\n", ":")
	if got := strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(der)), " ", ":"); got != printed {
		t.Errorf("what was downloaded has the fingerprint %s, and the page says %s", got, printed)
	}
	file := filepath.Join(f.home, "padlock-ca.crt")
	if err := os.WriteFile(file, der, 0o600); err != nil {
		t.Fatal(err)
	}
	f.certutil(t, "-A", "-t", "C,,", "-n", "padlock", "-i", file)
	f.do(t, chromedp.WaitVisible(chromedp.CSS("#state.trusted")))
	if text := f.text(t, "#state"); !strings.Contains(text, "This device trusts padlock") {
		t.Errorf("afterwards, the page says %q", text)
	}
	f.picture(t, "trust-page-phone-green.png")
	f.do(t, chromedp.Click(chromedp.CSS(".links a")), chromedp.WaitVisible(chromedp.CSS(".ladder")))
	if heading := f.text(t, "h1"); heading != "This connection is secure." {
		t.Errorf("the app says %q", heading)
	}
	root, err := os.ReadFile(p.root(t))
	if block, _ := pem.Decode(root); err != nil || string(block.Bytes) != string(der) {
		t.Errorf("another certificate was downloaded than padlock trust --print has, %v", err)
	}
}
