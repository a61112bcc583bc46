package handshake

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Capture writes handshakes as pcapng (draft-ietf-opsawg-pcapng) with the secrets that decrypt them, for Wireshark and
// tshark. It holds the handshake traffic secrets only: what was sent after the handshake stays closed. The packets are
// made from what was read and written; their sequence numbers and headers are padlock's own. It is safe for use from
// many goroutines.
type Capture struct {
	log   *slog.Logger
	limit int64

	mu     sync.Mutex
	w      io.Writer // nil: nothing is captured
	left   int64     // bytes until the limit
	buffer []byte
}

// NewCapture captures nothing before Begin. It stops, and says so, after limit bytes or when what it writes to fails.
func NewCapture(limit int64, log *slog.Logger) *Capture { return &Capture{log: log, limit: limit} }

// Begin writes a file's head to w, and goes on there. If that fails, it stays where it was.
func (c *Capture) Begin(w io.Writer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Nothing changes before the head is written, so a full disk does not end the capture that runs.
	if _, err := w.Write(appendSectionHeader(nil)); err != nil {
		return err
	}
	c.w, c.left = w, c.limit
	return nil
}

// appendHandshake appends one handshake: the secrets first, because readers need them before the packets.
func appendHandshake(b []byte, t *trace, e *Event) []byte {
	// Wireshark finds the secrets by the client's random. Without it, the packets stay encrypted but are still of
	// use.
	if random, ok := t.clientRandom(); ok {
		b = appendSecrets(b, random[:], &t.secrets)
	}

	s := newStream(e.Remote, e.Local, t.start)
	b = s.open(b)
	for _, segment := range t.segments[:t.count] {
		bytes := t.in
		if segment.fromServer {
			bytes = t.out
		}
		b = s.data(b, segment.at, segment.fromServer, bytes[segment.offset:segment.offset+segment.length])
	}

	return b
}

func (c *Capture) add(t *trace, e *Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.w == nil || t.count == 0 {
		return
	}

	b := appendHandshake(c.buffer[:0], t, e)
	c.buffer = b
	// A file that ends with a whole handshake opens without a warning, so the limit is checked before writing.
	c.left -= int64(len(b))
	if c.left < 0 {
		c.stop("the capture has reached its size limit")
		return
	}

	if _, err := c.w.Write(b); err != nil {
		c.stop(err.Error())
	}
}

func (c *Capture) stop(why string) {
	c.w = nil
	c.log.Warn("handshakes are no longer captured", "reason", why)
}

// Block types and constants of pcapng.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6
	blockSecrets   = 10
	byteOrderMagic = 0x1a2b3c4d
	linkRaw        = 101        // packets begin with their IP header
	secretsTLS     = 0x544c534b // the SSLKEYLOGFILE format
)

func appendSectionHeader(b []byte) []byte {
	b, end := beginBlock(b, blockSection)
	b = binary.LittleEndian.AppendUint32(b, byteOrderMagic)
	b = binary.LittleEndian.AppendUint16(b, 1)          // major version
	b = binary.LittleEndian.AppendUint16(b, 0)          // minor version
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // length not given
	b = end(b)
	b, end = beginBlock(b, blockInterface)
	b = binary.LittleEndian.AppendUint32(b, linkRaw)
	b = binary.LittleEndian.AppendUint32(b, 0) // no limit to packets
	return end(b)
}

// beginBlock appends a block's head; the function that it returns pads the block and fills in its length.
func beginBlock(b []byte, kind uint32) ([]byte, func([]byte) []byte) {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return b, func(b []byte) []byte {
		for (len(b)-start)%4 != 0 {
			b = append(b, 0)
		}
		length := uint32(len(b) - start + 4)
		binary.LittleEndian.PutUint32(b[start+4:], length)
		return binary.LittleEndian.AppendUint32(b, length)
	}
}

func appendSecrets(b, random []byte, s *secrets) []byte {
	if s.clientLength == 0 && s.serverLength == 0 {
		return b
	}
	// The application secrets are left out on purpose: with them, the file would decrypt everything that was sent.
	text := fmt.Appendf(nil, "CLIENT_HANDSHAKE_TRAFFIC_SECRET %s %s\nSERVER_HANDSHAKE_TRAFFIC_SECRET %s %s\n",
		hex.EncodeToString(random), hex.EncodeToString(s.client[:s.clientLength]), hex.EncodeToString(random), hex.EncodeToString(s.server[:s.serverLength]))
	b, end := beginBlock(b, blockSecrets)
	b = binary.LittleEndian.AppendUint32(b, secretsTLS)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return end(append(b, text...))
}

// stream makes the packets of one TCP connection.
type stream struct {
	start          time.Time
	client, server netip.AddrPort
	sent           [2]uint32 // next sequence number of the client and of the server
}

func newStream(remote, local string, start time.Time) *stream {
	client, err := netip.ParseAddrPort(remote)
	server, err2 := netip.ParseAddrPort(local)
	client, server = unmap(client), unmap(server)
	// A Unix socket, or an address that was left out.
	if err != nil || err2 != nil || client.Addr().Is4() != server.Addr().Is4() {
		client, server = netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.2:443")
	}
	return &stream{start: start, client: client, server: server}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

const (
	flagSYN = 2
	flagPSH = 8
	flagACK = 16
)

// open is TCP's own handshake, from which readers learn which side is the client.
func (s *stream) open(b []byte) []byte {
	b = s.packet(b, 0, false, flagSYN, nil)
	s.sent[0]++
	b = s.packet(b, 0, true, flagSYN|flagACK, nil)
	s.sent[1]++
	return s.packet(b, 0, false, flagACK, nil)
}

func (s *stream) data(b []byte, at time.Duration, fromServer bool, data []byte) []byte {
	// An IPv4 packet holds 64 KiB at most, with its headers.
	const most = 32 << 10
	for len(data) > 0 {
		n := min(len(data), most)
		b = s.packet(b, at, fromServer, flagPSH|flagACK, data[:n])
		// Sequence numbers must fit together, or readers report lost segments.
		s.sent[side(fromServer)] += uint32(n)
		data = data[n:]
	}
	return b
}

func side(fromServer bool) int {
	if fromServer {
		return 1
	}
	return 0
}

func (s *stream) packet(b []byte, at time.Duration, fromServer bool, flags byte, data []byte) []byte {
	from, to := s.client, s.server
	if fromServer {
		from, to = to, from
	}

	b, end := beginBlock(b, blockPacket)
	when := uint64(s.start.Add(at).UnixMicro())
	header := 20 + tcpHeader
	if from.Addr().Is6() {
		header = 40 + tcpHeader
	}

	for _, v := range [...]uint32{0, uint32(when >> 32), uint32(when), uint32(header + len(data)), uint32(header + len(data))} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}

	b = appendIP(b, from.Addr(), to.Addr(), tcpHeader+len(data))
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint32(b, s.sent[side(fromServer)])
	b = binary.BigEndian.AppendUint32(b, s.sent[side(!fromServer)])
	// Window; the checksum is left out, as by cards that fill it in themselves.
	b = append(b, tcpHeader/4<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return end(append(b, data...))
}

const tcpHeader = 20

func appendIP(b []byte, from, to netip.Addr, length int) []byte {
	const tcp, ttl = 6, 64
	if from.Is6() {
		b = append(b, 0x60, 0, 0, 0, byte(length>>8), byte(length), tcp, ttl)
		return append(append(b, from.AsSlice()...), to.AsSlice()...)
	}

	start := len(b)
	total := 20 + length
	b = append(b, 0x45, 0, byte(total>>8), byte(total), 0, 0, 0x40, 0, ttl, tcp, 0, 0)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	sum := uint32(0)
	for i := start; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(b[start+10:], ^uint16(sum))
	return b
}
