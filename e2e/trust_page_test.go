//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
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
		l.device.move(t, c)
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
	shot, err := chromedp.Run(f.ctx, chromedp.CaptureScreenshot())
	if err != nil || len(shot) < 10_000 {
		t.Fatalf("a picture of %d bytes, %v", len(shot), err)
	}
	if os.Getenv("UPDATE_DOCS") == "1" {
		if err := os.WriteFile(filepath.Join("../docs", name), shot, 0o600); err != nil {
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
	besides(t)
	l := newLAN(t)
	l.app(t)
	p := l.start(t, "3000", "--lan")
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
	f.do(t, chromedp.Click(chromedp.CSS(".links a")), chromedp.WaitVisible(chromedp.CSS("h1")))
	if heading := f.text(t, "h1"); heading != "The app" {
		t.Errorf("the app says %q", heading)
	}
	root, err := os.ReadFile(p.root(t))
	if block, _ := pem.Decode(root); err != nil || string(block.Bytes) != string(der) {
		t.Errorf("another certificate was downloaded than padlock trust --print has, %v", err)
	}
}

// What an iPhone gets is a property list, of the form that Apple documents, with the very certificate in it.
func TestTheProfileIsAPropertyListWithTheCertificate(t *testing.T) {
	besides(t)
	l := newLAN(t)
	p := l.start(t, "--lan")
	read := exec.Command(need(t, "python3"), "-c", `import plistlib, sys
profile = plistlib.loads(sys.stdin.buffer.read())
assert profile["PayloadType"] == "Configuration" and profile["PayloadVersion"] == 1 and profile["PayloadRemovalDisallowed"] is False, profile
(root,) = profile["PayloadContent"]
assert root["PayloadType"] == "com.apple.security.root" and root["PayloadVersion"] == 1, root
assert len({profile["PayloadUUID"], root["PayloadUUID"]}) == len({profile["PayloadIdentifier"], root["PayloadIdentifier"]}) == 2
sys.stdout.buffer.write(root["PayloadContent"])`)
	first := l.get(t, "/trust/padlock-ca.mobileconfig")
	var complaint bytes.Buffer
	read.Stdin, read.Stderr = bytes.NewReader(first), &complaint
	der, err := read.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaint.Bytes())
	}
	root, err := os.ReadFile(p.root(t))
	if block, _ := pem.Decode(root); err != nil || !bytes.Equal(block.Bytes, der) || !bytes.Equal(l.get(t, "/trust/padlock-ca.crt"), der) {
		t.Errorf("the profile holds another certificate, %v", err)
	}
	p.stop(t)
	again := l.machine.move(t, command(p.home, "--lan"))
	(&padlock{home: p.home, storage: p.storage}).run(t, again)
	if second := l.get(t, "/trust/padlock-ca.mobileconfig"); !bytes.Equal(first, second) {
		t.Errorf("after a new start the profile is another:\n%s\nand was\n%s", second, first)
	}
}

// The code in the terminal is read by a real reader, on a dark and on a light background; where there is no terminal, there is none.
func TestTheCodeInTheTerminalLeadsToTheTrustPage(t *testing.T) {
	besides(t)
	l := newLAN(t)
	outside, inside := terminal(t)
	c := l.machine.move(t, command(t.TempDir(), "--lan"))
	c.Env = append(c.Env, "NO_COLOR=", "LC_ALL=C.UTF-8")
	c.Stdout = inside
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	inside.Close()
	shown := &log{more: make(chan struct{})}
	ended := make(chan struct{})
	go func() { // until the last writer has gone
		defer close(ended)
		_, _ = io.Copy(shown, outside)
	}()
	shown.wait(t, "other devices", "\x1b[")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	<-ended
	text := shown.wait(t)
	for name, background := range map[string]color.Gray{"dark": {0}, "light": {255}} {
		picture := filepath.Join(t.TempDir(), name+".png")
		draw(t, picture, text, background)
		out, err := exec.Command(need(t, "zbarimg"), "--quiet", "--raw", picture).Output()
		if url := strings.TrimSpace(string(out)); err != nil || url != "http://"+l.address+"/" {
			t.Errorf("%s: the code says %q, %v in\n%s", name, url, err, text)
		}
	}
	piped := &log{more: make(chan struct{})}
	c = l.machine.move(t, command(t.TempDir(), "--lan"))
	c.Env = append(c.Env, "NO_COLOR=")
	c.Stdout, c.Stderr = piped, piped
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	piped.wait(t, "other devices", "http://"+l.address)
	_ = c.Process.Signal(syscall.SIGTERM)
	_ = c.Wait()
	if text := piped.wait(t); strings.ContainsAny(text, "\x1b█▀▄") {
		t.Errorf("without a terminal padlock says\n%s", text)
	}
}

// draw makes a picture of the lines that hold the code, as a terminal shows them: a character is two squares, one above the other.
func draw(t *testing.T, file, text string, background color.Gray) {
	t.Helper()
	const square, margin = 6, 40
	var rows [][]rune
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "\x1b[38;5;16;48;5;231m"); ok { // black on white
			rows = append(rows, []rune(strings.TrimSuffix(rest, "\x1b[0m")))
		}
	}
	if len(rows) == 0 {
		t.Fatalf("no code in\n%s", text)
	}
	m := image.NewGray(image.Rect(0, 0, len(rows[0])*square+2*margin, len(rows)*2*square+2*margin))
	for i := range m.Pix {
		m.Pix[i] = background.Y
	}
	for y, row := range rows {
		for x, r := range row {
			for half, black := range [2]bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
				for i := range square * square {
					c := color.Gray{255}
					if black {
						c.Y = 0
					}
					m.SetGray(margin+x*square+i%square, margin+(2*y+half)*square+i/square, c)
				}
			}
		}
	}
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(png.Encode(f, m), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
