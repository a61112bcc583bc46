package proxy_test

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A browser's gRPC-Web from another origin: padlock answers the preflight request, lets the page read the status, and
// sends what the target gets to the mirror, too: gRPC.
func TestGRPCWebWithCORSAndAMirror(t *testing.T) {
	t.Parallel()
	calls := make(chan string, 10)
	var asked atomic.Int64
	echo := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		message, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Access-Control-Allow-Origin", "https://other.test")
		if r.URL.Path == "/test.Echo/Refuse" {
			w.Header().Set("Grpc-Status", "7")
			return
		}
		w.Header().Set("Trailer", "Grpc-Status, Access-Control-Allow-Origin")
		_, _ = w.Write(message)
		w.Header().Set("Grpc-Status", "0")
	}
	mirrored := func(w http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		calls <- strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Te"), r.Header.Get("X-Mirrored"), string(message)}, " ")
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Grpc-Status", "13")
		if err != nil {
			t.Errorf("the mirror: %v", err)
		}
	}
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - to: %q
        grpc_web: true
        mirror: {to: %q, body: 1KiB}
        cors: {origins: ["https://app.test"], methods: [POST], headers: [Content-Type, X-Grpc-Web], expose: [grpc-status, grpc-message]}
`, h2cBackend(t, echo), h2cBackend(t, mirrored))

	frame := func(flag byte, text string) string {
		return string(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(text)))) + text
	}
	const message = "\x00\xffany bytes"
	call := frame(0, message)
	answer := call + frame(0x80, "grpc-status: 0\r\n")
	encode := base64.StdEncoding.EncodeToString

	for name, client := range e.everyClient(t) {
		before := asked.Load()
		response, _ := fetch(t, client, "OPTIONS", "https://localhost/test.Echo/Call", "Origin", "https://app.test",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-grpc-web")
		if response.StatusCode != 204 || response.Header.Get("Access-Control-Allow-Origin") != "https://app.test" || !strings.Contains(response.Header.Get("Access-Control-Allow-Headers"), "X-Grpc-Web") {
			t.Errorf("%s: preflight: %s %v", name, response.Status, response.Header)
		}
		if asked.Load() != before {
			t.Errorf("%s: a target has got the preflight request", name)
		}

		for _, c := range []struct{ path, origin, kind, content, want string }{
			{"/test.Echo/Call", "https://app.test", "application/grpc-web+proto", call, answer},
			{"/test.Echo/Call", "https://app.test", "application/grpc-web-text+proto", encode([]byte(call)), answer},
			{"/test.Echo/Call", "https://else.test", "application/grpc-web+proto", call, answer},
			{"/test.Echo/Refuse", "https://app.test", "application/grpc-web+proto", call, ""},
		} {
			request, err := http.NewRequest("POST", "https://localhost"+c.path, strings.NewReader(c.content))
			if err != nil {
				t.Fatal(err)
			}
			request.Header = http.Header{"Content-Type": {c.kind}, "Origin": {c.origin}, "X-Grpc-Web": {"1"}}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			got := string(body)
			if strings.Contains(c.kind, "-text") {
				got = decodePieces(t, got)
			}
			if err != nil || got != c.want || response.Header.Get("Content-Type") != c.kind {
				t.Errorf("%s: %s from %s: %v, %v, %q", name, c.kind, c.origin, err, response.Header, body)
			}

			shared, expose := response.Header.Values("Access-Control-Allow-Origin"), strings.ToLower(response.Header.Get("Access-Control-Expose-Headers"))
			if c.origin == "https://app.test" && (!slices.Equal(shared, []string{c.origin}) || !strings.Contains(expose, "grpc-status")) || c.origin != "https://app.test" && len(shared) > 0 {
				t.Errorf("%s: %s: %v", name, c.origin, response.Header)
			}
			if status := response.Header.Get("Grpc-Status"); c.want == "" && status != "7" {
				t.Errorf("%s: the status in the head is %q", name, status)
			}
			copied := "nothing"
			select {
			case copied = <-calls:
			case <-time.After(20 * time.Second):
			}
			if copied != "POST "+c.path+" application/grpc+proto trailers 1 "+call {
				t.Errorf("%s: %s: the mirror has got %q", name, c.kind, copied)
			}
		}
	}
}

// decodePieces decodes base64 of which each piece may have its own padding.
func decodePieces(t *testing.T, text string) (decoded string) {
	t.Helper()
	for ; len(text) >= 4; text = text[4:] {
		three, err := base64.StdEncoding.DecodeString(text[:4])
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		decoded += string(three)
	}
	if text != "" {
		t.Fatalf("%q is left of base64", text)
	}
	return decoded
}
