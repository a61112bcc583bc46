package traffic

// Reason is why a client was disconnected, refused or delayed because of its behavior.
type Reason uint8

// The reasons.
const (
	SlowHandshake Reason = iota
	SlowHeader
	SlowBody
	SlowReader
	IdleTunnel
	Resets
	NoopFrames
	HeaderSize
	Malformed
	TLSRules
	Connections
	PerAddress
	Handshakes
	Descriptors
	Reasons // how many there are
)

var reasons = [Reasons]struct{ name, why, key string }{
	SlowHandshake: {"slow_handshake", "the TLS handshake did not finish in time", "timeouts.handshake"},
	SlowHeader:    {"slow_header", "a request header, or another frame, did not arrive in time", "timeouts.header"},
	SlowBody:      {"slow_body", "a request body stalled or was too slow", "timeouts.body_idle, limits.body_rate"},
	SlowReader:    {"slow_reader", "the client did not read a response, or read too slowly", "timeouts.send, timeouts.body_idle, limits.body_rate"},
	IdleTunnel:    {"idle_tunnel", "a WebSocket carried no data", "timeouts.tunnel"},
	Resets:        {"resets", "too many streams were reset, by the client or because of its errors", "limits.resets"},
	NoopFrames:    {"noop_frames", "too many frames without effect", "limits.noop_frames"},
	HeaderSize:    {"header_size", "a request header was too large, or had too many fields", "limits.header_size, limits.header_fields"},
	Malformed:     {"malformed", "the client did not send valid HTTP", ""},
	TLSRules:      {"tls_rules", "the client broke the TLS protocol after the handshake", ""},
	Connections: {
		"connections", "the connection limit was reached: a connection of the client with the most was closed, or new ones wait", "limits.connections",
	},
	PerAddress: {"connections_per_address", "the connection limit of this address was reached", "limits.connections_per_address"},
	Handshakes: {"handshakes", "the limit of unfinished handshakes was reached: the oldest of the client with the most was closed, or new ones wait", "limits.handshakes"},
	Descriptors: {
		"descriptors", "the system has no file descriptors left for further connections: new ones wait", "",
	},
}

// String is the reason in one word.
func (r Reason) String() string { return reasons[r].name }

// Why is the reason in plain words.
func (r Reason) Why() string { return reasons[r].why }

// Key is the limit's key in the configuration; "" if there is none.
func (r Reason) Key() string { return reasons[r].key }
