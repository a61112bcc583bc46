package jsonline

import (
	"bytes"
	"encoding/json"
	"fmt"
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

// Times are written as package time writes them, in whatever place, although most of the text is kept for a second; durations as
// the shortest number.
func TestTimesAndDurationsAreThoseOfTheLibrary(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	changes := time.Date(2026, 10, 25, 0, 59, 58, 0, time.UTC) // summer time ends two seconds later
	places := []*time.Location{time.UTC, berlin, time.FixedZone("", -12600)}
	for _, after := range []time.Duration{0, 1, 90, 1_000, 120_000, 999_999_999, 1e9, 1_500_000_000, 2e9, 2_000_000_001, 86_400e9} {
		for _, place := range places {
			at := changes.Add(after).In(place)
			if got, want := string(appendTime(nil, at)), at.Format(time.RFC3339Nano); got != want {
				t.Errorf("%s instead of %s", got, want)
			}
		}
	}

	for n := time.Duration(-1_100_000); n < 1_100_000; n += 337 {
		if got, want := string(Milliseconds([]byte("{"), "d", n)), fmt.Sprintf(`{"d":%v`, float64(n.Microseconds())/1000); got != want {
			t.Errorf("%s instead of %s", got, want)
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
