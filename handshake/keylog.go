package handshake

import (
	"encoding/hex"
	"sync"
)

// Write receives the key log of every connection whose tls.Config has the Recorder as its KeyLogWriter. Only the two
// handshake traffic secrets are kept: they open the handshake and cannot derive the keys of application data (RFC 8446
// section 7.1). It runs under a mutex that all of crypto/tls shares, so it only decodes into a fixed slot.
func (r *Recorder) Write(line []byte) (int, error) {
	if random, ok := randomOf(line); ok {
		if t, id := r.keys.find(random); t != nil {
			t.keyLog(id, line)
		}
	}
	return len(line), nil
}

// keyLogs finds connections in their handshake by their client random.
type keyLogs struct {
	mu   sync.Mutex
	open map[[32]byte]keyLogEntry
}

type keyLogEntry struct {
	trace *trace
	id    uint64
}

// add reports false if another connection has the same random: the first keeps it, so that nobody can take away
// another's.
func (k *keyLogs) add(random [32]byte, t *trace, id uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, taken := k.open[random]; taken {
		return false
	}
	k.open[random] = keyLogEntry{t, id}
	return true
}

func (k *keyLogs) find(random [32]byte) (*trace, uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.open[random]
	return e.trace, e.id
}

func (k *keyLogs) remove(random [32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.open, random)
}

// A key-log line is label, client random and secret, the last two in hexadecimal (the SSLKEYLOGFILE format).

func hasLabel(line []byte, label string) bool {
	return len(line) >= len(label) && string(line[:len(label)]) == label
}

func randomOf(line []byte) (random [32]byte, ok bool) {
	for i, c := range line {
		if c == ' ' {
			if len(line) < i+1+64 {
				return random, false
			}
			_, err := hex.Decode(random[:], line[i+1:i+1+64])
			return random, err == nil
		}
	}
	return random, false
}

func secretOf(line []byte, label string, slot []byte) (int, bool) {
	const random = 64 + 1
	if len(line) < len(label)+random || !hasLabel(line, label) {
		return 0, false
	}
	digits := line[len(label)+random:]
	if n := len(digits); n > 0 && digits[n-1] == '\n' {
		digits = digits[:n-1]
	}
	if len(digits) > 2*len(slot) {
		return 0, false
	}

	n, err := hex.Decode(slot, digits)
	return n, err == nil
}
