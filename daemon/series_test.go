package daemon

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/handshake/wire"
	"padlock/internal/servicetest"
)

// A client that makes everything up cannot make padlock's metrics grow: names, suites, versions, groups, alerts, types of messages and
// lengths are its own to choose, and none of them is a label's value. Ten thousand such handshakes leave hardly more series than five thousand.
func TestHostileClientsDoNotMakeMetricsGrow(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := 200
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
	}))
	t.Cleanup(app.Close)
	r := runFile(t, fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: 127.0.0.1:0\nstorage: STORAGE\naccess_log: {format: \"off\"}\nhandshakes: {show: failures, format: line}\nsites: [{hosts: [localhost, \"*.localhost\"], routes: [{to: %q}]}]\n", app.URL))
	client := r.client(true, func(c *tls.Config) { c.ServerName = "localhost" })
	for status := 200; status < 600; status++ {
		request, _ := http.NewRequest("GET", fmt.Sprintf("https://h%d.localhost/%d", status, status), nil)
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
		}
	}
	for i := range 50 { // each name gets a certificate
		r.visit(t, func(c *tls.Config) { c.ServerName = fmt.Sprintf("n%d.localhost", i) })
	}
	const half = 2_500
	attack(t, r, 1, half)
	_, first := settled(t, r, half)
	attack(t, r, 2, half)
	m, second := settled(t, r, 2*half)
	if first > 700 || second > first+first/5 { // what is rare comes late
		t.Errorf("%d series after the first half, %d after the second", first, second)
	}
	for _, alert := range m.values("padlock_handshake_failures_total", "alert") {
		if alert != "none" && alert != "other" && !registered(alert) {
			t.Errorf("the alert %q is a value", alert)
		}
	}
	stages := []string{
		"tcp_accept", "client_hello", "hello_retry_request", "server_hello", "encrypted_extensions", "certificate_request", "certificate", "compressed_certificate", "certificate_status",
		"certificate_verify", "server_key_exchange", "server_hello_done", "client_key_exchange", "change_cipher_spec", "finished", "key_update", "first_byte", "other",
	}
	for _, stage := range m.values("padlock_handshake_failures_total", "stage") {
		if !slices.Contains(stages, stage) {
			t.Errorf("the stage %q is a value", stage)
		}
	}
	for _, label := range []string{"version", "group"} {
		for _, value := range m.values("padlock_handshakes_total", label) {
			if !slices.Contains([]string{"none", "1.2", "1.3", "X25519MLKEM768", "X25519", "secp256r1", "secp384r1", "secp521r1"}, value) {
				t.Errorf("%s %q is a value", label, value)
			}
		}
	}
	causes := m.values("padlock_handshake_failures_total", "cause")
	for _, cause := range causes {
		if strings.Contains(cause, "hostile") || strings.Contains(cause, " bytes") || strings.Contains(cause, "0x") {
			t.Errorf("the cause %q is one client's", cause)
		}
	}
	if len(causes) < 8 || len(causes) > 60 {
		t.Errorf("%d causes: %q", len(causes), causes)
	}
	if statuses := m.values("padlock_requests_total", "status"); len(statuses) > 65 || !slices.Contains(statuses, "0") {
		t.Errorf("%d statuses", len(statuses))
	}
	if sites := m.values("padlock_requests_total", "site"); !slices.Equal(sites, []string{"localhost"}) {
		t.Errorf("sites %q", sites)
	}
}

func registered(alert string) bool {
	for number := range 256 {
		if name := wire.AlertName(byte(number)); name == alert && !strings.HasPrefix(name, "alert_") {
			return true
		}
	}
	return false
}

// settled waits until all of so many bad handshakes are counted, or lost, and returns the number of padlock's series.
func settled(t *testing.T, r *running, bad float64) (m metrics, series int) {
	t.Helper()
	var text []byte
	servicetest.Until(t, func() error {
		m, text = r.scrape(t)
		if n := m.value("padlock_handshake_failures_total") + m.value("padlock_dropped_total", "queue", "handshakes"); n < bad {
			return fmt.Errorf("%v of %v handshakes are counted", n, bad)
		}
		return nil
	})
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("padlock_")) {
			series++
		}
	}
	return m, series
}

// attack makes handshakes of which every part is made up.
func attack(t *testing.T, r *running, seed uint64, count int64) {
	t.Helper()
	var left atomic.Int64
	left.Store(count)
	var attackers sync.WaitGroup
	for id := range 8 {
		attackers.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(id)))
			for left.Add(-1) >= 0 {
				if err := hostile(r, random); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	attackers.Wait()
}

func hostile(r *running, random *rand.Rand) error {
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	kind := random.IntN(8)
	hello := record(22, hello(random, kind))
	switch kind {
	case 0: // no TLS at all
		hello = made(random, 5+random.IntN(60))
	case 1: // a part of it
		hello = hello[:1+random.IntN(len(hello)-1)]
	case 2, 3: // an answer is awaited
		_, _ = conn.Write(hello)
		if _, err := conn.Read(make([]byte, 8<<10)); err != nil {
			return nil // it was refused at once
		}
		hello = record(21, []byte{2, byte(random.Uint32())})
		if kind == 3 {
			hello = record(22, append([]byte{byte(random.Uint32()), 0, 0, 8}, made(random, 8)...))
		}
	}
	_, _ = conn.Write(hello)
	_ = conn.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
	return nil
}

func made(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func record(kind byte, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind, 3, 1}, uint16(len(content))), content...)
}

// prefixed has its length before it.
func prefixed(content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(content))), content...)
}

// hello is a ClientHello (RFC 8446 section 4.1.2). Those of kind 2 and 3 can be answered.
func hello(random *rand.Rand, kind int) []byte {
	suites, versions, groups, schemes, name := made(random, 2*(1+random.IntN(20))), made(random, 2), made(random, 2*(1+random.IntN(6))), made(random, 8), fmt.Sprintf("hostile-%x.example", random.Uint64())
	if kind == 2 || kind == 3 {
		suites, versions, groups, schemes, name = append(suites, 0x13, 0x01), append(versions, 3, 4), append(groups, 0, 29), append(schemes, 4, 3), "localhost"
	}
	if kind == 4 {
		name, suites = "localhost", append(suites, 0xc0, 0x2b)
	}
	if kind == 5 {
		name, versions = "localhost", append(versions, 3, 4)
	}
	var extensions []byte
	add := func(id uint16, content []byte) {
		extensions = append(binary.BigEndian.AppendUint16(extensions, id), prefixed(content)...)
	}
	add(0, prefixed(append([]byte{0}, prefixed([]byte(name))...)))
	add(10, prefixed(groups))
	add(13, prefixed(schemes))
	add(43, append([]byte{byte(len(versions))}, versions...))
	add(51, prefixed(append([]byte{0, 29}, prefixed(made(random, 32))...)))
	if kind == 6 {
		protocol := fmt.Sprintf("p%x", random.Uint32())
		add(16, prefixed(append([]byte{byte(len(protocol))}, protocol...)))
	}
	add(uint16(random.Uint32())|0x8000, made(random, random.IntN(20)))
	body := append([]byte{3, byte(random.IntN(5))}, made(random, 32)...)
	body = append(append(body, 32), made(random, 32)...)
	body = append(append(body, prefixed(suites)...), 1, 0)
	body = append(body, prefixed(extensions)...)
	return append([]byte{1, 0}, prefixed(body)...)
}
