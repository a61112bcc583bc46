package handshake

import (
	"context"
	"log/slog"
	"time"

	"padlock/handshake/wire"
)

const schema = 1

type jsonSink struct{ log *slog.Logger }

// withoutLevel drops what slog adds to every record and says nothing here.
func withoutLevel(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

func (j jsonSink) Handshake(e *Event) {
	record := slog.NewRecord(e.Start, slog.LevelInfo, "handshake", 0)
	record.AddAttrs(Attrs(e)...)
	_ = j.log.Handler().Handle(context.Background(), record)
}

// Attrs are the documented fields of an event, for any slog handler.
func Attrs(e *Event) []slog.Attr {
	attrs := []slog.Attr{
		slog.Int("schema", schema), slog.Uint64("id", e.ID), slog.String("outcome", string(e.Outcome)),
		slog.String("remote", e.Remote), slog.String("local", e.Local), slog.Float64("duration_ms", milliseconds(e.Duration)),
		slog.String("sni", e.SNI), slog.String("alpn", e.ALPN), slog.Bool("resumed", e.Resumed), slog.Bool("retried", e.Retried),
		slog.Int("bytes_in", e.BytesIn), slog.Int("bytes_out", e.BytesOut),
	}
	if e.Version != 0 {
		attrs = append(attrs, slog.String("version", wire.VersionName(e.Version)), slog.String("cipher_suite", e.CipherSuite), slog.String("group", e.Group))
	}
	if e.Truncated {
		attrs = append(attrs, slog.Bool("truncated", true))
	}
	if e.Certificate != nil {
		attrs = append(attrs, slog.Any("certificate", e.Certificate.group()))
	}
	if e.ClientCertificate != nil {
		attrs = append(attrs, slog.Any("client_certificate", e.ClientCertificate.group()))
	}
	if e.Failure != nil {
		attrs = append(attrs, slog.Any("failure", e.Failure.group()))
	}
	stages := make([]map[string]any, len(e.Stages))
	for i, s := range e.Stages {
		stages[i] = s.object()
	}
	return append(attrs, slog.Any("stages", stages))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (c *Certificate) group() slog.Value {
	return slog.GroupValue(
		slog.String("subject", c.Subject), slog.String("organization", c.Organization), slog.Any("names", c.Names),
		slog.String("issuer", c.Issuer), slog.Time("not_before", c.NotBefore), slog.Time("not_after", c.NotAfter),
		slog.String("key_type", c.KeyType), slog.Int("chain_length", c.ChainLength), slog.Int("chain_bytes", c.ChainBytes),
	)
}

func (f *Failure) group() slog.Value {
	attrs := []slog.Attr{slog.String("by", string(f.By)), slog.String("stage", f.Stage)}
	if f.Alert >= 0 {
		attrs = append(attrs, slog.Int("alert", f.Alert), slog.String("alert_name", f.AlertName), slog.Bool("encrypted", f.Encrypted))
	}
	return slog.GroupValue(append(attrs,
		slog.String("cause", f.Cause), slog.String("remedy", f.Remedy), slog.String("confidence", f.Confidence), slog.String("go_error", f.GoError))...)
}

func (s Stage) object() map[string]any {
	object := map[string]any{"name": s.Name, "from": s.From, "at_ms": milliseconds(s.At), "label": s.Label, "text": s.Text}
	if s.Size > 0 {
		object["size"] = s.Size
	}
	for _, f := range s.Fields {
		object[f.Key] = f.Value.Any()
	}
	return object
}
