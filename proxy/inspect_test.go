package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/inspect"
	"padlock/proxy"
)

// inspecting is an edge that remembers its requests.
func inspecting(t *testing.T, target string, change func(*config.Config)) (*edge, *inspect.Store) {
	store := inspect.NewStore(64 << 20)
	e := startWith(t, target, func(c *config.Config) {
		c.Sites[0].Inspect = &config.Inspect{Requests: 50, Body: 1 << 10}
		if change != nil {
			change(c)
		}
	}, func(_ *localca.CA, d *proxy.Dependencies) { d.Inspect = store })
	return e, store
}

// ended waits for the newest request, which ends after its client has got everything.
func ended(t *testing.T, s *inspect.Store, target string) *inspect.Request {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, r := range s.Recent() {
			if r.Done && r.Target == target {
				return s.Find(r.ID)
			}
		}
	}
	t.Fatalf("%s is not remembered", target)
	return nil
}

func TestARequestIsRememberedAsItCameAndAsItWentOn(t *testing.T) {
	e, store := inspecting(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Powered-By", "test")
		fmt.Fprintf(w, "%s of %d", r.URL.Path, len(text))
	}), func(c *config.Config) {
		r := &c.Sites[0].Routes[0]
		r.Path, r.StripPrefix = "/api", true
		r.Fields.Request.Set = config.FieldValues{{Name: "X-Set", Value: "by padlock"}}
		r.Fields.Response.Remove = []string{"X-Powered-By"}
	})
	for name, client := range e.everyClient(t) {
		content := strings.Repeat("x", 3000)
		response, err := client.Post("https://localhost/api/"+name+"?q=1", "text/plain", strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()

		r := ended(t, store, "/api/"+name+"?q=1")
		if string(text) != "/"+name+" of 3000" || string(r.Out.Data) != string(text) || r.Status != 200 || r.TargetStatus != 200 {
			t.Errorf("%s: %q, %+v", name, text, r)
		}
		if r.In.Size != 3000 || !r.In.Cut || string(r.In.Data) != content[:1024] {
			t.Errorf("%s: content of %d, %d kept", name, r.In.Size, len(r.In.Data))
		}
		changes := map[string]string{}
		for _, c := range append(inspect.Diff(r.Received, r.Sent), inspect.Diff(r.Answered, r.Response)...) {
			changes[c.Name] = c.Kind
		}
		if changes["X-Set"] != "added" || changes["X-Powered-By"] != "removed" || r.SentTarget != "/"+name+"?q=1" {
			t.Errorf("%s: %v, %s", name, changes, r.SentTarget)
		}
		if want := map[string]string{"h1": "HTTP/1.1", "h2": "HTTP/2.0", "h3": "HTTP/3.0"}[name]; r.Proto != want {
			t.Errorf("%s: %s", name, r.Proto)
		}
		if len(r.Tries) != 1 || r.Tries[0].Status != 200 || r.FirstByte == 0 || r.Duration < r.FirstByte || r.Handshake == 0 || r.Proto != response.Proto {
			t.Errorf("%s: %+v", name, r)
		}
	}

	// What padlock answers itself is remembered too, and what no site has is not.
	client := e.clients(t)["h1"]
	if response, err := client.Get("https://localhost/other"); err != nil || response.StatusCode != 404 {
		t.Fatal(err)
	}
	if r := ended(t, store, "/other"); r.Status != 404 || r.SentTarget != "" || len(r.Tries) > 0 {
		t.Errorf("%+v", r)
	}
}

func TestTargetsThatWereTriedInVainAreRemembered(t *testing.T) {
	dead := listen(t)
	dead.Close()
	e, store := inspecting(t, backend(t, func(w http.ResponseWriter, r *http.Request) {}), func(c *config.Config) {
		to, _ := config.ParseTarget(dead.Addr().String())
		r := &c.Sites[0].Routes[0]
		r.To = append([]config.Backend{{Target: to}}, r.To...)
	})
	for i := range 4 {
		target := fmt.Sprintf("/%d", i)
		if response, err := e.clients(t)["h2"].Get("https://localhost" + target); err != nil || response.StatusCode != 200 {
			t.Fatal(err)
		}
		if r := ended(t, store, target); len(r.Tries) == 2 && r.Tries[0].Error != "" && r.Tries[0].Status == 0 && r.Tries[1].Status == 200 {
			return
		}
	}
	t.Errorf("%+v", store.Find(1))
}

func TestAWebSocketsMessagesAreRemembered(t *testing.T) {
	e, store := inspecting(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1})
		if err != nil {
			return
		}
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil {
				return
			}
			_ = c.Write(r.Context(), kind, append([]byte("you say "), text...))
		}
	}), func(c *config.Config) { c.Sites[0].Inspect.Body = 8 << 10 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for path, mode := range map[string]websocket.CompressionMode{
		"/plain": websocket.CompressionDisabled, "/each": websocket.CompressionNoContextTakeover, "/all": websocket.CompressionContextTakeover,
	} {
		c, _, err := websocket.Dial(ctx, "wss://localhost"+path, &websocket.DialOptions{HTTPClient: e.clients(t)["h1"], CompressionMode: mode, CompressionThreshold: 1})
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		for i := range 3 {
			said := fmt.Sprintf("the same words again, said for the time %d", i)
			_ = c.Write(ctx, websocket.MessageText, []byte(said))
			if _, text, err := c.Read(ctx); err != nil || string(text) != "you say "+said {
				t.Errorf("%q, %v", text, err)
			}
			want += "client: " + said + "; server: you say " + said + "; "
		}
		_ = c.Close(websocket.StatusNormalClosure, "bye")

		r := ended(t, store, path)
		got, closed := "", false
		for _, m := range r.Messages {
			switch {
			case m.Kind == "close 1000" && string(m.Data) == "bye":
				closed = true
			case m.Kind == "text" && m.Compressed == (mode != websocket.CompressionDisabled):
				got += fmt.Sprintf("%s: %s; ", m.From, m.Data)
			}
		}
		if got != want || !closed || r.Status != 101 || !r.Tunnel {
			t.Errorf("%s: %q, not %q, of %+v", path, got, want, r)
		}
	}
}

// The access log has a replay with the request that it repeats, so that nobody takes it for a client's.
func TestAReplayIsMarkedInTheAccessLog(t *testing.T) {
	e, store := inspecting(t, backend(t, func(w http.ResponseWriter, r *http.Request) {}), nil)
	if _, err := e.clients(t)["h1"].Get("https://localhost/once"); err != nil {
		t.Fatal(err)
	}
	was := ended(t, store, "/once")
	if _, err := e.server.Replay(t.Context(), was.ID, inspect.Edit{}); err != nil {
		t.Fatal(err)
	}
	want := `"replay_of":"` + was.RequestID + `"`
	for end := time.Now().Add(20 * time.Second); !strings.Contains(e.access.String(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is not in the log:\n%s", want, e.access.String())
		}
	}
	if text := e.access.String(); strings.Count(text, "replay_of") != 1 || strings.Count(text, `"target":"/once"`) != 2 {
		t.Error(text)
	}
}

func TestAReplayGoesTheWayOfTheRequest(t *testing.T) {
	e, store := inspecting(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Header.Get("Cookie"), r.Header.Get("X-Forwarded-For"), text)
	}), nil)
	for name, client := range e.everyClient(t) {
		request, _ := http.NewRequest("POST", "https://localhost/"+name, strings.NewReader("content"))
		request.Header.Set("Cookie", "a=1")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		was := ended(t, store, "/"+name)

		id, err := e.server.Replay(t.Context(), was.ID, inspect.Edit{})
		if err != nil {
			t.Fatal(err)
		}
		r := store.Find(id)
		if r.Replay != was.ID || !r.Done || string(r.Out.Data) != "POST a=1 127.0.0.1 content" || string(r.Out.Data) != string(was.Out.Data) {
			t.Errorf("%s: %+v %q", name, r, r.Out.Data)
		}
		content := "other"
		if id, err = e.server.Replay(t.Context(), was.ID, inspect.Edit{Method: "PUT", Content: &content}); err != nil || string(store.Find(id).Out.Data) != "PUT a=1 127.0.0.1 other" {
			t.Errorf("%s: %v", name, err)
		}
	}

	// The client may not come any more: its request may not come again either.
	was := store.Recent()[0]
	sites := slices.Clone(e.config.Sites)
	sites[0].Access.Deny = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	e.reload(t, sites)
	id, err := e.server.Replay(t.Context(), was.ID, inspect.Edit{})
	if err != nil || store.Find(id).Status != 403 {
		t.Errorf("%v: %+v", err, store.Find(id))
	}

	// Without inspect nothing is remembered, and what was is forgotten.
	sites = slices.Clone(sites)
	sites[0].Inspect = nil
	e.reload(t, sites)
	if _, err := e.server.Replay(t.Context(), was.ID, inspect.Edit{}); err == nil || len(store.Recent()) > 0 {
		t.Errorf("%v, %d are remembered", err, len(store.Recent()))
	}
}
