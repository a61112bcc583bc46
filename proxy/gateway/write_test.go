package gateway

import (
	"net"
	"strings"
	"testing"
	"time"

	"padlock/config"
	"padlock/proxy/http1"
	"padlock/proxy/http2"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
)

// What would break a request line or a field is not sent to a target, whoever made it: not even a connection is.
func TestNoTargetIsToldWhatBreaksALine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			t.Error("the target was connected to")
			c.Close()
		}
	}()
	address := l.Addr().String()
	for _, r := range []*message.Request{
		{Method: "GET", Target: "/a b", Host: "x"}, {Method: "GET", Target: "/a HTTP/1.1\r\nX: y", Host: "x"}, {Method: "GET /x", Target: "/", Host: "x"}, {Method: "GET", Target: "/", Host: "x\r\nX: y"},
		{Method: "GET", Target: "/", Host: "x", Fields: message.Fields{{Name: "X", Value: "a\r\nY: z"}}}, {Method: "GET", Target: "/", Host: "x", Fields: message.Fields{{Name: "X: y\r\nZ", Value: ""}}},
		{Method: "POST", Target: "/", Host: "x", Declared: []string{"a\r\nX: y"}}, {Method: "GET", Target: "x", Host: "x"}, {Method: "GET", Target: "", Host: "x"},
	} {
		for name, back := range map[string]message.RoundTripper{
			"HTTP/1.1": http1.NewTransport(http1.TransportOptions{Network: "tcp", Address: address, Connect: time.Second, ResponseHeader: time.Second}),
			"h2c":      http2.NewTransport(http2.TransportOptions{Address: address, Connect: time.Second, ResponseHeader: time.Second}),
		} {
			var ctx message.Context
			if _, err := back.RoundTrip(&ctx, r, nil); err == nil || !strings.HasSuffix(err.Error(), "cannot be written") {
				t.Errorf("%s: %q: %v", name, r.Method+" "+r.Target, err)
			}
		}
	}
}

// strict keeps what it is given, if it can be written.
type strict struct {
	message.Writer
	status int
	fields message.Fields
	body   string
}

func (w *strict) Head(status int, fields message.Fields, _ int64) error {
	if err := fields.Writable(); err != nil {
		return err
	}
	w.status, w.fields = status, fields
	return nil
}

func (w *strict) Write(p []byte) (int, error) {
	w.body += string(p)
	return len(p), nil
}

func (w *strict) Room() []byte            { return make([]byte, 4<<10) }
func (w *strict) Flush() error            { return nil }
func (w *strict) Trailers(message.Fields) {}

// A response that cannot be written is answered with an error page, without the field that was at fault; the log says which.
func TestAResponseThatCannotBeWrittenIsAnError(t *testing.T) {
	rules := sites.NewHeaderRules(&config.HeaderRules{Response: config.ResponseRules{FieldRules: config.FieldRules{Set: config.FieldValues{{Name: "X-Site", Value: "{path}"}}}}})
	for want, answer := range map[int]func(*Exchange) *message.Response{
		502: func(x *Exchange) *message.Response {
			x.fromTarget = true
			return &message.Response{Status: 200, Fields: message.Fields{{Name: "X", Value: "a\r\nY: b"}}, Body: &content{}}
		},
		500: func(x *Exchange) *message.Response {
			x.path = paths.Path{Raw: "/a\r\nY: b"}
			return x.whole(200, nil, []byte("fine"))
		},
	} {
		w := &strict{}
		x := &Exchange{request: &message.Request{Method: "GET", Conn: &message.Conn{}}, site: &sites.Site{Fields: rules}, route: &sites.Route{}}
		x.w.Writer = w
		new(Gateway).write(x, answer(x), nil)
		if w.status != want || strings.Contains(w.body, "fine") || !strings.HasSuffix(x.err, "cannot be written") || w.fields.Value("X-Site") != "" {
			t.Errorf("%d %v %q, logged as %q", w.status, w.fields, w.body, x.err)
		}
	}
}
