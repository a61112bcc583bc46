package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"padlock/config"
	"padlock/handshake"
	"padlock/internal/otlptest"
	"padlock/tracing"
)

func newTracer(t *testing.T, cfg *config.Config) (tracer *tracing.Tracer, flush func()) {
	t.Helper()
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
	tracer, err := tracing.New(tracing.Options{
		Endpoint: cfg.Tracing.Endpoint, Sample: cfg.Tracing.Sample, Privacy: privacy(cfg), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	flush = sync.OnceFunc(func() { tracer.Close(context.Background()) })
	t.Cleanup(flush)
	return tracer, flush
}

func privacy(cfg *config.Config) handshake.Privacy {
	p := &cfg.Handshakes.Privacy
	return handshake.Privacy{TruncateAddresses: p.Addresses == "truncated", HashNames: p.Names == "hashed"}
}

const (
	theirTrace   = "0af7651916cd43dd8448eb211c80319c"
	theirSpan    = "b7ad6b7169203331"
	theirSampled = "00-" + theirTrace + "-" + theirSpan + "-01"
	theirOther   = "00-" + theirTrace + "-" + theirSpan + "-00"
)

// seen is what a target is told of traces.
type seen struct{ parent, state []string }

func traced(t *testing.T, file string, args ...any) (*edge, *otlptest.Collector, chan seen) {
	t.Helper()
	c := otlptest.Start(t)
	came := make(chan seen, 64)
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		came <- seen{r.Header.Values("traceparent"), r.Header.Values("tracestate")}
		if r.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
		_, _ = io.Copy(w, r.Body)
	})
	e := startFile(t, file, append([]any{c.URL, target}, args...)...)
	return e, c, came
}

func servers(spans []otlptest.Span) []otlptest.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s otlptest.Span) bool {
		return s.Kind != otlp.Span_SPAN_KIND_SERVER || s.Name == "TLS handshake"
	})
}

func handshakes(spans []otlptest.Span) []otlptest.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s otlptest.Span) bool { return s.Name != "TLS handshake" })
}

func below(spans []otlptest.Span, parent otlptest.Span) []otlptest.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s otlptest.Span) bool { return s.Trace != parent.Trace || s.Parent != parent.ID })
}

// Each request is the span of a server with that of a client below it, which the target is told of, and refers to its connection's
// handshake. The same over HTTP/1.1, 2 and 3.
func TestARequestIsASpanWithItsTargetsBelowIt(t *testing.T) {
	e, c, came := traced(t, "tracing: {endpoint: %q, sample: 1}\nsites: [{hosts: [localhost], routes: [{path: /, to: %q}]}]")
	clients := e.clients(t)
	clients["h3"] = e.three(t, nil)
	_, port, _ := net.SplitHostPort(e.address)
	for name, version := range map[string]string{"h1": "1.1", "h2": "2", "h3": "3"} {
		t.Run(name, func(t *testing.T) {
			path := "/missing"
			request, _ := http.NewRequest("PUT", "https://localhost"+path+"?secret=1", strings.NewReader("content"))
			request.Header.Set("User-Agent", "test/"+name)
			response, err := clients[name].Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			told := <-came
			var server, client, by otlptest.Span
			c.Wait(t, func(spans []otlptest.Span) bool {
				for _, s := range servers(spans) {
					if s.Attributes["user_agent.original"] == "test/"+name && len(s.Links) == 1 {
						server = s
					}
				}
				for _, s := range handshakes(spans) {
					if len(server.Links) == 1 && s.ID == server.Links[0].ID && s.Trace == server.Links[0].Trace {
						by = s
					}
				}
				if children := below(spans, server); server.ID != "" && len(children) == 1 {
					client = children[0]
				}
				return client.ID != "" && by.ID != ""
			})
			if server.Name != "PUT /" || server.Parent != "" || client.Name != "PUT" || client.Kind != otlp.Span_SPAN_KIND_CLIENT {
				t.Errorf("%+v\n%+v", server, client)
			}
			if want := []string{"00-" + server.Trace + "-" + client.ID + "-01"}; !slices.Equal(told.parent, want) {
				t.Errorf("the target got %q, not %q", told.parent, want)
			}
			for key, want := range map[string]any{
				"http.request.method": "PUT", "url.path": path, "url.scheme": "https", "http.response.status_code": 404, "server.address": "localhost", "server.port": number(port),
				"network.protocol.version": version, "client.address": "127.0.0.1", "network.peer.address": "127.0.0.1", "http.route": "/", "error.type": nil, "url.query": nil,
				"http.request.body.size": 7, "http.response.body.size": 7, "padlock.handshake.id": by.Attributes["padlock.handshake.id"],
			} {
				if got := server.Attributes[key]; got != want {
					t.Errorf("%s is %v, not %v", key, got, want)
				}
			}
			for key, want := range map[string]any{"http.request.method": "PUT", "http.response.status_code": 404, "error.type": "404", "http.request.resend_count": nil, "server.address": "127.0.0.1"} {
				if got := client.Attributes[key]; got != want {
					t.Errorf("of the target, %s is %v, not %v", key, got, want)
				}
			}
			if server.Failed || !client.Failed {
				t.Error("404 is an error of the client only")
			}
			if client.Start.Before(server.Start) || client.End.After(server.End) || client.End.Before(client.Start) || by.Start.After(server.Start) || len(client.Events) != 1 || !within(client, client.Events[0]) {
				t.Errorf("times: %v–%v, below it %v–%v %v, handshake %v", server.Start, server.End, client.Start, client.End, client.Events, by.Start)
			}
			if strings.Contains(fmt.Sprint(server, client), "secret") {
				t.Error("a query is told")
			}
		})
	}
	for _, span := range c.Spans() {
		if span.Resource["service.name"] != "padlock" || span.Resource["telemetry.sdk.language"] != "go" {
			t.Errorf("%v", span.Resource)
		}
	}
	soonIn(t, e, `"trace_id":"`+servers(c.Spans())[0].Trace+`"`)
}

func number(text string) (n int) {
	_, _ = fmt.Sscan(text, &n)
	return n
}

func within(s otlptest.Span, e otlptest.Event) bool {
	return !e.At.Before(s.Start) && !e.At.After(s.End)
}

// A handshake is a span with its stages as events at their times; what it agreed on are its attributes.
func TestAHandshakeIsASpanWithItsStages(t *testing.T) {
	e, c, _ := traced(t, "tracing: {endpoint: %q, sample: 1}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]")
	for name, client := range map[string]*http.Client{"tcp": e.clients(t)["h2"], "quic": e.three(t, nil)} {
		if _, err := get(client, "https://localhost/"); err != nil {
			t.Fatal(err)
		}
		var span otlptest.Span
		c.Wait(t, func(spans []otlptest.Span) bool {
			for _, s := range handshakes(spans) {
				if s.Attributes["network.transport"] == name {
					span = s
				}
			}
			return span.ID != ""
		})
		for key, want := range map[string]any{
			"padlock.handshake.outcome": "complete", "tls.protocol.name": "tls", "tls.protocol.version": "1.3", "tls.curve": "X25519MLKEM768", "tls.client.server_name": "localhost", "tls.established": true,
			"tls.resumed": false, "client.address": "127.0.0.1", "error.type": nil, "padlock.handshake.cause": nil, "tls.server.subject": "localhost",
		} {
			if got := span.Attributes[key]; got != want {
				t.Errorf("%s: %s is %v, not %v", name, key, got, want)
			}
		}
		if ja4, _ := span.Attributes["tls.client.ja4"].(string); !strings.HasPrefix(ja4, name[:1]+"13d") {
			t.Errorf("%s: ja4 %q", name, ja4)
		}
		if cipher, _ := span.Attributes["tls.cipher"].(string); !strings.HasPrefix(cipher, "TLS_") {
			t.Errorf("%s: cipher %q", name, cipher)
		}
		var stages []string
		last := span.Start
		for _, event := range span.Events {
			stages = append(stages, event.Name)
			if !within(span, event) || event.At.Before(last) || event.Attributes["label"] == nil || event.Attributes["from"] == nil {
				t.Errorf("%s: %+v in %v–%v", name, event, span.Start, span.End)
			}
			last = event.At
		}
		if want := "client_hello server_hello encrypted_extensions certificate certificate_verify finished"; !strings.HasPrefix(strings.Join(stages, " "), want) || stages[len(stages)-1] != "finished" {
			t.Errorf("%s: stages %v", name, stages)
		}
		if span.Failed || span.Parent != "" || !span.End.After(span.Start) {
			t.Errorf("%s: %+v", name, span)
		}
	}
}

func get(client *http.Client, url string) (string, error) {
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// Handshakes that somebody has to look at are told though the sample is empty, with what went wrong and what to do.
func TestAFailedHandshakeIsAlwaysASpan(t *testing.T) {
	e, c, _ := traced(t, "tracing: {endpoint: %q, sample: 0}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]")
	if _, err := get(e.clients(t)["h1"], "https://localhost/"); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", e.address); err == nil { // a port scan is nothing to look at
		conn.Close()
	}
	if conn, err := tls.Dial("tcp", e.address, &tls.Config{ServerName: "localhost"}); err == nil {
		conn.Close()
		t.Fatal("a client without the CA was content")
	}
	spans := c.Wait(t, func(spans []otlptest.Span) bool { return len(spans) > 0 })
	s := spans[0]
	if len(spans) != 1 || !s.Failed || !strings.Contains(s.Message, "could not verify our certificate") {
		t.Fatalf("%+v", spans)
	}
	for key, want := range map[string]any{
		"padlock.handshake.outcome": "failed", "error.type": "bad_certificate", "padlock.handshake.by": "client", "padlock.handshake.alert": "bad_certificate", "padlock.handshake.stage": "finished",
	} {
		if got := s.Attributes[key]; got != want {
			t.Errorf("%s is %v, not %v", key, got, want)
		}
	}
	if remedy, _ := s.Attributes["padlock.handshake.remedy"].(string); !strings.Contains(remedy, "padlock trust") {
		t.Errorf("remedy %q", remedy)
	}
	if last := s.Events[len(s.Events)-1]; last.Name != "alert" || !within(s, last) {
		t.Errorf("%+v", s.Events)
	}
}

// Each target that is tried in vain is a span with its error, beside the one that answers. Only that one's id reaches a target that is there.
func TestRetriesAreSpansOfTheirOwn(t *testing.T) {
	dead := listen(t)
	dead.Close()
	e, c, came := traced(t, "tracing: {endpoint: %q, sample: 1}\nsites: [{hosts: [localhost], routes: [{to: [%q, %q], passive_health: {failures: 1000}}]}]", dead.Addr().String())
	client := e.clients(t)["h1"]
	for range 2 { // one of them begins with the target that is not there
		if _, err := get(client, "https://localhost/"); err != nil {
			t.Fatal(err)
		}
	}
	var tries []otlptest.Span
	c.Wait(t, func(spans []otlptest.Span) bool {
		for _, s := range servers(spans) {
			if found := below(spans, s); len(found) == 2 {
				tries = found
			}
		}
		return tries != nil && len(servers(spans)) == 2
	})
	slices.SortFunc(tries, func(a, b otlptest.Span) int { return a.Start.Compare(b.Start) })
	first, second := tries[0], tries[1]
	if !first.Failed || first.Attributes["error.type"] != "connection refused: nothing listens there" || first.Attributes["http.response.status_code"] != nil || first.Attributes["http.request.resend_count"] != nil {
		t.Errorf("in vain: %+v", first)
	}
	if second.Failed || second.Attributes["http.request.resend_count"] != 1 || second.Attributes["http.response.status_code"] != 200 || first.End.After(second.Start) {
		t.Errorf("with an answer: %+v", second)
	}
	told := append((<-came).parent, (<-came).parent...)
	if !slices.Contains(told, "00-"+second.Trace+"-"+second.ID+"-01") || strings.Contains(fmt.Sprint(told), first.ID) {
		t.Errorf("the target got %q, tries were %s and %s", told, first.ID, second.ID)
	}
}

// A target that is not there at all, and one that breaks off, are errors of both spans.
func TestATargetsFailureIsTold(t *testing.T) {
	dead := listen(t)
	dead.Close()
	broken := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	e, c, _ := traced(t, "tracing: {endpoint: %q, sample: 1}\nsites: [{hosts: [localhost], routes: [{to: %q}, {path: /dead, to: %q}, {path: /broken, to: %q}]}]", dead.Addr().String(), broken)
	client := e.clients(t)["h2"]
	for path, want := range map[string]string{"/dead": "502", "/broken": "broken_off"} {
		_, _ = get(client, "https://localhost"+path)
		c.Wait(t, func(spans []otlptest.Span) bool {
			for _, s := range servers(spans) {
				tries := below(spans, s)
				if s.Attributes["url.path"] != path || len(tries) != 1 {
					continue
				}
				if !s.Failed || s.Attributes["error.type"] != want || !tries[0].Failed || s.Message == "" {
					t.Errorf("%s: %+v\n%+v", path, s, tries)
				}
				return true
			}
			return false
		})
	}
}

// Anybody's trace is gone on with. Whether it is told is ours to say, and that of proxies that are trusted.
func TestWhoseWordIsTakenOnATrace(t *testing.T) {
	const file = "tracing: {endpoint: %%q, sample: %s}\ntrusted_proxies: [%s]\nsites: [{hosts: [localhost], routes: [{to: %%q}]}]"
	for _, row := range []struct {
		name, sample, trusted, parent string
		told, same                    bool // as a span; passed on as it came
	}{
		{"a client's sampled trace is not told", "0", "10.0.0.0/8", theirSampled, false, false},
		{"a client's other trace is passed on", "0", "10.0.0.0/8", theirOther, false, true},
		{"a client's other trace is told when we say so", "1", "10.0.0.0/8", theirOther, true, false},
		{"a trusted proxy's sampled trace is told", "0", "127.0.0.1", theirSampled, true, false},
		{"a trusted proxy's other trace is not", "1", "127.0.0.1", theirOther, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			e, c, came := traced(t, fmt.Sprintf(file, row.sample, row.trusted))
			request, _ := http.NewRequest("GET", "https://localhost/", nil)
			request.Header.Set("traceparent", row.parent)
			request.Header["Tracestate"] = []string{"rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE"}
			response, err := e.clients(t)["h1"].Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			got := <-came
			if len(got.parent) != 1 || !strings.HasPrefix(got.parent[0], "00-"+theirTrace+"-") || strings.HasSuffix(got.parent[0], "-01") != row.told || (got.parent[0] == row.parent) != row.same {
				t.Errorf("the target got %q for %q", got.parent, row.parent)
			}
			if state := strings.Join(got.state, ","); strings.ReplaceAll(state, ", ", ",") != "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE" {
				t.Errorf("tracestate %q", got.state)
			}
			if !row.told {
				e.flush()
				if spans := servers(c.Spans()); len(spans) > 0 {
					t.Errorf("told: %+v", spans)
				}
				return
			}
			spans := c.Wait(t, func(spans []otlptest.Span) bool { return len(servers(spans)) == 1 })
			if s := servers(spans)[0]; s.Trace != theirTrace || s.Parent != theirSpan || s.State != "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE" {
				t.Errorf("%+v", s)
			}
		})
	}
}

// What is no traceparent is replaced together with its state, so that no target has to read it.
func TestHostileTracesAreReplaced(t *testing.T) {
	for _, sample := range []string{"0", "1"} {
		e, _, came := traced(t, "tracing: {endpoint: %q, sample: "+sample+"}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]")
		for name, client := range e.clients(t) {
			for _, parents := range [][]string{
				nil, {""}, {"x"}, {theirSampled, theirSampled}, {theirSampled + "-x"}, {"ff" + theirSampled[2:]}, {strings.ToUpper(theirSampled)}, {strings.Repeat("0", 4000)},
				{"00-" + strings.Repeat("0", 32) + "-" + theirSpan + "-01"}, {"00-\xff\xfe"}, {theirSampled + "," + theirSampled},
			} {
				request, _ := http.NewRequest("GET", "https://localhost/", nil)
				request.Header["Traceparent"], request.Header["Tracestate"] = parents, []string{"a=b"}
				response, err := client.Do(request)
				if err != nil {
					t.Fatalf("%s %q: %v", name, parents, err)
				}
				response.Body.Close()
				got := <-came
				if len(got.parent) != 1 || len(got.state) != 0 {
					t.Errorf("%s %q: the target got %q", name, parents, got)
					continue
				}
				c, ok := tracing.ParseParent(got.parent[0])
				if !ok || c.Trace.String() == theirTrace || c.Flags.IsSampled() != (sample == "1") {
					t.Errorf("%s %q: the target got %q", name, parents, got)
				}
			}
			request, _ := http.NewRequest("GET", "https://localhost/", nil)
			request.Header["Traceparent"], request.Header["Tracestate"] = []string{theirOther}, []string{"no list at all"}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := <-came; !strings.Contains(fmt.Sprint(got.parent), theirTrace) || len(got.state) != 0 {
				t.Errorf("%s: with a bad tracestate the target got %q", name, got)
			}
		}
	}
}

// What a request is judged and remembered by is what the client has sent, whatever becomes of its trace: the inspector and routes'
// conditions have its fields.
func TestATraceLeavesTheRequestAsItCame(t *testing.T) {
	for _, sample := range []float64{0, 1} {
		for _, state := range []string{"rojo=1", "no list at all"} {
			c := otlptest.Start(t)
			app := backend(t, func(http.ResponseWriter, *http.Request) {})
			e, store := inspecting(t, app, func(cfg *config.Config) {
				cfg.Tracing = config.Tracing{Endpoint: c.URL, Sample: sample}
				route := cfg.Sites[0].Routes[0]
				route.Header = map[string]string{"Traceparent": theirSampled, "Tracestate": state}
				cfg.Sites[0].Routes = append([]config.Route{route}, config.Route{Respond: &config.Respond{Status: 418}})
			})
			for name, client := range e.everyClient(t) {
				request, _ := http.NewRequest("GET", "https://localhost/"+name, nil)
				request.Header.Set("Traceparent", theirSampled)
				request.Header.Set("Tracestate", state)
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != 200 {
					t.Errorf("sample %v, %s, %q: the conditions do not hold: %s", sample, name, state, response.Status)
				}
				received := map[string]string{}
				for _, f := range ended(t, store, "/"+name).Received {
					received[strings.ToLower(f.Name)] = f.Value
				}
				if received["traceparent"] != theirSampled || received["tracestate"] != state {
					t.Errorf("sample %v, %s, %q: the inspector shows %v", sample, name, state, received)
				}
			}
		}
	}
}

// Without tracing nothing of it is ours: what a client sends is passed on, whatever it is.
func TestWithoutTracingTracesPassUnchanged(t *testing.T) {
	came := make(chan seen, 1)
	e := start(t, backend(t, func(_ http.ResponseWriter, r *http.Request) {
		came <- seen{r.Header.Values("traceparent"), r.Header.Values("tracestate")}
	}), nil)
	for name, client := range e.clients(t) {
		for _, parents := range [][]string{nil, {theirSampled}, {"x", "y"}} {
			request, _ := http.NewRequest("GET", "https://localhost/", nil)
			request.Header["Traceparent"], request.Header["Tracestate"] = parents, []string{"?"}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := <-came; !slices.Equal(got.parent, parents) || !slices.Equal(got.state, []string{"?"}) {
				t.Errorf("%s %q: the target got %q", name, parents, got)
			}
		}
	}
}

// What is kept of clients in the records of handshakes is all that spans say of them.
func TestTracesAreAsPrivateAsHandshakes(t *testing.T) {
	e, c, _ := traced(t, "tracing: {endpoint: %q, sample: 1}\nhandshakes: {privacy: {addresses: truncated, names: hashed}}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]")
	if _, err := get(e.clients(t)["h1"], "https://localhost/"); err != nil {
		t.Fatal(err)
	}
	spans := c.Wait(t, func(spans []otlptest.Span) bool { return len(servers(spans)) == 1 && len(handshakes(spans)) == 1 })
	for _, s := range append(servers(spans), handshakes(spans)...) {
		if s.Attributes["client.address"] != "127.0.0.0" || s.Attributes["network.peer.address"] != "127.0.0.0" || s.Attributes["network.peer.port"] != nil {
			t.Errorf("%s: %v", s.Name, s.Attributes)
		}
		if name, _ := s.Attributes["server.address"].(string); name != "" && !strings.HasPrefix(name, "name-") {
			t.Errorf("%s: %v", s.Name, name)
		}
	}
}

// Behind a trusted proxy, client.address is the client's, and the peer the proxy.
func TestSpansTellTheClientBehindProxies(t *testing.T) {
	e, c, _ := traced(t, "tracing: {endpoint: %q, sample: 1}\ntrusted_proxies: [127.0.0.1]\nsites: [{hosts: [localhost], routes: [{to: %q}]}]")
	request, _ := http.NewRequest("GET", "https://localhost/", nil)
	request.Header.Set("X-Forwarded-For", netip.MustParseAddr("2001:db8::1").String())
	response, err := e.clients(t)["h2"].Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	spans := c.Wait(t, func(spans []otlptest.Span) bool { return len(servers(spans)) == 1 })
	if s := servers(spans)[0]; s.Attributes["client.address"] != "2001:db8::1" || s.Attributes["network.peer.address"] != "127.0.0.1" {
		t.Errorf("%v", s.Attributes)
	}
}

// A route's own rules come last: what they take away or set, stays so.
func TestFieldRulesHaveTheLastWordOnTraces(t *testing.T) {
	e, _, came := traced(t, `tracing: {endpoint: %q, sample: 1}
sites: [{hosts: [localhost], routes: [{to: %[2]q, headers: {request: {remove: [traceparent]}}}, {path: /set, to: %[2]q, headers: {request: {set: {traceparent: mine}}}}]}]`)
	client := e.clients(t)["h1"]
	for path, want := range map[string][]string{"/": nil, "/set": {"mine"}} {
		if _, err := get(client, "https://localhost"+path); err != nil {
			t.Fatal(err)
		}
		if got := <-came; !slices.Equal(got.parent, want) {
			t.Errorf("%s: %q", path, got.parent)
		}
	}
}

// Requests that follow each other on a connection come in the same buffer; a span that is sent later still tells its own.
func TestASpanKeepsItsOwnRequest(t *testing.T) {
	e, c, _ := traced(t, "tracing: {endpoint: %q, sample: 1}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]")
	const all = 20
	for name, client := range e.clients(t) {
		for i := range all {
			request, _ := http.NewRequest([]string{"GET", "PUT"}[i%2], fmt.Sprintf("https://localhost/%s/%02d", name, i), nil)
			request.Header.Set("User-Agent", fmt.Sprintf("agent/%s/%02d", name, i))
			request.Header.Set("Traceparent", theirSampled)
			request.Header.Set("Tracestate", fmt.Sprintf("%s=%02d", name, i))
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}
	e.flush()
	spans := servers(c.Spans())
	told := map[string]bool{}
	for _, s := range spans {
		path, _ := s.Attributes["url.path"].(string)
		told[path] = true
		method := []string{"GET", "PUT"}[number(path[len(path)-1:])%2]
		if s.Attributes["user_agent.original"] != "agent"+path || s.Attributes["http.request.method"] != method || s.State != strings.ReplaceAll(path[1:], "/", "=") {
			t.Errorf("%q %q is told with %q, %q and %q", s.Attributes["http.request.method"], path, s.Attributes["user_agent.original"], s.State, s.Attributes["server.address"])
		}
	}
	if len(spans) != 2*all || len(told) != 2*all {
		t.Errorf("%d spans with %d paths, not %d", len(spans), len(told), 2*all)
	}
}
