// Command container is an application in a container, for tests. On port 8080 it answers GET and POST with its host
// name and the path, on port 9000 it sends bytes back. After SIGTERM it serves on for LINGER, and then finishes what is
// open. It is healthy from the start, or with UNWELL=yes once it was told so by /well. "container check" is its health
// check, and "container cat" sends its input back.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "cat" {
		_, _ = io.Copy(os.Stdout, os.Stdin)
		fmt.Println("the end")
		return
	}

	if len(os.Args) > 1 {
		check()
	}

	go echo()
	var well atomic.Bool
	well.Store(os.Getenv("UNWELL") == "")
	name, _ := os.Hostname()
	server := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/well":
			well.Store(true)
		case r.URL.Path == "/healthz" && !well.Load():
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %s", name, r.URL.Path, r.Header.Get("X-Edge"))
	})}
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		<-ctx.Done()
		linger, _ := time.ParseDuration(os.Getenv("LINGER"))
		time.Sleep(linger)
		_ = server.Shutdown(context.Background())
		close(done)
	}()

	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}

	<-done
}

func check() {
	response, err := http.Get("http://127.0.0.1:8080/healthz")
	if err != nil || response.StatusCode != http.StatusOK {
		os.Exit(1)
	}
	os.Exit(0)
}

func echo() {
	l, err := net.Listen("tcp", ":9000")
	if err != nil {
		log.Fatal(err)
	}

	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}

		go func() {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}()
	}
}
