//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// wsCase is a sentence about WebSockets: what the target does, and what its client sees, over each version of HTTP.
type wsCase struct {
	name    string
	over    []string // versions; all where it is empty
	request wsRequest
	target  func(*wsPeer) // nil where no target is asked, or the library's
	refused bool          // there is no WebSocket; the client looks at the answer
	client  func(*wsClient)
}

var wsVersions = []string{"h1", "h2", "h3"}

// wsSuite runs cases through one padlock, and counts them.
type wsSuite struct {
	fronts  map[string]wsFront
	target  *wsTarget
	paths   atomic.Int64
	slots   chan struct{} // how many cases run at once
	ran, ok atomic.Int64
}

// Whatever two WebSocket peers say to each other passes through padlock as it is, over every version of HTTP; and padlock opens a
// WebSocket only where the target has. The target speaks exact bytes, or is a library.
func TestWebSocketSuite(t *testing.T) {
	works(t)
	s := startSuite(t)
	t.Run("cases", func(t *testing.T) {
		for _, version := range wsVersions {
			for _, c := range slices.Concat(messages(), verdicts(), beginnings(), handshakes(), endings(), pressures()) {
				if len(c.over) == 0 || slices.Contains(c.over, version) {
					s.one(t, c.name+" over "+version, func(t *testing.T) { s.play(t, c, version) })
				}
			}
		}
		for name, test := range wsLibrary {
			s.one(t, name, func(t *testing.T) { test(t, s.fronts["h1"]) })
		}
		for name, test := range wsStreams {
			s.one(t, name, func(t *testing.T) { test(t, s) })
		}
		for name, test := range wsHeads {
			s.one(t, name, func(t *testing.T) { test(t, s) })
		}
		for name, test := range wsPadlock {
			for _, version := range wsVersions {
				s.one(t, name+" over "+version, func(t *testing.T) { test(t, version) })
			}
		}
	})
	figure("websocket", "%d of %d", s.ok.Load(), s.ran.Load())
}

// one runs a case beside others.
func (s *wsSuite) one(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		s.slots <- struct{}{}
		defer func() { <-s.slots }()
		s.ran.Add(1)
		test(t)
		if !t.Failed() {
			s.ok.Add(1)
		}
	})
}

// play has client and target do their parts, and waits for both sides to end.
func (s *wsSuite) play(t *testing.T, c wsCase, version string) {
	var script *wsScript
	request := c.request
	if request.path == "" {
		request.path = fmt.Sprintf("/raw/%d", s.paths.Add(1))
		if c.target != nil {
			script = s.target.expect(t, request.path, c.target)
		}
	}
	v := s.fronts[version].open(t, request)
	if v.accepted(version) == c.refused {
		t.Fatalf("the answer is %d %v", v.status, v.fields)
	}
	c.client(v)
	v.close()
	if script != nil {
		script.wait()
	}
}

func startSuite(t *testing.T) *wsSuite {
	t.Helper()
	s := &wsSuite{target: startTarget(t), fronts: map[string]wsFront{}, slots: make(chan struct{}, 16)}
	library := httptest.NewServer(http.HandlerFunc(echoing))
	t.Cleanup(library.Close)
	p := startSockets(t, s.target.address, strings.TrimPrefix(library.URL, "http://"), 5*time.Second)
	for _, version := range wsVersions {
		s.fronts[version] = p.front(t, version)
	}
	return s
}

// startSockets runs padlock before two targets, with less wsPatience than it has by default.
func startSockets(t *testing.T, raw, library string, shutdown time.Duration) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	p.storage = p.home + "/.local/share/padlock"
	p.run(t, command(p.home, "run", "--config", write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
handshakes: {show: failures}
access_log: {format: "off"}
timeouts: {header: 4s, idle: 4s, body_idle: 4s, send: 4s, shutdown: %[3]s}
sites:
  - hosts: [localhost, 127.0.0.1]
    routes:
      - {path: /raw/, to: %[1]q}
      - {path: /library/, to: %[2]q}
      - {path: /denied/, to: %[1]q, deny: [127.0.0.0/8]}
      - {path: /secret/, to: %[1]q, basic_auth: {users: {alice: "$2a$04$yrlHXFT9ytoZ1Fb5V9LHIuLQLQF4hSWncALCbbUcs.SdphJ392.6G"}}}
      - {path: /fixed, respond: {status: 200, body: "hello\n", content_type: text/plain}}
      - {path: /posts/, methods: [POST], to: %[1]q}
`, raw, library, shutdown))))
	return p
}

func (p *padlock) front(t *testing.T, version string) wsFront {
	t.Helper()
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	return wsFront{"127.0.0.1:" + u.Port(), p.roots(t), version}
}

// echoing is a target made with a library, whose judgement of frames is not ours. It sends back what comes, up to a limit.
func echoing(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat", "superchat"}, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(20 << 20)
	if strings.HasSuffix(r.URL.Path, "/small") {
		conn.SetReadLimit(1 << 10)
	}
	for {
		kind, data, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

// soon is how long something may take that nothing holds up.
const soon = time.Minute
