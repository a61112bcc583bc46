package message

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
)

// WebSocketKey makes a key for a handshake whose client has sent none, as by HTTP/2 and 3 (RFC 8441 section 5).
func WebSocketKey() string {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	return base64.StdEncoding.EncodeToString(key[:])
}

// ErrAccept is given by a Writer's Tunnel before anything is sent, where the client cannot check what the target says
// itself.
var ErrAccept = errors.New("it has accepted a WebSocket without reading its key")

// WebSocketAccept is the proof that a server has read the key (RFC 6455 section 4.2.2).
func WebSocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
