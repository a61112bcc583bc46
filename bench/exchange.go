package main

//lint:file-ignore SA1019 the backend of gRPC and h2c serves connections without TLS, as x/net does.

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// dialogue is a connection on which a message goes back and forth.
type dialogue struct {
	*tls.Conn
	r       *bufio.Reader
	message []byte // as it is sent
	answer  []byte // where the same comes back to
}

func (d *dialogue) exchange() error {
	sent := make(chan error, 1)
	send := func() error {
		_, err := d.Write(d.message)
		return err
	}
	// A message larger than the buffers of a connection is sent while its echo is read: else both sides would block.
	if len(d.message) > 64<<10 {
		go func() { sent <- send() }()
	} else {
		sent <- send()
	}

	if _, err := io.ReadFull(d.r, d.answer); err != nil {
		return err
	}

	return <-sent
}

type opener func(b *bench, p *process, size int) (*dialogue, error)

func openTCP(b *bench, p *process, size int) (*dialogue, error) {
	config := b.tls()
	config.NextProtos = nil
	c, err := tls.Dial("tcp", p.address, config)
	if err != nil {
		return nil, err
	}
	return &dialogue{c, bufio.NewReader(c), bytes.Repeat([]byte("x"), size), make([]byte, size)}, nil
}

// openWebSocket makes a WebSocket (RFC 6455), for messages of less than 126 bytes.
func openWebSocket(b *bench, p *process, size int) (*dialogue, error) {
	d, err := openTCP(b, p, size)
	if err != nil {
		return nil, err
	}

	_, err = io.WriteString(d, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		return nil, err
	}

	response, err := http.ReadResponse(d.r, nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("no WebSocket: status %d", response.StatusCode)
	}

	const binary, masked = 0x82, 0x80
	// A mask of zero changes nothing, so the content is sent as it is.
	d.message = append([]byte{binary, masked | byte(size), 0, 0, 0, 0}, d.message...)
	d.answer = make([]byte, 2+size)
	return d, nil
}

// exchanges sends messages of some size back and forth over 32 connections, each when the one before is back.
func exchanges(open opener, size int) func(*bench, *process) (float64, error) {
	return exchangesOf(32, open, size)
}

func exchangesOf(connections int, open opener, size int) func(*bench, *process) (float64, error) {
	return func(b *bench, p *process) (float64, error) {
		var all []*dialogue
		defer func() {
			for _, d := range all {
				d.Close()
			}
		}()

		for range connections {
			d, err := open(b, p, size)
			if err != nil {
				return 0, err
			}
			all = append(all, d)
			if err := d.exchange(); err != nil {
				return 0, err
			}
		}

		return per(p, func() (int, error) {
			until := time.Now().Add(b.length)
			var count atomic.Int64
			var failed atomic.Pointer[error]
			var running sync.WaitGroup
			for _, d := range all {
				running.Go(func() {
					for time.Now().Before(until) {
						if err := d.exchange(); err != nil {
							failed.Store(&err)
							return
						}
						count.Add(1)
					}
				})
			}

			running.Wait()

			if err := failed.Load(); err != nil {
				return 0, *err
			}
			return int(count.Load()), nil
		})
	}
}

const webSockets = 500

// holdWebSockets is how much each of many WebSockets adds that has a message every second.
func holdWebSockets(b *bench, p *process) (float64, error) {
	first, err := openWebSocket(b, p, 64)
	if err != nil {
		return 0, err
	}
	defer first.Close()

	time.Sleep(2 * time.Second)
	before, err := p.memory()
	if err != nil {
		return 0, err
	}

	var all []*dialogue
	defer func() {
		for _, d := range all {
			d.Close()
		}
	}()

	for range webSockets {
		d, err := openWebSocket(b, p, 64)
		if err != nil {
			return 0, err
		}
		all = append(all, d)
	}

	for range 5 {
		began := time.Now()
		for _, d := range all {
			if err := d.exchange(); err != nil {
				return 0, err
			}
		}
		time.Sleep(time.Until(began.Add(time.Second)))
	}

	after, err := p.memory()
	if err != nil {
		return 0, err
	}

	return float64(after-before) / webSockets / 1024, nil
}

// grpcCalls are unary calls of 100 bytes, which come back.
func grpcCalls(b *bench, p *process) (float64, error) {
	file := filepath.Join(b.dir, "call")
	// A message of gRPC has a flag in front, 0 for content that is not compressed, and its length.
	call := append([]byte{0, 0, 0, 0, 100}, bytes.Repeat([]byte("x"), 100)...)
	if err := os.WriteFile(file, call, 0o644); err != nil {
		return 0, err
	}

	return per(p, func() (int, error) {
		out, err := exec.Command("taskset", "-c", otherCore, "h2load", "-c", "10", "-m", "10", "-D", strconv.Itoa(int(b.length.Seconds())),
			"-d", file, "-H", "content-type: application/grpc", "-H", "te: trailers", "https://localhost:"+port(p.address)+"/test.Echo/Call").CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("h2load: %w\n%s", err, out)
		}
		if found := h2Done.FindSubmatch(out); found == nil || string(found[2]) != "0" {
			return 0, fmt.Errorf("h2load met errors:\n%s", out)
		}
		return number(h2Done, out)
	})
}

// grpcOrigin answers calls with their own message, and a status in the trailers.
func grpcOrigin(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: grpc ADDRESS")
	}

	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}

	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(message)
		w.Header().Set("Grpc-Status", "0")
	})
	server := &http2.Server{MaxConcurrentStreams: 1000, IdleTimeout: time.Hour}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go server.ServeConn(c, &http2.ServeConnOpts{Handler: answer})
	}
}

// echo sends back what comes: as messages to whoever asks for a WebSocket, else byte by byte.
func echo(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: echo ADDRESS")
	}

	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}

	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			if start, err := r.Peek(4); err != nil || string(start) != "GET " {
				_, _ = io.Copy(c, r)
				return
			}
			echoMessages(c, r)
		}()
	}
}

func echoMessages(c net.Conn, r *bufio.Reader) {
	request, err := http.ReadRequest(r)
	if err != nil {
		return
	}

	sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 4.2.2
	head := []string{"HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]), "", ""}
	if _, err := io.WriteString(c, strings.Join(head, "\r\n")); err != nil {
		return
	}

	var frame [6 + 125]byte
	for {
		if _, err := io.ReadFull(r, frame[:6]); err != nil {
			return
		}
		size := int(frame[1] & 0x7f)
		message := frame[6 : 6+min(size, 125)]
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}

		for i := range message {
			message[i] ^= frame[2+i%4]
		}

		frame[4], frame[5] = frame[0], byte(len(message))
		if _, err := c.Write(frame[4 : 6+len(message)]); err != nil {
			return
		}
	}
}

// programSize is that of the file that runs.
func programSize(b *bench, p *process) (float64, error) {
	if p.name == "net/http" {
		return 0, errNoSuchSetup // it is the benchmark itself
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d/exe", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	return float64(info.Size()) / 1e6, nil
}
