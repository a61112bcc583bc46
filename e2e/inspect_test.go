//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/coder/websocket"
)

// inspected is a padlock that remembers the requests of an app, whose webhook fails until it is fixed.
type inspected struct {
	*padlock
	fixed         atomic.Bool
	console, root string // the console's address, with its token
	run           func(program string, args ...string) string
}

func startInspected(t *testing.T) *inspected {
	t.Helper()
	i := &inspected{}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/ws":
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1})
			for err == nil {
				var kind websocket.MessageType
				var text []byte
				if kind, text, err = c.Read(r.Context()); err == nil {
					err = c.Write(r.Context(), kind, append([]byte("echo "), text...))
				}
			}
		case r.URL.Path == "/hook" && !i.fixed.Load():
			http.Error(w, "<script>document.title = 'owned'</script>", http.StatusInternalServerError)
		default:
			text, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"path":%q,"cookie":%q,"at":%q,"content":%q}`, r.URL.RequestURI(), r.Header.Get("Cookie"), r.Header.Get("X-At"), text)
		}
	}))
	t.Cleanup(app.Close)

	const token = "a-token-of-the-test-5678"
	i.padlock = start(t, strings.TrimPrefix(app.URL, "http://"), "--admin", "127.0.0.1:0", "--admin-token", token)
	i.root, i.console = i.padlock.root(t), strings.Replace(i.admin, "http://", "http://x:"+token+"@", 1)
	i.run = func(program string, args ...string) string {
		t.Helper()
		out, err := exec.Command(need(t, program), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
		return string(out)
	}
	return i
}

// The inspector in a real browser: a webhook fails, its request is opened, the app is fixed, and the request is sent again. The pages are
// good at the width of a desk and of a phone, in light and dark, and by the keyboard; what clients send is text.
func TestTheInspectorShowsRequestsAndSendsThemAgain(t *testing.T) {
	besides(t)
	i := startInspected(t)
	p, console, root, run := i.padlock, i.console, i.root, i.run
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
	for i, heading := range []string{"Status", "No.", "Time", "Method", "Address", "Took", "Size", "Protocol", "Client", "Handshake"} {
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
	i.fixed.Store(true)
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

}

// What is copied sends the same, whatever it is copied as, and others' programs read the archive.
func TestCopiedRequestsSendTheSame(t *testing.T) {
	besides(t)
	i := startInspected(t)
	p, console, root, run := i.padlock, i.console, i.root, i.run
	run("curl", "-sS", "--cacert", root, p.url+"/echo?a=its&b=%20", "-H", "Cookie: session=s3cret", "-H", "X-At: @/etc/hostname", "--data-binary", "it's \"$HOME\" \x1b[H `id`\n{\"é\": 1}")
	same := run("curl", "-sS", console+"/requests/1/content/out?reveal=1")
	for format, with := range map[string]string{
		"curl":   `curl() { command curl -sS --cacert "$ROOT" "$@"; }; eval "$COPIED"`,
		"httpie": `http() { command http --verify "$ROOT" --body --pretty none "$@"; }; eval "$COPIED"`,
		"fetch":  `node --input-type=module -e "const r = $COPIED process.stdout.write(await r.text());"`,
		"python": `python3 -c "$(printf '%s' "$COPIED" | sed 's/print(.*)$/sys.stdout.buffer.write(response.read())/; 1s/^/import sys\n/')"`,
	} {
		need(t, map[string]string{"curl": "curl", "httpie": "http", "fetch": "node", "python": "python3"}[format])
		c := exec.Command("sh", "-c", with)
		c.Env = append(os.Environ(), "COPIED="+run("curl", "-sS", console+"/requests/1."+format+"?reveal=1"), "ROOT="+root, "NODE_EXTRA_CA_CERTS="+root, "SSL_CERT_FILE="+root)
		if out, err := c.CombinedOutput(); err != nil || string(out) != same {
			t.Errorf("%s: %v\n%s\nis not\n%s", format, err, out, same)
		}
	}

	// A reader of HAR that others have written opens the archive.
	read := exec.Command(need(t, "node"), "-e", `require("har-validator").har(JSON.parse(require("fs").readFileSync(0))).then((har) => console.log(har.log.entries.length + " entries"), (e) => { console.error(JSON.stringify(e.errors)); process.exit(1); })`)
	read.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs")
	read.Stdin = strings.NewReader(run("curl", "-sS", console+"/requests.har"))
	if out, err := read.CombinedOutput(); err != nil || string(out) != "5 entries\n" {
		t.Errorf("%v\n%s", err, out)
	}

}

// What passes is shown as it passes, and however much it is, the page stays of one size.
func TestTheInspectorFollowsWhatPasses(t *testing.T) {
	besides(t)
	i := startInspected(t)
	p, console := i.padlock, i.console
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t)}}}
	c, _, err := websocket.Dial(t.Context(), strings.Replace(p.url, "https", "wss", 1)+"/ws", &websocket.DialOptions{HTTPClient: client, CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx := chromium(t, p)
	// The address with the token is the first: the browser has it for what follows.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(console+"/requests/1")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector(".following")?.innerText == "live"`)
	for n := range 3 {
		if err := c.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `<b>{"number": %d}</b>`, n)); err != nil {
			t.Fatal(err)
		}
		_, _, _ = c.Read(t.Context())
	}
	until(t, ctx, `document.querySelectorAll(".messages li.server").length == 3 && document.querySelector(".messages").textContent.includes('echo <b>{"number": 2}</b>') && !document.querySelector(".messages li summary .first b")`)
	_ = c.Close(websocket.StatusNormalClosure, "bye")
	until(t, ctx, `document.querySelector(".following").innerText == "ended" && document.querySelector(".messages").textContent.includes("close 1000")`)
	picture(t, ctx, "", 390, 844, false)
	uncut(t, ctx, "a request")

	i.run("curl", "-sS", "--cacert", i.root, p.url+"/first")
	// However many come, the page has so many rows, and the one that is open stays.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.admin+"/inspect"), chromedp.Focus("#r2 > a"), chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `!!document.querySelector("#r2 .detail") && document.querySelector("#pulse").innerText == "live"`)
	for n := range 240 {
		response, err := client.Get(fmt.Sprintf("%s/many/%d", p.url, n))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	until(t, ctx, `document.querySelector("#rows li").innerText.includes("/many/239") && document.querySelectorAll("#rows > li").length <= 200 && !!document.querySelector("#r2 .detail")`)
	for _, step := range []struct{ key, want string }{
		{kb.Home, `document.activeElement.innerText.includes("/many/239")`}, {kb.ArrowDown, `document.activeElement.innerText.includes("/many/238")`},
		{"\r", `document.activeElement.closest("li").querySelector(".detail")`}, {kb.Escape, `document.activeElement.innerText.includes("/many/238") && !document.activeElement.closest("li").querySelector(".detail")`},
	} {
		if err := chromedp.Do(ctx, chromedp.KeyEvent(step.key)); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, "!!("+step.want+")")
	}
}

// The page of all traffic in a real browser: pictures of the last hour, durations at the press of a key, good at the width of a desk and of a
// phone, in light and dark.
func TestTheTrafficPageHasPictures(t *testing.T) {
	besides(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fails":
			w.WriteHeader(http.StatusBadGateway)
		case "/missing":
			http.NotFound(w, r)
		}
	}))
	defer app.Close()
	p := start(t, strings.TrimPrefix(app.URL, "http://"), "--admin", "127.0.0.1:0")
	ctx := chromium(t, p)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.admin+"/traffic")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector(".strip").innerText.split("nothing yet").length == 4 && document.querySelectorAll(".spark").length == 0`)

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t)}}}
	for i := range 30 {
		response, err := client.Get(p.url + []string{"/", "/", "/missing", "/fails"}[i%4])
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	until(t, ctx, `(document.hidden || document.querySelector(".strip").innerText.includes("answered 16")) && /4xx 7\s+failed 7/.test(document.querySelector(".strip").innerText)`)
	if err := chromedp.Do(ctx, chromedp.Navigate(p.admin+"/traffic")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `[...document.querySelectorAll("tbody tr")].every(r => /30/.test(r.innerText) && r.querySelectorAll(".spark").length == 2)`)

	// A row opens by the keyboard to its durations, which add up.
	if err := chromedp.Do(ctx, chromedp.Focus("[aria-label=Sites] a.opens"), chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector("[aria-label=Sites] a.opens").getAttribute("aria-expanded") == "true"`)
	until(t, ctx, `[...document.querySelectorAll("[aria-label=Sites] .histogram li b")].reduce((sum, b) => sum + (parseInt(b.innerText) || 0), 0) == 30`)
	until(t, ctx, `[...document.querySelectorAll("[aria-label=Sites] .histogram li span")].every(s => /^[≤>] [\d.]+ m?s$|%$|hour$|^$/.test(s.innerText))`)
	for _, dark := range []bool{false, true} {
		readable(t, ctx, dark)
	}
	picture(t, ctx, "traffic.png", 1280, 1000, false)
	picture(t, ctx, "", 390, 844, true)
	uncut(t, ctx, "the traffic")

	// What comes meanwhile is shown in its place: the row stays open, and keeps the focus.
	response, err := client.Get(p.url)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	until(t, ctx, `document.querySelector("[aria-label=Sites] tr[id] [data-label=Requests]").innerText == "31" && document.activeElement.matches("[aria-label=Sites] a.opens") && !!document.querySelector("[aria-label=Sites] .histogram")`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `!document.querySelector(".opened")`)
}
