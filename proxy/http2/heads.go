package http2

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/proxy/message"
	"padlock/traffic"
)

// heads reads the blocks of fields that come by a connection, one after the other: requests or responses, and trailers.
// It belongs to the goroutine that reads frames.
type heads struct {
	decoder *hpack.Decoder
	block   block
}

// init comes before all else: a block may have that many bytes and fields.
func (h *heads) init(limit, most int) {
	h.decoder = hpack.NewDecoder(headerTable, func(f hpack.HeaderField) { h.block.Add(f.Name, f.Value) })
	// A single string is bounded as well, or one literal could take the memory of a whole block before it is
	// counted.
	h.decoder.SetMaxStringLength(maxBlock(limit))
	h.block.Limit, h.block.Most = limit, most
}

// maxBlock is how much may be sent for fields of which limit bytes are taken: more costs the connection, and not only
// the message.
func maxBlock(limit int) int { return 2 * limit }

const maxFragments = 128

// maxSizeUpdates of the table may begin a block: the smallest size that it had meanwhile, and the last (RFC 7541
// section 4.2).
const maxSizeUpdates = 2

// sizeUpdates are those that a block begins with (RFC 7541 section 6.3).
func sizeUpdates(b []byte) (n int) {
	for len(b) > 0 && b[0]&0xe0 == 0x20 {
		size := 1
		// The rest of the integer is in the bytes that follow.
		if b[0]&0x1f == 0x1f {
			for size < len(b) && b[size]&0x80 != 0 {
				size++
			}
			size++
		}
		b = b[min(size, len(b)):]
		n++
	}
	return n
}

// block is a list of fields with the frames that bring it.
type block struct {
	message.Block
	id        uint32
	end       bool // nothing follows
	open      bool // more fragments follow
	sent      int  // bytes of fragments
	fragments int
}

// begin makes the block ready for what a frame begins.
func (h *heads) begin(f *http2.HeadersFrame) error {
	h.block.Begin()
	h.block = block{Block: h.block.Block, id: f.StreamID, end: f.StreamEnded()}
	h.decoder.SetEmitEnabled(true)
	if sizeUpdates(f.HeaderBlockFragment()) > maxSizeUpdates {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	return nil
}

// add decodes a part of the fields. After the last, the block is whole.
func (h *heads) add(fragment []byte, last bool) error {
	b := &h.block
	b.open = !last
	b.fragments++
	// CONTINUATION frames without end have no effect that another limit would notice (CVE-2024-24549,
	// CVE-2023-45288).
	if b.sent += len(fragment); b.sent > maxBlock(b.Limit) || b.fragments > maxFragments {
		return floodError(traffic.HeaderSize)
	}
	if _, err := h.decoder.Write(fragment); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	// The rest is still decoded, as it changes the table that later messages refer to. It is not kept.
	if b.TooLarge() {
		h.decoder.SetEmitEnabled(false)
	}
	if !last {
		return nil
	}
	if err := h.decoder.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	return nil
}
