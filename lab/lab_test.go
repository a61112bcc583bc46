package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/handshake"
)

// Each endpoint says all that a person needs, and its name can stand in a URL.
func TestTheTableIsComplete(t *testing.T) {
	names, hosts := map[string]bool{}, map[string]bool{}
	for _, e := range Endpoints() {
		if names[e.Name] || hosts[e.Hostname()] {
			t.Errorf("%s or its host is there twice", e.Name)
		}
		names[e.Name], hosts[e.Hostname()] = true, true
		if e.Wrong == "" || e.Rule == "" || e.Consequence == "" || e.Expect == "" || e.Group == "" {
			t.Errorf("%s does not say everything: %+v", e.Name, e)
		}
		if !strings.HasSuffix(e.Wrong, ".") || !strings.HasSuffix(e.Consequence, ".") {
			t.Errorf("%s: its texts are no sentences", e.Name)
		}
	}
	for _, e := range Endpoints() {
		// The controls are met by themselves.
		if e.basis != "" && (!names[e.basis] || slices.ContainsFunc(controls, func(c Endpoint) bool { return c.Name == e.basis })) {
			t.Errorf("%s is compared with %s, which does not exist or is a control", e.Name, e.basis)
		}
	}
	if len(names) < 220 {
		t.Errorf("only %d endpoints", len(names))
	}
}

// The tables of clients in docs/lab.md are of today's endpoints.
func TestTheTablesOfClientsAreOfTheseEndpoints(t *testing.T) {
	text, err := os.ReadFile("../docs/lab.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tables, _ := strings.Cut(string(text), "<!-- clients: begin -->")
	tables, _, found := strings.Cut(tables, "<!-- clients: end -->")
	const write = "to write the tables: UPDATE_DOCS=1 make test RUN=TestTheLabAgainstRealClients"
	if want := fmt.Sprintf("The tables are of all %d endpoints.", len(Endpoints())); !found || !strings.Contains(tables, want) {
		t.Errorf("no %q; %s", want, write)
	}
	rows := map[string]string{}
	for line := range strings.Lines(tables) {
		if cells := strings.Split(line, " | "); len(cells) > 10 && cells[0] != "| endpoint" {
			rows[strings.TrimPrefix(cells[0], "| ")] = cells[1]
		}
	}
	for _, e := range Endpoints() {
		if expect, ok := rows[e.Name]; ok && expect != string(e.Expect) {
			t.Errorf("%s is %q there, and %q here; %s", e.Name, expect, e.Expect, write)
		}
		delete(rows, e.Name)
	}
	if len(rows) > 0 {
		t.Errorf("there are no such endpoints: %v; %s", rows, write)
	}
}

// opened is a lab that serves until the test ends.
func opened(t *testing.T, o Options) *Lab {
	t.Helper()
	if o.Listen == nil {
		o.Listen = []string{"127.0.0.1:0"}
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l
}

// roots are a pool with the lab's root.
func roots(l *Lab) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.Root())
	return pool
}

// client is Go's, which asks once and reads the answer.
func client(l *Lab, config *tls.Config) func(context.Context, *Endpoint) error {
	return func(ctx context.Context, e *Endpoint) error {
		transport := &http.Transport{
			TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(l.Address(), l.Port()))
			},
		}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL(e), nil)
		if err != nil {
			return err
		}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
}

// patience is for a busy machine. What says nothing would cost all of it.
const patience, silent = 30 * time.Second, "silence*,one-byte-*,!silence-3"

func checked(t *testing.T, l *Lab, config *tls.Config, only string) *Report {
	t.Helper()
	report, err := l.Check(t.Context(), Check{Command: []string{"go"}, Only: only, Jobs: 8, Timeout: patience, client: client(l, config)})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed != "" {
		t.Fatalf("%s\n%s", report.Failed, report.Remedy)
	}
	return report
}

// with are the names of the endpoints with a verdict.
func with(r *Report, v Verdict) (names []string) {
	for _, result := range r.Results {
		if result.Verdict == v {
			names = append(names, result.Endpoint.Name)
		}
	}
	return names
}

func show(t *testing.T, r *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := r.Table(&b, 0, func(_ Verdict, text string) string { return text }); err != nil {
		t.Fatal(err)
	}
	t.Log(b.String())
}

// Go's own client accepts an end without close_notify, and asks for stapled responses that it does not read. All else
// that it must refuse it refuses.
func TestGoIsNearlySafe(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	report := checked(t, l, &tls.Config{RootCAs: roots(l)}, "!silence*,!one-byte-*")
	defer show(t, report)
	if unsafe := with(report, Unsafe); !slices.Equal(unsafe, []string{"staple-revoked", "truncated"}) {
		t.Errorf("unsafe: %q", unsafe)
	}
	if unclear := with(report, Unclear); len(unclear) > 0 {
		t.Errorf("unclear: %q", unclear)
	}
	if strict := with(report, TooStrict); len(strict) > 0 {
		t.Errorf("too strict: %q", strict)
	}
	// Go looks at no revocation, and takes keys of 1,024 bits.
	for _, name := range []string{"revoked-crl", "revoked-ocsp"} {
		if !slices.Contains(with(report, Weak), name) {
			t.Errorf("%s is not weak: %q", name, with(report, Weak))
		}
	}
}

// Go's client has no time limit of its own.
func TestGoWaits(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	secure := client(l, &tls.Config{RootCAs: roots(l)})
	report, err := l.Check(t.Context(), Check{Command: []string{"go"}, Only: silent, Jobs: 8, Timeout: patience, client: func(ctx context.Context, e *Endpoint) error {
		// A second stands for as long as anybody likes to wait, once the client is connected.
		if e.Group == Misbehaviour {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Second)
			defer cancel()
		}
		return secure(ctx, e)
	}})
	if err != nil || report.Failed != "" || len(report.Results) < 7 {
		t.Fatal(report, err)
	}
	for _, r := range report.Results {
		if r.Verdict != OK || r.Accepted || r.Outcome.Duration < time.Second {
			t.Errorf("%s: %s, %s", r.Endpoint.Name, r.Verdict, r.Reason)
		}
	}
}

// A client that verifies nothing is unsafe at every certificate, and only there.
func TestInsecureSkipVerifyIsUnsafe(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	report := checked(t, l, &tls.Config{InsecureSkipVerify: true}, "certificates,*signature*,*-finished")
	defer show(t, report)
	unsafe := with(report, Unsafe)
	for _, result := range report.Results {
		e := result.Endpoint
		bad := e.Group == Certificates && e.Expect == MustRefuse && result.Expected == MustRefuse
		if bad != slices.Contains(unsafe, e.Name) {
			t.Errorf("%s: %s, %s", e.Name, result.Verdict, result.Reason)
		}
	}
}

// A client that speaks old versions is unsafe there.
func TestOldVersionsAreUnsafe(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	report := checked(t, l, &tls.Config{RootCAs: roots(l), MinVersion: tls.VersionTLS10, CipherSuites: []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	}}, "tls-1.0,tls-1.1,suite-rc4")
	defer show(t, report)
	if unsafe := with(report, Unsafe); len(unsafe) != 3 {
		t.Errorf("unsafe: %q", unsafe)
	}
}

// Nothing is concluded of a client that fails the controls, and it is told why.
func TestControlsComeFirst(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	for name, c := range map[string]struct {
		client func(context.Context, *Endpoint) error
		want   string
	}{
		"untrusting": {client(l, &tls.Config{}), "refuses good.lab.localhost"},
		"absent":     {func(context.Context, *Endpoint) error { return io.EOF }, "no connection to good.lab.localhost"},
	} {
		report, err := l.Check(t.Context(), Check{Command: []string{name}, Jobs: 2, Timeout: patience, client: c.client})
		if err != nil || !strings.Contains(report.Failed, c.want) || report.Remedy == "" || len(report.Results) > 0 {
			t.Errorf("%s: %q, %q, %d results, %v", name, report.Failed, report.Remedy, len(report.Results), err)
		}
	}
}

// A client whose exit code is always 0 gets no verdict from it.
func TestAnExitCodeThatTellsNothingIsNotBelieved(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	secure := client(l, &tls.Config{RootCAs: roots(l)})
	report, err := l.Check(t.Context(), Check{Command: []string{"mute"}, Only: "truncated,alert-40,expired,wildcard", Jobs: 2, Timeout: patience, client: func(ctx context.Context, e *Endpoint) error {
		_ = secure(ctx, e)
		return nil
	}})
	if err != nil || report.Failed != "" {
		t.Fatal(report, err)
	}
	got := map[string]Verdict{}
	for _, r := range report.Results {
		got[r.Endpoint.Name] = r.Verdict
	}
	for name, want := range map[string]Verdict{"truncated": Unclear, "alert-40": Unclear, "expired": OK, "wildcard": OK} {
		if got[name] != want {
			t.Errorf("%s: %q", name, got[name])
		}
	}
}

// The page belongs to the lab's own name alone, and its script asks the endpoints for what their servers saw.
func TestThePage(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	ask := func(method, url, host string, fields ...string) (int, string) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(l)}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(l.Address(), l.Port()))
		}}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			request.Host = host
		}
		request.Header.Set("User-Agent", "browser")
		for i := 0; i < len(fields); i += 2 {
			request.Header.Set(fields[i], fields[i+1])
		}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	get := func(url, host string) (int, string) { return ask(http.MethodGet, url, host) }

	if status, body := get(l.PageURL(), ""); status != http.StatusOK || !strings.Contains(body, `data-name="wrong-host"`) || !strings.Contains(body, "Test this browser") {
		t.Errorf("%d, %.300s", status, body)
	}
	if status, _ := get(l.PageURL(), "example.com"); status != http.StatusMisdirectedRequest {
		t.Errorf("another Host gets %d", status)
	}
	if status, body := get(l.PageURL()+"root.pem", ""); status != http.StatusOK || body != string(l.Root()) {
		t.Errorf("%d, %q", status, body)
	}
	_, since := get(l.PageURL()+"now", "")
	judged := func(endpoint, outcome string) (verdict resultJSON) {
		status, body := ask(http.MethodPost, l.PageURL()+"judge?outcome="+outcome+"&endpoint="+endpoint+"&since="+strings.TrimSpace(since), "")
		if err := json.Unmarshal([]byte(body), &verdict); err != nil || status != http.StatusOK {
			t.Fatalf("%d, %s, %v", status, body, err)
		}
		return verdict
	}
	if status, body := get(l.URL(l.named("good")), ""); status != http.StatusOK || !strings.Contains(body, "end of padlock lab: good") {
		t.Errorf("%d, %q", status, body)
	}
	if verdict := judged("good", "success"); verdict.Verdict != OK || !verdict.Accepted {
		t.Errorf("%+v", verdict)
	}

	// What another client has accepted says nothing of this one.
	insecure := client(l, &tls.Config{InsecureSkipVerify: true})
	if err := insecure(t.Context(), l.named("expired")); err != nil {
		t.Fatal(err)
	}
	if verdict := judged("expired", "failure"); verdict.Verdict != Unclear {
		t.Errorf("%+v", verdict)
	}

	// Verdicts are written by the page's own script alone, and begin anew with it.
	for _, c := range []struct {
		method, path string
		fields       []string
		status       int
	}{
		{http.MethodGet, "judge", nil, http.StatusMethodNotAllowed}, {http.MethodPost, "results", nil, http.StatusMethodNotAllowed},
		{http.MethodPost, "begin", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden}, {http.MethodPost, "judge", []string{"Origin", "https://example.com"}, http.StatusForbidden},
		{http.MethodPost, "begin", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusNoContent},
	} {
		if _, body := get(l.PageURL()+"results", ""); strings.Count(body, `"verdict"`) != 2 {
			t.Errorf("before %s %s: %s", c.method, c.path, body)
		}
		if status, body := ask(c.method, l.PageURL()+c.path, "", c.fields...); status != c.status {
			t.Errorf("%s %s: %d, %s", c.method, c.path, status, body)
		}
	}
	if _, body := get(l.PageURL()+"results", ""); strings.TrimSpace(body) != "[]" {
		t.Error(body)
	}
}

// The page and a check conclude the same of what a client does: a refusal counts beside the endpoint without the fault.
func TestThePageComparesAsACheckDoes(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	old := &tls.Config{RootCAs: roots(l), MaxVersion: tls.VersionTLS12}
	report := checked(t, l, old, "wrong-key-1.2,flip-data-1.2,flip-data,flip-ticket")
	for _, r := range report.Results {
		l.browser[r.Endpoint] = judge(r.Endpoint, r.Visits, r.Outcome, calibration{})
	}
	verdicts := l.browserVerdicts()
	if len(verdicts) != len(report.Results) || len(with(report, Unclear)) != 2 {
		t.Errorf("%d verdicts, %d results, unclear: %q", len(verdicts), len(report.Results), with(report, Unclear))
	}
	for _, r := range report.Results {
		if v := verdicts[r.Endpoint.Name]; v.Verdict != r.Verdict || v.Reason != r.Reason {
			t.Errorf("%s: %s, %s on the page; %s, %s in the check", r.Endpoint.Name, v.Verdict, v.Reason, r.Verdict, r.Reason)
		}
	}

	// As long as the other endpoint has not been met, nothing is known, of one visit either.
	flip := l.named("flip-data")
	delete(l.browser, l.named(flip.basis))
	if v := l.browserVerdicts()[flip.Name]; v.Verdict != Unclear {
		t.Errorf("%+v", v)
	}
	refused, accepted := &Visit{Alert: "bad_record_mac"}, &Visit{Data: true}
	for name, want := range map[string][2]Verdict{"wrong-key-1.2": {Unclear, Unsafe}, "expired": {OK, Unsafe}, "good": {TooStrict, OK}, "revoked-crl": {OK, Weak}, "truncated": {Unclear, Unclear}, "rsa-8192": {"", ""}, "silence": {"", ""}} {
		if e := l.named(name); e.live(refused).Verdict != want[0] || e.live(accepted).Verdict != want[1] {
			t.Errorf("%s: %+v, %+v", name, e.live(refused), e.live(accepted))
		}
	}
}

// A kept root is the same after a new start, and another one is not.
func TestARootIsKept(t *testing.T) {
	dir := t.TempDir() + "/lab"
	first, second, third := opened(t, Options{Storage: dir}), opened(t, Options{Storage: dir}), opened(t, Options{})
	if !bytes.Equal(first.Root(), second.Root()) || bytes.Equal(first.Root(), third.Root()) {
		t.Error("a stored root changes, or one that is not stored does not")
	}
}

// Every form of the report can be read by what it is for.
func TestReports(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	report := checked(t, l, &tls.Config{InsecureSkipVerify: true}, "wrong-host,wildcard")
	var table, markdown, junit, text bytes.Buffer
	for _, err := range []error{report.Table(&table, 80, func(_ Verdict, s string) string { return s }), report.Markdown(&markdown), report.JUnit(&junit), report.JSON(&text)} {
		if err != nil {
			t.Error(err)
		}
	}

	for line := range strings.Lines(table.String()) {
		if strings.HasPrefix(line, "unsafe  ") && len([]rune(line)) > 81 {
			t.Errorf("a line of %d columns: %s", len([]rune(line)), line)
		}
	}
	if !strings.Contains(table.String(), "UNSAFE: the client accepts what it must refuse") || !strings.Contains(markdown.String(), "| unsafe | wrong-host | must refuse | accepts | it sent its request |") {
		t.Errorf("%s\n%s", table.String(), markdown.String())
	}
	var suite suiteXML
	if err := xml.Unmarshal(junit.Bytes(), &suite); err != nil || suite.Tests != 2 || suite.Failures != 1 || suite.Cases[0].Failure == nil {
		t.Errorf("%+v, %v", suite, err)
	}
	strict := *report
	strict.Strict, strict.Command = true, []string{"sh", "-c", "first\nsecond `third`"}
	strict.Results = append(slices.Clone(report.Results), Result{Endpoint: l.named("sha1"), Verdict: Weak}, Result{Endpoint: l.named("md5"), Verdict: Unclear})
	for want, strictly := range map[int]bool{1: false, 3: true} {
		var junit, markdown bytes.Buffer
		strict.Strict = strictly
		if err := errors.Join(strict.JUnit(&junit), strict.Markdown(&markdown)); err != nil {
			t.Fatal(err)
		}
		var suite suiteXML
		if err := xml.Unmarshal(junit.Bytes(), &suite); err != nil || suite.Failures != want || suite.Failures+suite.Skipped > 3 {
			t.Errorf("strict %v: %+v, %v", strictly, suite, err)
		}
		if first, _, _ := strings.Cut(markdown.String(), "\n"); first != "# padlock lab: `sh -c first second 'third'`" {
			t.Error(first)
		}
	}
	var parsed struct {
		Counts  map[Verdict]int
		Results []resultJSON
	}
	if err := json.Unmarshal(text.Bytes(), &parsed); err != nil || parsed.Counts[Unsafe] != 1 || len(parsed.Results) != 2 {
		t.Errorf("%s, %v", text.String(), err)
	}
}

// Patterns choose by name and group, take away, and know every number; one that stands for nothing is an error.
func TestPatternsChoose(t *testing.T) {
	for patterns, want := range map[string]string{
		"expired": "expired", "expired, wrong-key*": "expired wrong-key wrong-key-1.2", "suite-*,!*cbc*,!suite-[a3e]*": "suite-chacha20 suite-rc4 suite-unoffered",
		"alert-77,silence-12": "alert-77 silence-12", "alert-80": "alert-80", "controls,md5": "md5",
	} {
		var names []string
		chosen, err := Choose(patterns)
		for _, e := range chosen {
			names = append(names, e.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%q: %q, %v", patterns, got, err)
		}
	}
	for patterns, want := range map[string]string{
		"expired,expierd": `"expierd"`, "!expierd": `"expierd"`, "[": `"["`, ",": `""`, "alert-256": `"alert-256"`, "alert-007": `"alert-007"`, "silence-301": `"silence-301"`, "expired,!exp*": "leaves no endpoint", "good": "leaves no endpoint",
	} {
		if chosen, err := Choose(patterns); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d endpoints, %v", patterns, len(chosen), err)
		}
	}
	if all, err := Choose("!md5"); err != nil || len(all) != len(Endpoints())-len(controls)-1 {
		t.Errorf("%d endpoints, %v", len(all), err)
	}
}

// Endpoints with a number are there for any, and say what they do.
func TestNumbersInNames(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	report := checked(t, l, &tls.Config{RootCAs: roots(l)}, "alert-0,alert-49,silence-0,silence-1")
	for i, want := range []struct {
		verdict Verdict
		reason  string
		least   time.Duration
	}{{OK, "", 0}, {OK, "access denied", 0}, {OK, "sent its request", 0}, {OK, "sent its request", time.Second}} {
		r := report.Results[i]
		if r.Verdict != want.verdict || !strings.Contains(r.Reason, want.reason) || r.Outcome.Duration < want.least {
			t.Errorf("%s: %s, %s, after %s", r.Endpoint.Name, r.Verdict, r.Reason, r.Outcome.Duration)
		}
	}
}

// A client that sends no server name is known by its time, and so meets the endpoints alone.
func TestAClientWithoutAServerName(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	nameless := client(l, &tls.Config{RootCAs: roots(l), ServerName: "nobody.invalid", InsecureSkipVerify: true})
	report, err := l.Check(t.Context(), Check{Only: "expired,wrong-host,wildcard,alert-40", Jobs: 4, Timeout: patience, client: func(ctx context.Context, e *Endpoint) error {
		// An address is no server name (RFC 6066 section 3).
		direct := *e
		direct.Host = addressHost
		return nameless(ctx, &direct)
	}})
	if err != nil || !strings.Contains(report.Failed, "asked for the server name nobody.invalid") {
		t.Errorf("%+v, %v", report, err)
	}

	address := client(l, &tls.Config{InsecureSkipVerify: true})
	report, err = l.Check(t.Context(), Check{Only: "expired,wrong-host,wildcard,alert-40", Jobs: 4, Timeout: patience, client: func(ctx context.Context, e *Endpoint) error {
		direct := *e
		direct.Host = addressHost
		return address(ctx, &direct)
	}})
	if err != nil || report.Failed != "" || !slices.Equal(with(report, Unsafe), []string{"expired", "wrong-host"}) || report.Count(OK) != 2 {
		t.Errorf("%+v, %v", report, err)
	}
}

// Others can reach a lab that is not on loopback: what they do is not the client's.
func TestVisitsOfOthersAreNotTheClients(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	var ids atomic.Uint64
	secure := client(l, &tls.Config{RootCAs: roots(l)})
	report, err := l.Check(t.Context(), Check{Only: "expired,wrong-host,alpn-none", Jobs: 1, Timeout: patience, client: func(ctx context.Context, e *Endpoint) error {
		if e.Group != Controls {
			id := 1<<40 + ids.Add(1)
			hello := &tls.ClientHelloInfo{ServerName: e.Hostname()}
			visit := l.visits.begin(e, hello, id, "192.0.2.7:4711", 0)
			l.visits.update(visit, func(v *Visit) { v.Open, v.Handshake, v.Finished, v.Data, v.Served = false, true, true, true, true })
			l.visits.Handshake(&handshake.Event{ID: id})
		}
		if e.Name == "wrong-host" {
			return errors.New("this one is skipped")
		}
		return secure(ctx, e)
	}})
	if err != nil || report.Failed != "" {
		t.Fatal(report, err)
	}
	for _, r := range report.Results {
		want := OK
		if r.Endpoint.Name == "wrong-host" {
			want = Unclear
		}
		if r.Verdict != want || want == Unclear && !strings.Contains(r.Reason, "another came from 192.0.2.7") {
			t.Errorf("%s: %s, %s", r.Endpoint.Name, r.Verdict, r.Reason)
		}
		for _, v := range r.Visits {
			if strings.HasPrefix(v.Remote, "192.0.2.7") {
				t.Errorf("%s: %+v", r.Endpoint.Name, v)
			}
		}
	}
	for remote, want := range map[string]string{"127.0.0.1:1": ownSource, "[::1]:1": ownSource, "[::ffff:127.0.0.1]:1": ownSource, "192.0.2.7:1": "192.0.2.7/32", "[2001:db8:1:2::3]:1": "2001:db8:1:2::/64", "[2001:db8:1:2:ffff::4]:9": "2001:db8:1:2::/64"} {
		if got := sourceOf(remote); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}

// What sends no TLS is told so.
func TestAClientWithoutTLS(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	report, err := l.Check(t.Context(), Check{Only: "expired", Timeout: patience, client: func(ctx context.Context, _ *Endpoint) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(l.Address(), l.Port()))
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, conn)
		return err
	}})
	if err != nil || !strings.Contains(report.Failed, "sent no TLS") || !strings.Contains(report.Remedy, "https") {
		t.Errorf("%+v, %v", report, err)
	}
}

// A check that is interrupted reports what it has seen, and of the client that ran nothing.
func TestAnInterruptedCheckReportsWhatItHas(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	secure := client(l, &tls.Config{RootCAs: roots(l)})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	report, err := l.Check(ctx, Check{Only: "expired,self-signed,wrong-host", Jobs: 1, Timeout: patience, client: func(ctx context.Context, e *Endpoint) error {
		if e.Name == "self-signed" {
			interrupt()
			<-ctx.Done()
		}
		return secure(ctx, e)
	}})
	if err != nil || report.Stopped != 2 || len(report.Results) != 1 || report.Results[0].Verdict != OK || !strings.HasPrefix(report.Summary(), "interrupted, with 2 endpoints left") {
		t.Errorf("%+v, %v", report, err)
	}
}

// A client is excused by the connections on which it has gone along, not by others.
func TestExcuses(t *testing.T) {
	may, went, mayGo := Visit{Excused: "why"}, Visit{Data: true}, Visit{Excused: "why", Data: true}
	for _, c := range []struct {
		visits []Visit
		want   string
	}{{[]Visit{may}, "why"}, {[]Visit{may, went}, ""}, {[]Visit{went, may}, ""}, {[]Visit{{}, mayGo}, "why"}, {[]Visit{mayGo, went}, ""}, {[]Visit{{}, may}, ""}} {
		if got := excused(c.visits); got != c.want {
			t.Errorf("%+v: %q, not %q", c.visits, got, c.want)
		}
	}
}

// A client that does early data over TCP has it refused, and goes on: told by OpenSSL's.
func TestEarlyDataOverTCPIsRefused(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	openssl, dir := installed(t, "openssl"), t.TempDir()
	name, root, ticket, request := l.named("early-data-refused-tcp").Hostname(), dir+"/root.pem", dir+"/ticket.pem", "GET / HTTP/1.1\r\nHost: early\r\n\r\n"
	for file, text := range map[string]string{root: string(l.Root()), dir + "/request": request} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	connect := func(more ...string) string {
		args := append([]string{"s_client", "-connect", net.JoinHostPort(l.Address(), l.Port()), "-servername", name, "-verify_hostname", name, "-verify_return_error", "-CAfile", root, "-ign_eof"}, more...)
		c := exec.CommandContext(t.Context(), openssl, args...)
		c.Stdin = strings.NewReader(request)
		out, err := c.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("end of padlock lab: early-data-refused-tcp")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	connect("-sess_out", ticket)
	if out := connect("-sess_in", ticket, "-early_data", dir+"/request"); !strings.Contains(out, "Early data was rejected") {
		t.Error(out)
	}
}

// What a client may do it may also be unable to do; nothing is unclear about that.
func TestWhatAClientNeedNotOffer(t *testing.T) {
	visits := []Visit{{Unsuited: "the client does not offer HTTP/2"}}
	for expect, want := range map[Expectation]Verdict{May: OK, MustRefuse: Unclear, MustAccept: Unclear} {
		if r := judge(&Endpoint{Expect: expect}, visits, Outcome{Exit: 1}, calibration{}); r.Verdict != want || !strings.Contains(r.Reason, "HTTP/2") {
			t.Errorf("%s: %s, %s", expect, r.Verdict, r.Reason)
		}
	}
}

// A client that keeps its connection makes a visit with each request, until it is told to take another one.
func TestEachRequestIsAVisit(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	good := l.named("good")
	since := time.Now()
	conn := dialled(t, l, good)
	framer := framed(t, conn)
	for stream := uint32(1); stream < 6; stream += 2 {
		asked(t, framer, stream, good.Hostname())
		if got := answered(t, framer, "END_STREAM"); got != "HEADERS DATA END_STREAM" {
			t.Fatal(got)
		}
		if visits, _, _ := l.visits.of(good.Name, since, nil); len(visits) != 1 || !visits[0].Data || !visits[0].Finished || visits[0].Agent != fmt.Sprint("agent ", stream) {
			t.Errorf("request on stream %d: %+v", stream, visits)
		}
		since = time.Now()
	}
	if got := answered(t, framer, "GOAWAY"); got != "GOAWAY" {
		t.Error(got)
	}
	conn.Close()
	settled, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if visits := l.settle(settled, good.Name, time.Time{}, nil, nil); len(visits) != 3 || settled.Err() != nil {
		t.Errorf("%+v", visits)
	}
}

// Java's client drops an answer that it has not handed on when a GOAWAY comes, so that comes later.
func TestAGoAwayComesWellBehindTheAnswer(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	good := l.named("good")
	framer := framed(t, dialled(t, l, good))
	asked(t, framer, 1, good.Hostname())
	if got := answered(t, framer, "END_STREAM"); got != "HEADERS DATA END_STREAM" {
		t.Fatal(got)
	}
	end := time.Now()
	if got := answered(t, framer, "GOAWAY"); got != "GOAWAY" || time.Since(end) < goAwayDelay/2 {
		t.Errorf("%s after %s", got, time.Since(end))
	}
}

func dialled(t *testing.T, l *Lab, e *Endpoint) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", net.JoinHostPort(l.Address(), l.Port()), &tls.Config{RootCAs: roots(l), ServerName: e.Hostname(), NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func framed(t *testing.T, conn net.Conn) *http2.Framer {
	t.Helper()
	framer := http2.NewFramer(conn, conn)
	_, err := io.WriteString(conn, http2.ClientPreface)
	if err := errors.Join(err, framer.WriteSettings()); err != nil {
		t.Fatal(err)
	}
	return framer
}

// asked sends a request.
func asked(t *testing.T, framer *http2.Framer, stream uint32, host string) {
	t.Helper()
	var head bytes.Buffer
	// Each block stands for itself, without the table of those before.
	encoder := hpack.NewEncoder(&head)
	encoder.SetMaxDynamicTableSize(0)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", "/"}, {"user-agent", fmt.Sprint("agent ", stream)}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
}

// answered names what comes, until something has.
func answered(t *testing.T, framer *http2.Framer, until string) string {
	t.Helper()
	var names []string
	for !slices.Contains(names, until) {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(names, err)
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			names = append(names, "HEADERS")
		case *http2.DataFrame:
			if len(f.Data()) > 0 {
				names = append(names, "DATA")
			}
			if f.StreamEnded() {
				names = append(names, "END_STREAM")
			}
		case *http2.GoAwayFrame:
			names = append(names, "GOAWAY")
		}
	}
	return strings.Join(names, " ")
}
