package console

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/handshake"
	"padlock/hostinfo"
)

// testRoot is a local CA's certificate, as padlock made it once.
func testRoot(t *testing.T) *hostinfo.Root {
	t.Helper()
	data, err := os.ReadFile("testdata/root.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return hostinfo.NewRoot(certificate)
}

func newTestTrust(t *testing.T, recent *handshake.Recent) *Trust {
	t.Helper()
	network := hostinfo.Network{Addresses: []hostinfo.Address{{Addr: netip.MustParseAddr("192.168.1.7"), Interface: "wlan0"}}, Name: "desk.local"}
	return NewTrust(TrustOptions{
		Root: testRoot(t), Network: func() (hostinfo.Network, error) { return network, nil }, Hosts: []string{"10.1.1.1"}, Recent: recent,
		Log: slog.New(slog.DiscardHandler),
	})
}

const (
	phone = "192.168.1.23:40000"
	other = "192.168.1.24:40000"
)

// ask asks the page; the answer is nil where it has none.
func ask(trust *Trust, from, url string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, url, nil)
	r.RemoteAddr = from
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	if !trust.AnswerHTTP(w, r, "8443") {
		return nil
	}
	return w
}

func TestTheTrustPageAnswersForThisMachineAlone(t *testing.T) {
	trust := newTestTrust(t, nil)
	for _, url := range []string{"http://192.168.1.7/", "http://192.168.1.7:8080/trust", "http://desk.local/", "http://DESK.local./", "http://10.1.1.1/"} {
		if w := ask(trust, phone, url); w == nil || w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Have your device trust it") {
			t.Errorf("%s has no page", url)
		}
	}
	for _, url := range []string{
		"http://localhost/", "http://127.0.0.1/", "http://192.168.1.8/", "http://evil.example/", "http://192.168.1.7.evil.example/", // another name or address
		"http://192.168.1.7/trust/", "http://192.168.1.7/app", "http://192.168.1.7/trust/root.pem", "http://192.168.1.7/trust/../trust/status", // another path
	} {
		if w := ask(trust, phone, url); w != nil {
			t.Errorf("%s was answered", url)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		if w := ask(trust, phone, "http://192.168.1.7/", func(r *http.Request) { r.Method = method }); w != nil {
			t.Errorf("%s was answered", method)
		}
	}
}

func TestTheTrustPageGivesAwayTheCertificateAndNothingElse(t *testing.T) {
	trust := newTestTrust(t, nil)
	want := trust.o.Root.Certificate.Raw
	der := ask(trust, phone, "http://192.168.1.7/trust/padlock-ca.crt")
	if !bytes.Equal(der.Body.Bytes(), want) || der.Header().Get("Content-Type") != "application/x-x509-ca-cert" {
		t.Errorf("the .crt is %q", der.Body)
	}
	file := ask(trust, phone, "http://192.168.1.7/trust/padlock-ca.pem")
	if block, rest := pem.Decode(file.Body.Bytes()); block == nil || !bytes.Equal(block.Bytes, want) || len(rest) > 0 {
		t.Errorf("the .pem is %q", file.Body)
	}
	profile := ask(trust, phone, "http://192.168.1.7/trust/padlock-ca.mobileconfig")
	if !strings.Contains(profile.Body.String(), base64.StdEncoding.EncodeToString(want)) || profile.Header().Get("Content-Type") != "application/x-apple-aspen-config" {
		t.Errorf("the profile is %q", profile.Body)
	}
	page := ask(trust, phone, "http://192.168.1.7/")
	for _, w := range []*httptest.ResponseRecorder{der, file, profile, page} {
		if strings.Contains(w.Body.String(), "PRIVATE KEY") || len(w.Result().Cookies()) > 0 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%v\n%s", w.Header(), w.Body)
		}
	}
	for _, line := range trust.o.Root.Lines() {
		if !strings.Contains(page.Body.String(), line) {
			t.Errorf("the fingerprint's %s is not on the page", line)
		}
	}
	if strings.Contains(page.Body.String(), "10.1.1.1") || strings.Contains(page.Body.String(), "desk.local") {
		t.Error("the page tells of this machine's other addresses and names")
	}
}

func TestAProfileKeepsItsIdentifiersAndEscapesItsNames(t *testing.T) {
	root := testRoot(t)
	first, again := newProfile(root), newProfile(root)
	if !bytes.Equal(first, again) {
		t.Error("two profiles of one certificate differ")
	}
	ids := regexp.MustCompile(`>([0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12})<`).FindAllStringSubmatch(string(first), -1)
	if len(ids) != 2 || ids[0][1] == ids[1][1] {
		t.Errorf("identifiers %v", ids)
	}
	named := *root
	named.Name = `<Bits & Pieces>`
	if text := string(newProfile(&named)); strings.Contains(text, "<Bits") || !strings.Contains(text, "&lt;Bits &amp; Pieces&gt;") {
		t.Error(text)
	}
}

// The page works under its policy only if the policy names the very texts that stand in it.
func TestThePolicyOfTheTrustPageNamesItsOwnScriptAndHTTPS(t *testing.T) {
	trust := newTestTrust(t, nil)
	page := ask(trust, phone, "http://192.168.1.7/")
	policy := page.Header().Get("Content-Security-Policy")
	for _, element := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<` + element + `>(.*)</` + element + `>`).FindStringSubmatch(page.Body.String())
		if found == nil {
			t.Fatalf("no %s in the page", element)
		}
		sum := sha256.Sum256([]byte(found[1]))
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(policy, want) {
			t.Errorf("%s is not in %s", want, policy)
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none';") || !strings.Contains(policy, "connect-src 'self' https://192.168.1.7:8443;") {
		t.Error(policy)
	}
	if regexp.MustCompile(`(src|href)="(https?:)?//`).MatchString(strings.ReplaceAll(page.Body.String(), `href="https://192.168.1.7:8443/`, "")) {
		t.Error("the page refers to somewhere else")
	}
}

// now asks for the state since a time.
func now(t *testing.T, trust *Trust, from string, since time.Time) trustState {
	t.Helper()
	w := ask(trust, from, fmt.Sprintf("http://192.168.1.7/trust/status?since=%d", since.UnixMilli()))
	var s trustState
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return s
}

func TestAClientIsToldOfItsOwnHandshakesSinceItOpenedThePage(t *testing.T) {
	recent := handshake.NewRecent(8)
	trust := newTestTrust(t, recent)
	opened := time.Now().Add(-time.Minute)
	rejected := &handshake.Failure{By: handshake.Client, Alert: 48, Cause: "the client does not trust the CA that issued our certificate"}
	recent.Handshake(&handshake.Event{ID: 1, Start: opened.Add(-time.Second), Remote: phone, Outcome: handshake.Complete})
	recent.Handshake(&handshake.Event{ID: 2, Start: opened.Add(time.Second), Remote: other, Outcome: handshake.Complete})
	recent.Handshake(&handshake.Event{ID: 3, Start: opened.Add(time.Second), Remote: phone, Outcome: handshake.NotTLS, Noise: "http", Failure: &handshake.Failure{By: handshake.Server, Alert: -1}})
	if s := now(t, trust, phone, opened); s.State != "waiting" {
		t.Errorf("before its first handshake: %+v", s)
	}
	recent.Handshake(&handshake.Event{ID: 4, Start: opened.Add(2 * time.Second), Remote: "192.168.1.23:40007", Outcome: handshake.Failed, Failure: rejected})
	if s := now(t, trust, phone, opened); s.State != "refused" || s.Detail != "The client does not trust the CA that issued our certificate." {
		t.Errorf("after it was rejected: %+v", s)
	}
	recent.Handshake(&handshake.Event{ID: 5, Start: opened.Add(3 * time.Second), Remote: "[::ffff:192.168.1.23]:40008", Outcome: handshake.Complete})
	if s := now(t, trust, phone, opened); s.State != "trusted" || !strings.Contains(s.Detail, "number 5") {
		t.Errorf("after a complete one: %+v", s)
	}
	if s := now(t, trust, "192.168.1.25:40000", opened); s.State != "waiting" {
		t.Errorf("a client without handshakes is told %+v", s)
	}
	if s := now(t, trust, other, time.Now().Add(-25*time.Hour)); s.State != "waiting" {
		t.Errorf("a page that says it was opened yesterday is told %+v", s)
	}
}

func TestADeviceThatArrivesByHTTPSTurnsItsPageGreen(t *testing.T) {
	trust := newTestTrust(t, nil) // without a record of handshakes
	opened := time.Now().Add(-time.Second)
	if html := trust.Arrived(netip.MustParseAddr("192.168.1.23"), 0, "evil.example:8443"); html != nil {
		t.Errorf("a stranger's name is answered with %s", html)
	}
	if s := now(t, trust, phone, opened); s.State != "waiting" {
		t.Fatalf("%+v", s)
	}
	html := string(trust.Arrived(netip.MustParseAddr("::ffff:192.168.1.23"), 9, "192.168.1.7:8443"))
	if !strings.Contains(html, "The handshake came through.") || !strings.Contains(html, `href="https://192.168.1.7:8443/"`) {
		t.Error(html)
	}
	if s := now(t, trust, phone, opened); s.State != "trusted" || !strings.Contains(s.Detail, "number 9") {
		t.Errorf("%+v", s)
	}
	if s := now(t, trust, other, opened); s.State != "waiting" {
		t.Errorf("another client is told %+v", s)
	}
}

func TestOnlyWhoHasThePageOpenAndHasNotArrivedWaits(t *testing.T) {
	trust := newTestTrust(t, nil)
	client := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.168.1.23:51000"))
	now(t, trust, phone, time.Now())
	if trust.Waits(client) {
		t.Error("a client that has not seen the page waits")
	}
	ask(trust, phone, "http://192.168.1.7/")
	if !trust.Waits(client) || trust.Waits(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(other))) {
		t.Error("the one that has seen it does not wait, or another one does")
	}
	if trust.visitors.waits(netip.MustParseAddr("192.168.1.23"), time.Now().Add(2*patience)) {
		t.Error("a client that has left waits")
	}
	trust.Arrived(netip.MustParseAddr("192.168.1.23"), 1, "192.168.1.7")
	if trust.Waits(client) {
		t.Error("a client that has arrived waits")
	}
}

func TestEachClientGetsItsOwnShareOfRequestsAndFewAreRemembered(t *testing.T) {
	trust := newTestTrust(t, nil)
	codes := map[int]int{}
	for range 2 * visitorBurst {
		codes[ask(trust, phone, "http://192.168.1.7/trust/status").Code]++
	}
	if codes[http.StatusTooManyRequests] < visitorBurst/2 || codes[http.StatusOK] < visitorBurst {
		t.Errorf("answers %v", codes)
	}
	if w := ask(trust, other, "http://192.168.1.7/trust/status"); w.Code != http.StatusOK {
		t.Errorf("another client is answered %d", w.Code)
	}
	for i := range 4 * maxVisitors {
		ask(trust, fmt.Sprintf("[fd00::%x]:1", i), "http://192.168.1.7/trust/status")
	}
	if n := len(trust.visitors.byAddr); n > maxVisitors {
		t.Errorf("%d are remembered", n)
	}
}

func TestTheStepsOfTheVisitorsSystemAreOpen(t *testing.T) {
	trust := newTestTrust(t, nil)
	for agent, want := range map[string]string{
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1": "ios",
		"Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                            "android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                          "chromeos",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15":                   "macos",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                         "windows",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                                   "linux",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                  "firefox",
		"curl/8.5.0": "",
	} {
		page := ask(trust, phone, "http://192.168.1.7/", func(r *http.Request) { r.Header.Set("User-Agent", agent) }).Body.String()
		var open []string
		for _, found := range regexp.MustCompile(`<details id="(\w+)" open>`).FindAllStringSubmatch(page, -1) {
			open = append(open, found[1])
		}
		if want := strings.Fields(want); !slices.Equal(open, want) {
			t.Errorf("%s: open are %v", agent, open)
		}
		if strings.Count(page, "<details id=") != 7 {
			t.Errorf("%s: not all systems are there", agent)
		}
	}
}
