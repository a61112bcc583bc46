package inspect

import (
	"encoding/json"
	"time"
)

// ms is a duration in milliseconds, to the microsecond.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// MarshalJSON implements json.Marshaler.
func (r *Request) MarshalJSON() ([]byte, error) {
	type plain Request
	return json.Marshal(struct {
		*plain
		Duration  float64 `json:"duration_ms"`
		Wait      float64 `json:"wait_ms,omitempty"`
		FirstByte float64 `json:"first_byte_ms,omitempty"`
	}{(*plain)(r), ms(r.Duration), ms(r.Wait), ms(r.FirstByte)})
}

// MarshalJSON implements json.Marshaler.
func (t Try) MarshalJSON() ([]byte, error) {
	type plain Try
	return json.Marshal(struct {
		plain
		At      float64 `json:"at_ms"`
		Connect float64 `json:"connect_ms,omitempty"`
		TLS     float64 `json:"tls_ms,omitempty"`
		Took    float64 `json:"took_ms"`
	}{plain(t), ms(t.At), ms(t.Connect), ms(t.TLS), ms(t.Took)})
}

// MarshalJSON implements json.Marshaler. Text is text, and anything else base64.
func (m Message) MarshalJSON() ([]byte, error) {
	type plain Message
	is := struct {
		plain
		Text string  `json:"text,omitempty"`
		At   float64 `json:"at_ms"`
	}{plain: plain(m), At: ms(m.At)}
	if Readable(m.Data) {
		is.Text, is.Data = string(m.Data), nil
	}
	return json.Marshal(is)
}

// MarshalJSON implements json.Marshaler. Text is text, and anything else base64.
func (c Content) MarshalJSON() ([]byte, error) {
	type plain Content
	is := struct {
		plain
		Text string `json:"text,omitempty"`
	}{plain: plain(c)}
	if Readable(c.Data) {
		is.Text, is.Data = string(c.Data), nil
	}
	return json.Marshal(is)
}
