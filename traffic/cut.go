package traffic

// Reason is why a client was cut, refused or kept waiting for what it did.
type Reason uint8

// The reasons.
const (
	SlowHandshake Reason = iota
	SlowHead
	SlowBody
	SlowReader
	IdleTunnel
	Resets
	Frames
	HeadSize
	Malformed
	TLSRules
	Connections
	PerAddress
	Handshakes
	Descriptors
	Reasons // how many there are
)

var reasons = [Reasons]struct{ name, why, key string }{
	SlowHandshake: {"slow_handshake", "the TLS handshake did not end in time", "timeouts.handshake"},
	SlowHead:      {"slow_head", "the head of a request, or another frame, did not come in time", "timeouts.header"},
	SlowBody:      {"slow_body", "a request's content stalled, or trickled", "timeouts.body_idle, limits.body_rate"},
	SlowReader:    {"slow_reader", "answers were not read, or trickled away", "timeouts.send, timeouts.body_idle, limits.body_rate"},
	IdleTunnel:    {"idle_tunnel", "nothing passed through a WebSocket", "timeouts.tunnel"},
	Resets:        {"resets", "too many streams were reset, by the client or through its fault", "limits.resets"},
	Frames:        {"frames", "too many frames came that nothing comes of", "limits.noop_frames"},
	HeadSize:      {"head_size", "a request's head was too large, or had too many fields", "limits.header_size, limits.header_fields"},
	Malformed:     {"malformed", "what came was not HTTP as it must be", ""},
	TLSRules:      {"tls_rules", "what came after the handshake was not TLS as it must be", ""},
	Connections:   {"connections", "there are as many connections as there may be: the longest idle one made room, or new ones wait", "limits.connections"},
	PerAddress:    {"connections_per_address", "there are as many connections from this address as there may be", "limits.connections_per_address"},
	Handshakes:    {"handshakes", "there are as many unfinished handshakes as there may be: the oldest made room, or new ones wait", "limits.handshakes"},
	Descriptors:   {"descriptors", "the system has nothing left for further connections: new ones wait", ""},
}

// String is the reason in one word.
func (r Reason) String() string { return reasons[r].name }

// Why is the reason in plain words.
func (r Reason) Why() string { return reasons[r].why }

// Key is where the configuration has the limit; "" where it is none of the configuration's.
func (r Reason) Key() string { return reasons[r].key }
