package gateway

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"padlock/config"
	"padlock/proxy/message"
)

func BenchmarkAccessLog(b *testing.B) {
	log := NewAccessLog(&config.AccessLog{Format: "json"}, io.Discard, new(atomic.Uint64))
	r, _ := arrived("app.test")
	r.Client = r.Conn.Client
	r.Fields = message.Fields{}
	x := &Exchange{request: r, start: time.Now(), target: r.Target}
	b.ReportAllocs()
	for b.Loop() {
		log.record(x)
	}
}
