package console_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"padlock/certs/localca"
	"padlock/console"
	"padlock/handshake"
	"padlock/traffic"
)

// Without its script the page is a list of links, and a form that chooses among them.
func TestThePageIsWholeWithoutItsScript(t *testing.T) {
	recent, trends := handshake.NewRecent(16), console.NewTrends()
	for _, e := range []*handshake.Event{
		{ID: 1, Outcome: handshake.Complete, SNI: "a.test", Version: 0x0304, Group: "X25519MLKEM768", Remote: "192.0.2.1:1"},
		{ID: 2, Outcome: handshake.Complete, SNI: "b.test", Version: 0x0303, Group: "X25519", Remote: "192.0.2.2:1", JA4: "t12d"},
		failed(3, "a.test"), failed(4, "a.test"),
		{ID: 5, Outcome: handshake.Failed, Noise: "scan", Remote: "192.0.2.9:1", Failure: &handshake.Failure{Alert: -1, Cause: "a scan"}},
	} {
		recent.Handshake(e)
		trends.Handshake(e)
	}
	url := admin(t, console.Options{Recent: recent, Trends: trends}, local)
	page := body(t, ask(t, "GET", url+"/", nil))
	for _, want := range []string{
		`href="/handshakes/1"`, `href="/handshakes/5"`, "2 times, last #4", "2 addresses", "padlock trust", "TLS 1.3 <b>50 %</b>", "X25519MLKEM768 <b>50 %</b>",
		"complete <b>2</b>", "failed <b>2</b>", "noise <b>1</b>", `aria-label="TLS 1.2 50 %, TLS 1.3 50 %"`, "<form", `aria-current="page"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	for query, want := range map[string]string{
		"outcome=attention": "34", "outcome=failures": "345", "outcome=complete": "12", "outcome=poem": "", "version=1.2": "2", "sni=A.te": "134",
		"remote=192.0.2.2": "2", "remote=t12": "2", "remote=192.0.2.&version=1.3&outcome=complete": "1",
	} {
		page, got := body(t, ask(t, "GET", url+"/?"+query, nil)), ""
		for id := range 6 {
			if strings.Contains(page, fmt.Sprintf(`id="h%d"`, id)) {
				got += fmt.Sprint(id)
			}
		}
		if got != want {
			t.Errorf("%s chooses %q, not %q", query, got, want)
		}
	}
}

func TestAHandshakeHasAnAddressOfItsOwn(t *testing.T) {
	recent := handshake.NewRecent(16)
	e := failed(7, hostile)
	e.Duration, e.Timings = 10*time.Millisecond, handshake.Timings{KeyExchange: time.Millisecond, Signing: 2 * time.Millisecond, Client: 3 * time.Millisecond}
	e.Stages = []handshake.Stage{
		{Name: "client_hello", From: handshake.Client, Size: 512, Label: handshake.Observed, Text: hostile},
		{Name: "alert", From: handshake.Client, At: 10 * time.Millisecond, Label: handshake.Observed, Text: "alert unknown_ca"},
	}
	recent.Handshake(e)
	url := admin(t, console.Options{Recent: recent}, local)
	page := body(t, ask(t, "GET", url+"/handshakes/7", nil))
	for _, want := range []string{
		"The client hung up after Finished with alert 48, unknown_ca", "no trust", "ClientHello", "512 bytes", `class="client g2 alert"`, "&lt;img",
		"key exchange 1.00 ms, signing 2.00 ms, client and network 3.00 ms, waiting for the hello, and the rest 4.00 ms",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(page, "<img") || strings.Contains(page, "<script>") {
		t.Error("a client has put an element into the page")
	}
	if part := body(t, ask(t, "GET", url+"/handshakes/7?fragment=1", nil)); strings.Contains(part, "<html") || !strings.Contains(part, "ClientHello") {
		t.Errorf("the part is\n%s", part)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(body(t, ask(t, "GET", url+"/handshakes/7.json", nil))), &got); err != nil || got["id"] != 7.0 || got["sni"] != hostile {
		t.Errorf("%v, %v", got, err)
	}
	for path, want := range map[string]int{
		"/handshakes/8": 404, "/handshakes/8.json": 404, "/handshakes/7.pcapng": 403, "/handshakes/7.exe": 404, "/handshakes/%3Cscript%3E": 404, "/handshakes/-1": 404,
	} {
		response := ask(t, "GET", url+path, nil)
		if response.StatusCode != want || strings.Contains(body(t, response), "<script>") {
			t.Errorf("%s: %d, not %d", path, response.StatusCode, want)
		}
	}
}

func TestPacketsAreGivenAwayWhereThatWasAllowed(t *testing.T) {
	recent := handshake.NewRecent(16)
	recent.Handshake(failed(7, "a.test"))
	recent.Handshake(failed(8, "a.test"))
	url := admin(t, console.Options{Recent: recent, Packets: func(id uint64) []byte {
		return map[uint64][]byte{7: []byte("packets")}[id]
	}}, local)
	if page := body(t, ask(t, "GET", url+"/handshakes/7", nil)); !strings.Contains(page, "7.pcapng") {
		t.Error("the page does not offer them")
	}
	response := ask(t, "GET", url+"/handshakes/7.pcapng", nil)
	if body(t, response) != "packets" || !strings.Contains(response.Header.Get("Content-Disposition"), "handshake-7.pcapng") {
		t.Errorf("%v", response.Header)
	}
	if code := ask(t, "GET", url+"/handshakes/8.pcapng", nil).StatusCode; code != 404 {
		t.Error(code)
	}
}

func TestCertificatesAreShownWithTheirChainAndTheirTrouble(t *testing.T) {
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Leaf("a.test")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	all := []console.Certificate{
		{Name: "a.test", Source: "file", Issuer: "x", NotAfter: &at, DER: leaf.Certificate},
		{Name: "b.test", Source: "acme", Error: "the CA " + hostile, NextTry: &at, Renewal: &at, Expiring: true},
	}
	for i := range 300 {
		all = append(all, console.Certificate{Name: fmt.Sprintf("more%d.test", i), Source: "acme", OnDemand: true})
	}
	url := admin(t, console.Options{Certificates: func() []console.Certificate { return all }}, local)
	page := body(t, ask(t, "GET", url+"/keys", nil))
	for _, want := range []string{"2027-01-02 03:04:05", ca.Root().Subject.CommonName, "a file, issued by x", "next try 03:04:05", "and 102 more", "&lt;script&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if trouble, fine := strings.Index(page, "b.test"), strings.Index(page, "a.test"); trouble > fine {
		t.Error("trouble does not stand first")
	}
	var known []console.Certificate
	if err := json.Unmarshal([]byte(body(t, ask(t, "GET", url+"/certificates", nil))), &known); err != nil || len(known) != 302 {
		t.Errorf("%d, %v", len(known), err)
	}
}

func TestTrafficIsShownBySiteAndTarget(t *testing.T) {
	var book traffic.Book
	for range 3 {
		book.Site("a.test").Request(traffic.HTTP2, 502, 20*time.Millisecond, 1, 2)
	}
	url := admin(t, console.Options{Traffic: func() traffic.Counts {
		return traffic.Counts{Sites: book.Sites(), Targets: []traffic.TargetCount{{Name: "http://127.0.0.1:1", Requests: 3, Failed: 3, Ejected: true, Healthy: true}}, Connections: 7, LogDropped: 5}
	}}, local)
	page := body(t, ask(t, "GET", url+"/traffic", nil))
	for _, want := range []string{"7 open connections", "a.test", "25 ms", "ejected", "5 dropped by the queue of access_log"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}

func TestTheConsoleSaysWhenHandshakesAreOff(t *testing.T) {
	url := admin(t, console.Options{}, local)
	for path, want := range map[string]int{"/": 200, "/live": 404, "/handshakes": 404} {
		response := ask(t, "GET", url+path, nil)
		if text := body(t, response); response.StatusCode != want || !strings.Contains(text, "not recorded") {
			t.Errorf("%s: %d %s", path, response.StatusCode, text)
		}
	}
}

// The pages of an endpoint for other machines come by TLS, and with client_ca only to who has a certificate: this is how cmd/padlock wires it.
func TestAGuardedEndpointServesThroughTLS(t *testing.T) {
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*leaf}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, console.Options{}, console.Guard{Network: "tcp", Remote: true, Token: "0123456789abcdef"}, l)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer 0123456789abcdef\r\nConnection: close\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, 15)
	if _, err := conn.Read(answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("%q, %v", answer, err)
	}
}
