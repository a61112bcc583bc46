package handshake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"padlock/handshake/wire"
)

const schema = 1

// NewJSON returns a Sink that writes one JSON object a line. Names of fields are stable within a schema number;
// docs/handshakes.md describes them.
func NewJSON(w io.Writer) Sink { return &writerSink{w: w, render: AppendJSON} }

// AppendJSON appends an event as one line of JSON.
func AppendJSON(b []byte, e *Event) []byte {
	o := object{b: append(b, '{')}
	o.time("time", e.Start, time.RFC3339Nano)
	o.text("msg", "handshake")
	o.number("schema", schema)
	o.number("id", int64(e.ID))
	o.text("outcome", string(e.Outcome))
	o.text("remote", e.Remote)
	o.text("local", e.Local)
	o.ms("duration_ms", e.Duration)
	o.text("sni", e.SNI)

	o.optional("version", version(e.Version))
	o.optional("cipher_suite", e.CipherSuite)
	o.optional("group", e.Group)
	o.optional("alpn", e.ALPN)
	o.optional("ja3", e.JA3)
	o.optional("ja4", e.JA4)

	o.boolean("resumed", e.Resumed)
	o.boolean("resumption_offered", e.Offered)
	o.boolean("retried", e.Retried)
	o.flag("ech", e.ECH)
	o.flag("quic", e.QUIC)
	o.flag("unused", e.Unused)
	o.flag("acme_validation", e.Validation)

	o.number("bytes_in", int64(e.BytesIn))
	o.number("bytes_out", int64(e.BytesOut))
	o.flag("truncated", e.Truncated)
	o.optional("noise", e.Noise)
	o.nested("timings", func() { e.Timings.json(&o) })
	if e.Certificate != nil {
		o.nested("certificate", func() { e.Certificate.json(&o) })
	}

	if e.ClientCertificate != nil {
		o.nested("client_certificate", func() { e.ClientCertificate.json(&o) })
	}
	if e.Failure != nil {
		o.nested("failure", func() { e.Failure.json(&o) })
	}

	if e.After != nil {
		o.nested("after", func() { o.number("id", int64(e.After.ID)); o.ms("ago_ms", e.After.Ago) })
	}
	if len(e.Notes) > 0 {
		o.list("notes", e.Notes)
	}

	o.key("stages")
	o.b = append(o.b, '[')
	for i := range e.Stages {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, '{')
		e.Stages[i].json(&o)
		o.b = append(o.b, '}')
	}

	return append(o.b, "]}\n"...)
}

func version(v uint16) string {
	if v == 0 {
		return ""
	}
	return wire.VersionName(v)
}

func (t *Timings) json(o *object) {
	for _, part := range [...]struct {
		key   string
		value time.Duration
	}{
		{"rtt_ms", t.RoundTrip}, {"key_exchange_ms", t.KeyExchange}, {"key_schedule_ms", t.KeySchedule}, {"signing_ms", t.Signing}, {"client_ms", t.Client},
	} {
		if part.value != 0 {
			o.ms(part.key, part.value)
		}
	}
}

func (c *Certificate) json(o *object) {
	o.text("subject", c.Subject)
	o.optional("organization", c.Organization)
	o.list("names", c.Names)
	o.text("issuer", c.Issuer)
	o.time("not_before", c.NotBefore, time.RFC3339)
	o.time("not_after", c.NotAfter, time.RFC3339)
	o.text("key_type", c.KeyType)
	o.number("chain_length", int64(c.ChainLength))
	o.number("chain_bytes", int64(c.ChainBytes))
	if len(c.Problems) > 0 {
		o.list("problems", c.Problems)
	}
}

func (f *Failure) json(o *object) {
	o.text("by", string(f.By))
	o.text("stage", f.Stage)
	if f.Alert >= 0 {
		o.number("alert", int64(f.Alert))
		o.text("alert_name", f.AlertName)
		o.boolean("encrypted", f.Encrypted)
	}
	o.text("cause", f.Cause)
	o.text("remedy", f.Remedy)
	o.text("confidence", f.Confidence)
	o.optional("go_error", f.GoError)
}

func (s *Stage) json(o *object) {
	// Names, sides and labels are padlock's own words, and need no escaping.
	o.b = append(append(append(append(o.b, `"name":"`...), s.Name...), `","from":"`...), s.From...)
	o.b = appendMilliseconds(append(o.b, `","at_ms":`...), s.At)
	if s.Size > 0 {
		o.b = strconv.AppendInt(append(o.b, `,"size":`...), int64(s.Size), 10)
	}

	o.b = append(append(append(o.b, `,"label":"`...), s.Label...), `","text":`...)
	o.string(s.Text)
	if s.hello != nil {
		s.hello.json(o)
	}

	for i := range s.fields {
		o.field(s.fields[i])
	}
}

// Facts are the decoded facts of a stage in the order of its JSON, each with its value as text.
func (s *Stage) Facts() (facts []Fact) {
	o := object{b: []byte{'{'}}
	if s.hello != nil {
		s.hello.json(&o)
	}

	for i := range s.fields {
		o.field(s.fields[i])
	}

	// The facts are read from the JSON, so that console and log never show different ones.
	d := json.NewDecoder(bytes.NewReader(append(o.b, '}')))
	_, _ = d.Token()
	for d.More() {
		key, err := d.Token()
		var value any
		if err != nil || d.Decode(&value) != nil {
			return facts
		}

		name, _ := key.(string)
		facts = append(facts, Fact{name, factText(value)})
	}

	return facts
}

// Fact is one decoded fact: a name as in the JSON, and its value.
type Fact struct{ Name, Value string }

func factText(value any) string {
	switch v := value.(type) {
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = factText(v[i])
		}
		return strings.Join(texts, ", ")
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(value)
}

func (h *helloFields) json(o *object) {
	o.text("sni", h.name)
	o.registered("versions", registered{clientVersions(h.ClientHello), wire.VersionName})
	o.registered("cipher_suites", registered{h.CipherSuites, wire.SuiteName})
	o.registered("extensions", registered{h.Extensions, wire.ExtensionName})
	o.registered("groups", registered{h.Groups, wire.GroupName})
	o.registered("key_shares", registered{h.KeyShares, wire.GroupName})
	o.registered("signature_algorithms", registered{h.SignatureAlgorithms, wire.SchemeName})
	o.key("alpn")
	o.b = append(o.b, '[')
	for i, protocol := range h.ALPN {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.string(Escape(protocol))
	}

	o.b = append(o.b, ']')
	o.boolean("resumption_offered", offersTicket(h.ClientHello))
	o.flag("external_psk", h.ExternalPSK)
	o.boolean("early_data", h.EarlyData)
	o.boolean("ech", h.ECH)
	o.boolean("grease", grease(h.ClientHello))
	o.number("fragments", int64(h.fragments))
}

// object appends the members of JSON objects. Its strings are escaped already (see Event), so that quotes and
// backslashes are all that is left to escape.
type object struct{ b []byte }

func (o *object) key(k string) {
	// What was written last decides, so that members that are left out leave no comma.
	if last := o.b[len(o.b)-1]; last != '{' && last != '[' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), k...), '"', ':')
}

func (o *object) string(s string) {
	o.b = append(o.b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			continue
		}

		// Valid UTF-8 passes. Anything else becomes the replacement character, or the line would be no JSON.
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size - 1
				continue
			}
		}

		o.b = append(o.b, s[start:i]...)
		switch {
		case c == '"' || c == '\\':
			o.b = append(o.b, '\\', c)
		case c < ' ':
			o.b = append(o.b, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			o.b = utf8.AppendRune(o.b, utf8.RuneError)
		}

		start = i + 1
	}

	o.b = append(append(o.b, s[start:]...), '"')
}

func (o *object) text(k, s string) { o.key(k); o.string(s) }

func (o *object) optional(k, s string) {
	if s != "" {
		o.text(k, s)
	}
}

func (o *object) number(k string, n int64) { o.key(k); o.b = strconv.AppendInt(o.b, n, 10) }

func (o *object) boolean(k string, v bool) { o.key(k); o.b = strconv.AppendBool(o.b, v) }

func (o *object) flag(k string, v bool) {
	if v {
		o.boolean(k, v)
	}
}

func (o *object) ms(k string, d time.Duration) {
	o.key(k)
	o.b = appendMilliseconds(o.b, d)
}

func appendMilliseconds(b []byte, d time.Duration) []byte {
	us := max(0, d.Microseconds())
	b = strconv.AppendInt(b, us/1000, 10)
	if us %= 1000; us > 0 {
		b = append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
	}
	return b
}

func (o *object) time(k string, t time.Time, layout string) {
	o.key(k)
	o.b = append(t.UTC().AppendFormat(append(o.b, '"'), layout), '"')
}

func (o *object) list(k string, values []string) {
	o.key(k)
	o.b = append(o.b, '[')
	for i, v := range values {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.string(v)
	}
	o.b = append(o.b, ']')
}

func (o *object) registered(k string, r registered) {
	o.key(k)
	o.b = append(o.b, '[')
	for _, v := range r.values {
		// GREASE is chosen at random for each connection (RFC 8701), and would make equal clients look different.
		if wire.GREASE(v) {
			continue
		}
		if o.b[len(o.b)-1] != '[' {
			o.b = append(o.b, ',')
		}
		// Names in IANA's registries hold nothing that JSON escapes.
		o.b = append(append(append(o.b, '"'), r.name(v)...), '"')
	}
	o.b = append(o.b, ']')
}

func (o *object) nested(k string, members func()) {
	o.key(k)
	o.b = append(o.b, '{')
	members()
	o.b = append(o.b, '}')
}

func (o *object) field(a slog.Attr) {
	switch a.Value.Kind() {
	case slog.KindBool:
		o.boolean(a.Key, a.Value.Bool())
	case slog.KindInt64:
		o.number(a.Key, a.Value.Int64())
	case slog.KindTime:
		o.time(a.Key, a.Value.Time(), time.RFC3339)
	case slog.KindAny:
		switch values := a.Value.Any().(type) {
		case []string:
			o.list(a.Key, values)
		case registered:
			o.registered(a.Key, values)
		}
	default:
		o.text(a.Key, a.Value.String())
	}
}
