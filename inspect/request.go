package inspect

import "time"

// Side is one end of a request's way.
type Side int

const (
	Client Side = iota
	Server
)

// String is the side in words.
func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "server"
}

// MarshalText implements encoding.TextMarshaler.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Field is a field line of a message.
type Field struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Secret bool   `json:"secret,omitempty"`
}

// Arrival is a request as its client has sent it, without its fields.
type Arrival struct {
	RequestID string `json:"request_id"`
	Method    string `json:"method"`
	Scheme    string `json:"scheme"`
	Host      string `json:"host"`
	Target    string `json:"target"` // path and query
	Proto     string `json:"proto"`
	Remote    string `json:"remote"` // the client's address
	Handshake uint64 `json:"handshake,omitempty"`
	Replay    uint64 `json:"replay_of,omitempty"` // the request that this one repeats
}

// Request is what is known of one. Its JSON names are stable.
type Request struct {
	ID    uint64    `json:"id"` // counts from 1 in this process
	Start time.Time `json:"time"`
	Site  string    `json:"site"`
	Arrival
	User string `json:"user,omitempty"`

	Done     bool          `json:"done"`
	Status   int           `json:"status"` // 0: there is none yet
	Duration time.Duration `json:"-"`
	Error    string        `json:"error,omitempty"`
	Aborted  bool          `json:"aborted,omitempty"`
	Tunnel   bool          `json:"tunnel,omitempty"`
	Interim  []int         `json:"interim,omitempty"`

	Received   []Field `json:"request_headers,omitempty"`      // as the client has sent them
	Sent       []Field `json:"request_headers_sent,omitempty"` // as the last target has got them
	SentMethod string  `json:"sent_method,omitempty"`
	SentHost   string  `json:"sent_host,omitempty"`
	SentTarget string  `json:"sent_target,omitempty"`

	TargetStatus int     `json:"target_status,omitempty"`
	Answered     []Field `json:"response_headers_received,omitempty"` // as the target has sent them
	Response     []Field `json:"response_headers,omitempty"`          // as the client has got them

	In        Content       `json:"request_content"`
	Out       Content       `json:"response_content"`
	Tries     []Try         `json:"targets,omitempty"`
	Wait      time.Duration `json:"-"` // for a place at a target, in all
	FirstByte time.Duration `json:"-"` // of the response, after Start; 0: there is none yet
	Messages  []Message     `json:"messages,omitempty"`
	Earlier   int           `json:"messages_forgotten,omitempty"`
}

// Content is what passed in one direction.
type Content struct {
	Size     int64   `json:"size"`
	Data     []byte  `json:"data,omitempty"`    // its beginning
	Cut      bool    `json:"cut,omitempty"`     // Data is not all
	Decoded  bool    `json:"decoded,omitempty"` // Data is without its content coding, as secrets were taken out of it
	Trailers []Field `json:"trailers,omitempty"`
}

// Try is one target that the request went to. Durations follow each other, and are 0 where nothing took time.
type Try struct {
	Target  string        `json:"target"`
	Status  int           `json:"status,omitempty"` // 0: no response
	Error   string        `json:"error,omitempty"`
	At      time.Duration `json:"-"` // after the request's start
	Connect time.Duration `json:"-"` // to the target, without TLS
	TLS     time.Duration `json:"-"`
	Took    time.Duration `json:"-"` // until the response's head, or the error
}

// Message is one frame of a WebSocket, or one event of an event stream.
type Message struct {
	At         time.Duration `json:"-"`
	From       Side          `json:"from"`
	Kind       string        `json:"kind"`
	Size       int64         `json:"size"`
	Data       []byte        `json:"data,omitempty"`
	Cut        bool          `json:"cut,omitempty"`
	Compressed bool          `json:"compressed,omitempty"` // as it passed, with Size
	Inflated   int64         `json:"inflated,omitempty"`   // its size without that
	Frames     int           `json:"frames,omitempty"`     // that a compressed message came in
	Raw        bool          `json:"raw,omitempty"`        // Data is compressed still
	Note       string        `json:"note,omitempty"`       // why
	Part       bool          `json:"part,omitempty"`       // others of the same message follow
}

// Value is the first value of a field.
func Value(fields []Field, name string) string {
	for i := range fields {
		if equal(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return ""
}
