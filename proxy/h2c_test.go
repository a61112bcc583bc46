package proxy_test

//lint:file-ignore SA1019 the backend and the client speak x/net/http2.

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/config"
)

// h2cBackend speaks HTTP/2 without TLS, as gRPC servers do.
func h2cBackend(t *testing.T, h http.HandlerFunc) string {
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	server := &http2.Server{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go server.ServeConn(c, &http2.ServeConnOpts{Handler: h})
		}
	}()
	return "h2c://" + l.Addr().String()
}

func TestH2CBackends(t *testing.T) {
	e := start(t, h2cBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.Method, r.RequestURI, r.Header.Get("X-Forwarded-Proto"))
		case "/early":
			w.WriteHeader(http.StatusForbidden)
		case "/stream": // both ways at once: every message is answered before the next is sent
			w.Header().Set("Trailer", "Grpc-Status")
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			buffer := make([]byte, 100)
			for {
				n, err := r.Body.Read(buffer)
				if n > 0 {
					_, _ = w.Write([]byte(strings.ToUpper(string(buffer[:n]))))
					w.(http.Flusher).Flush()
				}
				if err != nil {
					break
				}
			}
			w.Header().Set("Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"X-Sum", r.Trailer.Get("X-Sum"))
		case "/stuck":
			<-r.Context().Done()
		}
	}), func(c *config.Config) { c.Timeouts.ResponseHeader = config.Patience(500 * time.Millisecond) })
	for name, client := range e.clients(t) {
		t.Run(name, func(t *testing.T) {
			if got := body(t, client, "https://localhost/head?a=%2F"); got != "HTTP/2.0 GET /head?a=%2F https" {
				t.Errorf("got %q", got)
			}
			stuck, err := client.Get("https://localhost/stuck")
			if err != nil {
				t.Fatal(err)
			}
			stuck.Body.Close()
			if stuck.StatusCode != 504 {
				t.Errorf("a stuck backend gives %s", stuck.Status)
			}
			early, err := client.Post("https://localhost/early", "", io.MultiReader(strings.NewReader("something"), forever{}))
			if err == nil {
				early.Body.Close()
				if early.StatusCode != 403 {
					t.Errorf("an early answer gives %s", early.Status)
				}
			} else if name == "h2" { // net/http may lose an early answer by HTTP/1.1 while it writes
				t.Error(err)
			}
		})
	}
	t.Run("both ways", func(t *testing.T) {
		r, w := io.Pipe()
		request, err := http.NewRequest("POST", "https://localhost/stream", r)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Te", "trailers")
		request.Trailer = http.Header{"X-Sum": nil}
		response, err := e.clients(t)["h2"].Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		buffer := make([]byte, 100)
		for i := range 10 {
			message := fmt.Sprintf("message %d", i)
			if _, err := io.WriteString(w, message); err != nil {
				t.Fatal(err)
			}
			n, err := response.Body.Read(buffer)
			if err != nil || string(buffer[:n]) != strings.ToUpper(message) {
				t.Fatalf("got %q, %v", buffer[:n], err)
			}
		}
		request.Trailer.Set("X-Sum", "10")
		w.Close()
		rest, err := io.ReadAll(response.Body)
		if err != nil || len(rest) > 0 {
			t.Errorf("at the end %q, %v", rest, err)
		}
		if response.Trailer.Get("Grpc-Status") != "0" || response.Trailer.Get("X-Sum") != "10" {
			t.Errorf("trailers %v", response.Trailer)
		}
	})
}

// forever is content that never ends and hardly comes.
type forever struct{}

func (forever) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return copy(p, "x"), nil
}

func TestATargetThatDoesNotSpeakHTTP2IsNamed(t *testing.T) {
	e := start(t, strings.Replace(backend(t, func(http.ResponseWriter, *http.Request) {}), "http://", "h2c://", 1), nil)
	response, err := e.clients(t)["h2"].Get("https://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode != 502 || !strings.Contains(string(text), "does not speak HTTP/2") {
		t.Errorf("%s: %s", response.Status, text)
	}
	nobody, err := net.Listen("tcp", "127.66.0.1:0") // where nothing else takes the port meanwhile
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	e = start(t, "h2c://"+nobody.Addr().(*net.TCPAddr).String(), nil)
	response, err = e.clients(t)["h1"].Get("https://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ = io.ReadAll(response.Body)
	if response.StatusCode != 502 || !strings.Contains(string(text), "connection refused") {
		t.Errorf("%s: %s", response.Status, text)
	}
}

func body(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A client that does not read leaves a little of its answer with padlock, and the connection to the target to others: its window has room for
// thousands of such streams.
func TestAStalledStreamHoldsLittleOfItsTargetsConnection(t *testing.T) {
	t.Parallel()
	const most, streams = 256 << 10, 8000
	begun, done := make(chan struct{}), make(chan int, 1)
	target := serveTCP(t, func(c *net.TCPConn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		_ = f.WriteSettings()
		window, all, taken, stalled := 65535, 65535, 0, uint32(0)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if value, ok := frame.Value(http2.SettingInitialWindowSize); ok {
					window = int(value)
				}
				if !frame.IsAck() {
					_ = f.WriteSettingsAck()
				}
			case *http2.WindowUpdateFrame:
				switch frame.StreamID {
				case 0:
					all += int(frame.Increment)
				case stalled:
					taken += int(frame.Increment)
				}
			case *http2.HeadersFrame:
				first := stalled == 0
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: fields(":status=200"), EndStream: !first, EndHeaders: true})
				if !first {
					done <- taken
					continue
				}
				if stalled = frame.StreamID; window > most || all < streams*window {
					t.Errorf("a stream has a window of %d bytes, and all have %d", window, all)
				}
				for left := window; left > 0; left -= 1 << 14 {
					_ = f.WriteData(stalled, false, make([]byte, min(left, 1<<14)))
				}
				close(begun)
			}
		}
	})
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q}]}]", "h2c://"+target)
	client := e.two(t)
	_ = client.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	client.post(1, true)
	<-begun
	for range 3 {
		fetch(t, e.clients(t)["h2"], "GET", "https://localhost/")
		if taken := <-done; taken > 64<<10 {
			t.Errorf("%d bytes were taken for a client that reads nothing", taken)
		}
	}
}
