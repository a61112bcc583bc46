package http2

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/proxy/park"
)

// Shutdown ends in its time whatever connections do at that moment: wait, go to the lot, wake, have requests, or leave.
func TestShutdownEndsInTimeWhileConnectionsComeGoAndPark(t *testing.T) {
	for round := range 4 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			shutDownAtRandom(t)
		})
	}
}

func shutDownAtRandom(t *testing.T) {
	const connections, patience = 300, 2 * time.Second
	lot, err := park.New()
	if err != nil {
		t.Fatal(err)
	}
	defer lot.Close()
	s := NewServer(ServerOptions{
		Handler: handlerFunc(hello), Header: 5 * time.Second, Idle: 10 * time.Minute, BodyIdle: 5 * time.Second, Head: 8 << 10,
		Log: slog.New(slog.DiscardHandler), Park: lot,
	})
	s.parkAfter = 2 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients, serving sync.WaitGroup
	defer clients.Wait()
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.ServeConn(&plain{Conn: c}) })
		}
	})

	last, ready := make(chan struct{}), sync.WaitGroup{}
	for range connections {
		ready.Add(1)
		clients.Go(func() { converse(l.Addr().String(), ready.Done, last) })
	}
	ready.Wait() // each has gone to the lot and come back
	l.Close()
	close(last)
	time.Sleep(s.parkAfter + time.Duration(rand.N(20_000))*time.Microsecond) // so that many are on their way there

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	select {
	case <-ended:
	case <-time.After(patience + 8*time.Second):
		t.Fatalf("Shutdown waits for connections, %d of them parked", lot.Parked())
	}
	if n := lot.Parked(); n != 0 {
		t.Errorf("%d are parked after Shutdown", n)
	}
	serving.Wait()
}

// converse asks now and then, says that it is ready, and asks once more when all do.
func converse(address string, ready func(), last <-chan struct{}) {
	ready = sync.OnceFunc(ready)
	defer ready()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	framer, decoder := http2.NewFramer(conn, conn), hpack.NewDecoder(4096, nil)
	framer.ReadMetaHeaders = decoder
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = framer.WriteSettings()
	block := []byte{0x82, 0x87, 0x84, 0x41, 1, 'a'} // GET, https, /, :authority: a

	for id := uint32(1); id < 15; id += 2 {
		if id == 13 {
			ready()
			<-last
		}
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}) != nil {
			return
		}
		for answered := false; !answered; {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			data, ok := frame.(*http2.DataFrame)
			answered = ok && data.StreamEnded()
		}
		time.Sleep(time.Duration(rand.N(5000)) * time.Microsecond)
	}
	if rand.N(2) == 0 {
		_, _ = io.Copy(io.Discard, conn) // as a client does that keeps its connection
	}
}
