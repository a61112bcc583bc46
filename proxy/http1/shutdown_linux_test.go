package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

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
		Handler: handler(echo), Header: 5 * time.Second, Idle: 10 * time.Minute, BodyIdle: 5 * time.Second, Head: 8 << 10,
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
			serving.Go(func() { s.ServeConn(&plain{TCPConn: c.(*net.TCPConn)}) })
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
	answers := bufio.NewReader(conn)

	for number := range 7 {
		if number == 6 {
			ready()
			<-last
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			return
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return
		}
		time.Sleep(time.Duration(rand.N(5000)) * time.Microsecond)
	}
	if rand.N(2) == 0 {
		_, _ = io.Copy(io.Discard, conn) // as a client does that keeps its connection
	}
}
