//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"padlock/internal/servicetest"
)

// Whatever clients of HTTP/3 send, in whatever order, and however they end streams and connections or withhold room for answers, others are
// served, nothing panics, and of none of them anything is left.
func TestFrenzyOfHTTP3(t *testing.T) {
	floods(t)
	b := besiege(t, "")
	var all sync.WaitGroup
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), max(3*time.Second, *floodTime))
	defer cancel()
	for n := range uint64(16) {
		all.Go(func() {
			for rng := rand.New(rand.NewPCG(seed, n)); ctx.Err() == nil; {
				frenzied(ctx, b, rng)
			}
		})
	}
	all.Wait()

	dial := func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, b.address, c, servicetest.Patient(q))
	}
	three := &http3.Transport{TLSClientConfig: b.tls("h3"), Dial: dial}
	client := &http.Client{Timeout: floodTimeout, Transport: three}
	response, err := client.Get("https://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil || string(content) != "hello" {
		t.Errorf("%q, %v", content, err)
	}
	response.Body.Close()
	_ = three.Close()
	servicetest.Until(t, func() error {
		response, err := http.Get(b.metrics)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if (name == "padlock_connections_open" || strings.HasPrefix(name, "padlock_upstream_open_requests{")) && value != "0" {
				return fmt.Errorf("left are: %s", line)
			}
		}
		return err
	})

	b.stderr.mu.Lock()
	defer b.stderr.mu.Unlock()
	for _, word := range []string{"panic", "request lost", "goroutine "} {
		if text := b.stderr.text.String(); strings.Contains(text, word) {
			t.Errorf("padlock says %q:\n%s", word, text)
		}
	}
}

// frenzied is one connection.
func frenzied(ctx context.Context, b *besieged, rng *rand.Rand) {
	config := servicetest.Patient(nil)
	if rng.IntN(3) == 0 {
		config.InitialStreamReceiveWindow, config.MaxStreamReceiveWindow = 1+rng.Uint64N(500), 1000
	}
	if rng.IntN(3) == 0 {
		config.InitialConnectionReceiveWindow, config.MaxConnectionReceiveWindow = 1+rng.Uint64N(500), 1000
	}
	config.MaxIncomingUniStreams = []int64{-1, 1, 3, 100}[rng.IntN(4)]
	within, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := quic.DialAddr(within, b.address, b.tls("h3"), config)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(0x100+rng.Uint64N(16)), "") }()

	var all sync.WaitGroup
	defer all.Wait()
	within, cancel = context.WithTimeout(ctx, time.Duration(1+rng.IntN(400))*time.Millisecond)
	defer cancel()
	for range 1 + rng.IntN(60) {
		mine := rand.New(rand.NewPCG(rng.Uint64(), 0))
		if rng.IntN(4) == 0 {
			if q, err := conn.OpenUniStreamSync(within); err == nil {
				all.Go(func() {
					defer context.AfterFunc(within, func() { _ = q.SetWriteDeadline(time.Unix(1, 0)) })()
					_, _ = q.Write(uniText(mine))
					if mine.IntN(4) == 0 {
						_ = q.Close()
					} else if mine.IntN(4) == 0 {
						q.CancelWrite(0x10c)
					}
				})
			}
			continue
		}
		q, err := conn.OpenStreamSync(within)
		if err != nil {
			return
		}
		all.Go(func() {
			defer context.AfterFunc(within, func() { _ = q.SetDeadline(time.Unix(1, 0)) })()
			for range 1 + mine.IntN(4) {
				switch mine.IntN(9) {
				case 0:
					q.CancelWrite(quic.StreamErrorCode(0x100 + mine.Uint64N(20)))
				case 1:
					q.CancelRead(quic.StreamErrorCode(0x100 + mine.Uint64N(20)))
				case 2:
					_ = q.Close()
				case 3:
					_, _ = io.CopyN(io.Discard, q, mine.Int64N(100_000))
				default:
					_, _ = q.Write(requestText(mine))
				}
			}
		})
	}
	if rng.IntN(2) == 0 {
		<-within.Done()
	}
}

// cut is a part of a text, or all of it.
func cut(rng *rand.Rand, text []byte) []byte {
	if rng.IntN(3) == 0 {
		return text[:rng.IntN(len(text)+1)]
	}
	return text
}

func garbled(rng *rand.Rand, most int) []byte {
	b := make([]byte, rng.IntN(most))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func requestText(rng *rand.Rand) []byte {
	path := []string{"/", "/hang", "/large"}[rng.IntN(3)]
	switch rng.IntN(10) {
	case 0:
		return garbled(rng, 2000)
	case 1: // a dynamic table, which there is none of
		return threeFrame(nil, threeHeaders, append([]byte{byte(rng.IntN(255)), byte(rng.IntN(255)), 0x80 | byte(rng.IntN(64)), 0x10}, garbled(rng, 50)...)...)
	case 2:
		return threeFrame(nil, threeData, garbled(rng, 30_000)...)
	case 3: // more than will come
		return append(quicvarint.Append([]byte{byte(rng.IntN(14))}, rng.Uint64N(1<<61)), garbled(rng, 100)...)
	case 4: // GREASE
		return threeFrame(nil, 0x1f*rng.Uint64N(1<<40)+0x21, garbled(rng, 3000)...)
	case 5:
		return cut(rng, threeAsking("CONNECT", path, ":protocol=websocket", "sec-websocket-version=13"))
	case 6:
		return append(threeAsking("POST", path, "content-length=100"), threeFrame(nil, threeData, garbled(rng, 150)...)...)
	case 7:
		return append(append(threeAsking("POST", path), threeFrame(nil, threeData, garbled(rng, 30_000)...)...), cut(rng, threeFrame(nil, threeHeaders, 0, 0, 0x23, 'a', 'b', 'c', 1, 'x'))...)
	}
	return cut(rng, threeAsking("GET", path))
}

func uniText(rng *rand.Rand) []byte {
	b := quicvarint.Append(nil, []uint64{0, 0, 1, 2, 2, 3, 3, 0x21, 0x54, rng.Uint64N(1 << 60)}[rng.IntN(10)])
	switch rng.IntN(6) {
	case 0:
		return append(b, garbled(rng, 2000)...)
	case 1: // QPACK: a capacity, inserts, duplicates, and what a decoder says
		for range 1 + rng.IntN(200) {
			b = append(b, [][]byte{{0x3f, 0xe1, 0x1f}, {0x20}, {0xc1, 3, 'a', 'b', 'c'}, {0x41, 'n', 1, 'v'}, {0x01}, {0x80}, {0x40}, {0x3f, 0xff, 0xff, 0xff, 0xff}}[rng.IntN(8)]...)
		}
		return b
	case 2:
		return cut(rng, append(b, threeFrame(nil, threeSettings, garbled(rng, 40)...)...))
	}
	b = threeFrame(b, threeSettings)
	for range rng.IntN(30) {
		kind := []uint64{3, 5, 7, 0xd, threePriorityUpdate, threePriorityUpdate + 1, 0x21, 2, 6, 8, 9}[rng.IntN(11)]
		b = threeFrame(b, kind, quicvarint.Append(nil, rng.Uint64N(1<<rng.IntN(61)))...)
	}
	return b
}
