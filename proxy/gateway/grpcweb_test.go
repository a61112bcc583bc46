package gateway

import (
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// pieces is content that comes as its reader gives it.
type pieces struct {
	io.Reader
	trailers message.Fields
}

func (p *pieces) Close() error             { return nil }
func (p *pieces) Trailers() message.Fields { return p.trailers }
func (p *pieces) Buffered() int            { return 0 }
func (p *pieces) Received() int64          { return 0 }

// Text of gRPC-Web is base64, whose pieces may have padding each, however it comes; anything else is refused.
func TestTextOfGRPCWebIsDecoded(t *testing.T) {
	long := strings.Repeat("any bytes ", 1000)
	encoded := func(s ...string) (all string) {
		for _, one := range s {
			all += base64.StdEncoding.EncodeToString([]byte(one))
		}
		return all
	}
	for text, want := range map[string]string{
		"": "", encoded("a"): "a", encoded("a", "bc", "def"): "abcdef", encoded(long): long, encoded(long, "x", long): long + "x" + long,
	} {
		for _, read := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader} {
			got, err := io.ReadAll(iotest.OneByteReader(&webRequest{Body: &pieces{Reader: read(strings.NewReader(text))}}))
			if err != nil || string(got) != want {
				t.Errorf("%.40q: %.40q, %v", text, got, err)
			}
		}
	}
	for _, bad := range []string{"a", "YWJj\n", "YWJjZ", "YQ=", "Y===", "Y-_=", "YR=="} {
		if got, err := io.ReadAll(&webRequest{Body: &pieces{Reader: strings.NewReader(bad)}}); !errors.Is(err, errBase64) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

// The trailers are the last frame of the content, also where there is none; where the head has the status there are
// none.
func TestTrailersOfGRPCWebAreAFrame(t *testing.T) {
	const frame = "\x80\x00\x00\x00\x10grpc-status: 0\r\n"
	for _, c := range []struct {
		content string
		head    message.Fields
		want    string
	}{
		{"", nil, frame}, {"content", nil, "content" + frame}, {"", message.Fields{{Name: "Grpc-Status", Value: "5"}}, ""},
		{strings.Repeat("x", 10_000), nil, strings.Repeat("x", 10_000) + frame},
	} {
		for _, text := range []bool{false, true} {
			x := &Exchange{site: &sites.Site{}, route: &sites.Route{}}
			body := &pieces{strings.NewReader(c.content), message.Fields{{Name: "Grpc-Status", Value: "0"}}}
			fields := append(message.Fields{{Name: "Content-Type", Value: "application/grpc+proto"}, {Name: "Content-Length", Value: "7"}}, c.head...)
			response := &message.Response{Status: 200, Fields: fields, ContentLength: 7, Trailing: true, Body: body}
			x.respondForWeb(response, text)
			got, err := io.ReadAll(iotest.HalfReader(response.Body))
			if text {
				got, err = io.ReadAll(&webRequest{Body: &pieces{Reader: strings.NewReader(string(got))}})
			}
			kind := map[bool]string{false: "application/grpc-web+proto", true: "application/grpc-web-text+proto"}[text]
			if err != nil || string(got) != c.want || response.Fields.Value("Content-Type") != kind || response.ContentLength != -1 || response.Body.Trailers() != nil {
				t.Errorf("%v: %.60q, %v, %+v", text, got, err, response)
			}
		}
	}
}
