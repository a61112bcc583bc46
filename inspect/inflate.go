package inspect

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	maxPacked  = 256 << 10 // bytes of a compressed message
	windowSize = 32 << 10  // that a message may refer back to (RFC 7692 section 7.1.2)

	// What is inflated a second, of all WebSockets together: a client can have a few bytes become gigabytes.
	inflatedRate = 16 << 20
)

var (
	errPacked   = errors.New("too long to be inflated")
	errInflated = errors.New("it, or what it refers to, is more than padlock inflates")
	errBroken   = errors.New("it refers to a message that could not be inflated")
)

// tail ends a message (RFC 7692 section 7.2.2), and the stream.
const tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// inflater takes the compression off the messages of one direction.
type inflater struct {
	alone   bool // each message is compressed by itself
	broken  bool // what follows refers to what is not known
	window  []byte
	reader  io.ReadCloser
	charged bool
}

// message inflates one. At most limit bytes of it are returned, beside how many there are in all.
func (f *inflater) message(packed []byte, lost bool, limit int, room *allowance) (data []byte, whole int64, err error) {
	switch {
	case f.broken:
		return nil, 0, errBroken
	case lost:
		err = errPacked
	default:
		data, whole, err = f.read(io.MultiReader(bytes.NewReader(packed), bytes.NewReader([]byte(tail))), limit, room)
	}
	if err != nil && !f.alone {
		f.broken, f.window, f.reader = true, nil, nil
	}
	return data, whole, err
}

func (f *inflater) read(from io.Reader, limit int, room *allowance) (data []byte, whole int64, err error) {
	if f.reader == nil {
		f.reader = flate.NewReaderDict(from, f.window)
	} else if err := f.reader.(flate.Resetter).Reset(from, f.window); err != nil {
		return nil, 0, err
	}

	var piece [4 << 10]byte
	for {
		n, err := f.reader.Read(piece[:])
		if !room.take(n) {
			return nil, 0, errInflated
		}
		whole += int64(n)
		data = append(data, piece[:min(n, limit-len(data))]...)
		if !f.alone {
			f.remember(piece[:n])
		}
		switch {
		case err == io.EOF:
			return data, whole, nil
		case err != nil:
			return nil, 0, err
		case whole > maxDecoded:
			return nil, 0, errInflated
		}
	}
}

// remember keeps what the next message may refer to.
func (f *inflater) remember(p []byte) {
	f.window = append(f.window, p...)
	if len(f.window) > windowSize {
		f.window = f.window[:copy(f.window, f.window[len(f.window)-windowSize:])]
	}
}

// took is how many bytes the inflater takes since it was asked last: once, as it does not grow much afterwards.
func (f *inflater) took() int64 {
	if f.charged {
		return 0
	}
	f.charged = true
	// Its own tables and window, and ours.
	return 2*windowSize + 16<<10
}

// allowance is how much may be done in a second.
type allowance struct {
	mu   sync.Mutex
	left int
	at   time.Time
}

func (a *allowance) take(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.left = int(min(inflatedRate, float64(a.left)+now.Sub(a.at).Seconds()*inflatedRate))
	a.at = now
	if n > a.left {
		return false
	}
	a.left -= n
	return true
}
