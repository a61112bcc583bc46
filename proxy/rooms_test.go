package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What routes buffer is bounded, for all together and for each client: one that sends content without its end fills half of the memory, its
// other requests are passed on as they come, and another's are still buffered. What has ended is given back.
func TestOneClientDoesNotTakeTheMemoryForBuffers(t *testing.T) {
	t.Parallel()
	const many, size = 12, 60 << 10
	began := make(chan string, 2*many)
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		began <- r.URL.Path
		content, _ := io.ReadAll(r.Body)
		_, _ = w.Write(content)
	})
	e := startFile(t, `
limits: {buffers: 256KiB}
sites: [{hosts: [localhost], routes: [{to: %q, buffer: {request: 64KiB, response: 64KiB}}]}]
`, app)
	ask := func(address, path string, length int) *tls.Conn {
		c := tls.Client(from(t, address, e.address), e.tls())
		if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", path, length, strings.Repeat("x", length/2)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	finish := func(c *tls.Conn, length int) {
		t.Helper()
		_, _ = io.WriteString(c, strings.Repeat("y", length-length/2))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		if err != nil || string(content) != strings.Repeat("x", length/2)+strings.Repeat("y", length-length/2) {
			t.Errorf("%d bytes of %d came back: %v", len(content), length, err)
		}
	}

	var flood []*tls.Conn
	for i := range many {
		flood = append(flood, ask("127.0.0.2", fmt.Sprint("/flood", i), size))
	}
	for range many - 256/2/32 { // half of the memory, in which a buffer for half of the content is 32 KiB
		<-began
	}
	e.soonSaid(t, "limits.buffers")

	buffered := func(address, path string, length int) {
		t.Helper()
		c := ask(address, path, length)
		time.Sleep(100 * time.Millisecond)
		select {
		case got := <-began:
			t.Errorf("the target was asked for %s before the content of %s was there", got, path)
		default:
		}
		finish(c, length)
		if got := <-began; got != path {
			t.Errorf("the target was asked for %s, not for %s", got, path)
		}
	}
	buffered("127.0.0.3", "/other", 20<<10)
	for _, c := range flood {
		finish(c, size)
	}
	for len(began) > 0 {
		<-began
	}
	buffered("127.0.0.2", "/again", size)
}
