//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// The inspector in a real browser: a webhook fails, its request is opened, the app is fixed, and the request is sent again. The pages are
// good at the width of a desk and of a phone, in light and dark, and by the keyboard; what clients send is text.
func TestTheInspectorShowsRequestsAndSendsThemAgain(t *testing.T) {
	besides(t)
	var fixed atomic.Bool
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/ws":
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			kind, text, err := c.Read(r.Context())
			if err == nil {
				_ = c.Write(r.Context(), kind, append([]byte("echo "), text...))
			}
			_ = c.Close(websocket.StatusNormalClosure, "")
		case r.URL.Path == "/hook" && !fixed.Load():
			http.Error(w, "<script>document.title = 'owned'</script>", http.StatusInternalServerError)
		default:
			text, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"path":%q,"cookie":%q,"content":%q}`, r.URL.Path, r.Header.Get("Cookie"), text)
		}
	}))
	defer app.Close()

	const token = "a-token-of-the-test-5678"
	p := start(t, strings.TrimPrefix(app.URL, "http://"), "--admin", "127.0.0.1:0", "--admin-token", token)
	root := p.root(t)
	run := func(program string, args ...string) string {
		t.Helper()
		out, err := exec.Command(need(t, program), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
		return string(out)
	}
	console := strings.Replace(p.admin, "http://", "http://x:"+token+"@", 1)
	run("curl", "-sS", "--cacert", root, p.url+"/hook?token=1", "-H", "Cookie: session=s3cret", "-H", "Content-Type: application/json", "-d", `{"event":"paid","amount":12}`)

	// The command that is copied does what the client did.
	copied := run("curl", "-sS", console+"/requests/1.curl?reveal=1")
	if out := run("sh", "-c", "curl() { command curl -sS --cacert '"+root+"' \"$@\"; }; "+copied); !strings.Contains(out, "owned") {
		t.Errorf("%s\n%s", copied, out)
	}
	if out, err := command(p.home, "watch", "--requests", "--past", "--status", "5xx").CombinedOutput(); err != nil || strings.Count(string(out), "POST") != 2 {
		t.Errorf("%v\n%s", err, out)
	}

	ctx := chromium(t, p)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(console+"/inspect")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector("#pulse").innerText == "live"`)
	run("curl", "-sS", "--cacert", root, p.url+"/live")
	until(t, ctx, `document.querySelector("#rows li").innerText.includes("/live")`)
	for i, heading := range []string{"Status", "No.", "Time", "Method", "Address", "Took", "Size", "Protocol", "Client"} {
		until(t, ctx, fmt.Sprintf(`(() => { // each stands above its column
			const a = document.querySelectorAll(".heads span")[%d].getBoundingClientRect(), b = document.querySelector("#rows li > a").children[%d].getBoundingClientRect();
			return document.querySelectorAll(".heads span")[%d].innerText == %q && Math.abs(a.left - b.left) < 3 && a.bottom <= b.top;
		})()`, i, i, i, heading))
	}

	// It opens by the keyboard; the script that the app has sent stays text.
	if err := chromedp.Do(ctx, chromedp.Focus("#r1 > a"), chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelectorAll("#r1 .waterfall li").length > 3 && !document.querySelector("#r1 script") && document.title != "owned"`)
	until(t, ctx, `document.querySelector("#r1 .detail").innerText.includes('"amount": 12') && !document.body.innerHTML.includes("s3cret")`)
	until(t, ctx, `document.querySelectorAll("#r1 tr.added").length > 3`)
	for _, dark := range []bool{false, true} {
		readable(t, ctx, dark)
	}
	picture(t, ctx, "requests.png", 1280, 1000, false)
	picture(t, ctx, "", 390, 844, true)
	uncut(t, ctx, "the inspector")

	// After the bug is fixed, the webhook is sent again with its cookie.
	fixed.Store(true)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Focus("#r1 .replay"), chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector("#r1 .told").innerText.includes(": 200 in ")`)
	until(t, ctx, `document.querySelector("#r4").innerText.includes("replay of #1")`)
	if out := run("curl", "-sS", console+"/requests/4.json?reveal=1"); !strings.Contains(out, `\"cookie\":\"session=s3cret\"`) || !strings.Contains(out, `\"amount\":12`) && !strings.Contains(out, `amount`) {
		t.Error(out)
	}

	// Edited, with what is hidden as it was.
	const edit = `(() => { const f = document.querySelector("#r1 .again"); f.closest("details").open = true; f.elements.method.value = "PUT"; f.elements.content.value = "edited"; f.requestSubmit(); return true; })()`
	until(t, ctx, edit)
	until(t, ctx, `document.querySelector("#r5")?.innerText.includes("PUT")`)
	if out := run("curl", "-sS", console+"/requests/5.json?reveal=1"); !strings.Contains(out, "session=s3cret") || !strings.Contains(out, "edited") {
		t.Error(out)
	}
	until(t, ctx, `(document.querySelector("#r1 .reveal").click(), true)`)
	until(t, ctx, `document.querySelector("#r1 .detail").innerText.includes("s3cret")`)

	// A WebSocket from the browser itself.
	if err := chromedp.Do(ctx, chromedp.Navigate(p.admin+"/requests/5")); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t)}}}
	c, _, err := websocket.Dial(t.Context(), strings.Replace(p.url, "https", "wss", 1)+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Write(t.Context(), websocket.MessageText, []byte("hello"))
	_, _, _ = c.Read(t.Context())
	_, _, _ = c.Read(t.Context())
	if err := chromedp.Do(ctx, chromedp.Navigate(p.admin+"/requests/6")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelectorAll(".messages li").length > 1 && document.querySelector(".messages").textContent.includes("echo hello")`)
	picture(t, ctx, "", 390, 844, false)
	uncut(t, ctx, "a request")
}
