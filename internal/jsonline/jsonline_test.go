package jsonline

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"
)

// A line is the one that log/slog writes, apart from what would act on a terminal.
func TestALineIsSlogs(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890_120_000, time.FixedZone("", 3600))
	texts := []string{"", "plain", `"quoted" \ back`, "line\nand\rtab\tbell\x07", "größe 日本", "broken \xff\xfe utf-8", "� itself", "emoji 🔒", "</script>&"}
	for _, text := range texts {
		b := Begin(nil, at, text)
		b = Text(b, "text", text)
		b = TextIfAny(b, "any", text)
		b = Int(b, "int", -7)
		b = Uint(b, "uint", 1<<63)
		b = Bool(b, "bool", true)
		b = Milliseconds(b, "ms", 1234567*time.Nanosecond)
		b = Milliseconds(b, "none", 0)
		b = Open(b, "group")
		b = Text(b, "a", text)
		b = Text(b, "b", text)
		b = End(Close(b))

		var want bytes.Buffer
		record := slog.NewRecord(at, slog.LevelInfo, text, 0)
		record.Add("text", text)
		if text != "" {
			record.Add("any", text)
		}
		record.Add("int", -7, "uint", uint64(1<<63), "bool", true, "ms", 1.234, "none", 0.0, slog.Group("group", "a", text, "b", text))
		if err := slog.NewJSONHandler(&want, nil).Handle(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		if got := string(b); got != want.String() {
			t.Errorf("%q:\n%s%s", text, got, want.String())
		}
	}
}

// Whatever a text holds, a line stays one line, can be read again, and has nothing in it that cannot be seen.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"a\u202eb", "\x7f", "\u009b31m", "\x00", "\U000e0001", "\u2028", "a\xc3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line := string(End(Text(Begin(nil, time.Now(), "m"), "key", text)))
		if strings.Count(line, "\n") != 1 || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q", line)
		}
		var read struct{ Key string }
		if err := json.Unmarshal([]byte(line), &read); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if read.Key != string([]rune(text)) { // what is no UTF-8 becomes U+FFFD, a byte each
			t.Errorf("%q became %q", text, read.Key)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	var room []byte
	for b.Loop() {
		room = Begin(room[:0], time.Now(), "request")
		for _, key := range []string{"host", "method", "target", "proto", "remote", "upstream"} {
			room = Text(room, key, "a text of the usual length")
		}
		room = Milliseconds(room, "duration_ms", 1234*time.Microsecond)
		room = End(room)
	}
}
