package handshake

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"padlock/handshake/wire"
)

// StoryOptions are for NewStory.
type StoryOptions struct {
	Colour bool
	Width  func() int // of the terminal in columns, asked for each handshake; 0, or nil: lines are as long as they come
}

// NewStory returns a Sink that writes each handshake stage by stage, in several lines written at once.
func NewStory(w io.Writer, o StoryOptions) Sink {
	return &writerSink{w: w, render: func(b []byte, e *Event) []byte {
		width := 0
		if o.Width != nil {
			width = o.Width()
		}
		return append(b, story(e, palette(o.Colour), width)...)
	}}
}

// NewLine returns a Sink that writes one line for each handshake.
func NewLine(w io.Writer) Sink {
	return &writerSink{w: w, render: func(b []byte, e *Event) []byte { return append(b, line(e)+"\n"...) }}
}

// Failures passes on only what was not complete.
func Failures(s Sink) Sink { return failures{s} }

type failures struct{ Sink }

func (f failures) Handshake(e *Event) {
	if e.Outcome != Complete && e.Outcome != Unused {
		f.Sink.Handshake(e)
	}
}

// writerSink writes each event with a single Write.
type writerSink struct {
	render func([]byte, *Event) []byte
	mu     sync.Mutex
	w      io.Writer
	buffer []byte
}

const maxBuffer = 64 << 10

func (s *writerSink) Handshake(e *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buffer = s.render(s.buffer[:0], e)
	// An error has nowhere to go: this writer is where errors are written.
	_, _ = s.w.Write(s.buffer)
	// One handshake with hundreds of stages must not keep its buffer for good.
	if cap(s.buffer) > maxBuffer {
		s.buffer = nil
	}
}

type palette bool

func (p palette) paint(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p palette) bold(text string) string { return p.paint("1", text) }
func (p palette) dim(text string) string  { return p.paint("2", text) }
func (p palette) red(text string) string  { return p.paint("31", text) }
func (p palette) green(text string) string {
	return p.paint("32", text)
}

// story is a handshake in lines of a width at most, but 0: then they are as long as they come.
func story(e *Event, p palette, width int) string {
	var b strings.Builder
	head := fmt.Sprintf("#%d %s → %s", e.ID, e.Remote, name(e))
	b.WriteString(p.bold(head))
	b.WriteString(wrapped("   "+strings.Join(facts(e), " · "), "  ", " · ", utf8.RuneCountInString(head), width))

	last, columns := time.Duration(-1), columnsFor(e.Stages, width)
	for _, s := range e.Stages {
		b.WriteString(stageLine(e, s, last, columns, p, width) + "\n")
		last = s.At
	}

	if e.Truncated {
		b.WriteString("  (more was sent than is recorded)\n")
	}
	if f := e.Failure; f != nil {
		b.WriteString(failureStory(f, p, width))
	}
	if text := costs(e); text != "" {
		b.WriteString(p.dim(strings.TrimSuffix(wrapped("  "+text, "  ", " · ", 0, width), "\n")) + "\n")
	}

	for _, n := range e.Remarks() {
		b.WriteString(wrapped("  note: "+n, "        ", " ", 0, width))
	}

	return b.String()
}

// stageLine is a stage, without its time where the one before has the same.
func stageLine(e *Event, s Stage, last time.Duration, columns columns, p palette, width int) string {
	at := ""
	if s.At != last {
		at = "+" + ms(s.At)
	}

	arrow := "client →"
	if s.From == Server {
		arrow = "server ←"
	}

	said := s.Text
	if width > 0 {
		said = cut(said, columns.text)
	}
	text := fmt.Sprintf("  %s %9s %-19s %-*s", arrow, at, StageTitle(s.Name), columns.text, said)
	if columns.size {
		size := ""
		if s.Size > 0 {
			size = fmt.Sprintf("%d B", s.Size)
		}
		text += fmt.Sprintf(" %7s  ", size)
	}

	switch {
	// A connection for which a browser had no use has not failed.
	case (s.Name == "alert" || s.Name == "close") && !e.Unused:
		text = p.red(text)
	case s.Name == "first_byte":
		text = p.green(text)
	}

	if columns.size {
		text += p.dim(string(s.Label))
	}
	return text
}

// columns are how wide the text of a stage is, and whether size and label stand behind it.
type columns struct {
	text int
	size bool
}

const (
	beforeText = 41 // columns of a stage's line: who speaks, when, and what the stage is called
	afterText  = 19 // size and label
	leastText  = 50 // what a text gets beside size and label
)

// columnsFor leaves size and label away where the terminal is too narrow for them, and only then cuts texts.
func columnsFor(stages []Stage, width int) columns {
	natural := textWidth(stages)
	switch room := width - beforeText - afterText; {
	case width <= 0:
		return columns{natural, true}
	case room >= min(natural, leastText):
		return columns{min(natural, room), true}
	}
	return columns{max(width-beforeText, 10), false}
}

// cut returns a text of a width at most; what is cut off leaves an ellipsis.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return strings.TrimRight(string([]rune(text)[:width-1]), " ") + "…"
}

// wrapped breaks a text at separators, so that no line is longer than width where that can be; 0: one line. The first
// line begins at a column; further ones begin with an indent.
func wrapped(text, indent, separator string, column, width int) string {
	if width <= 0 || column+utf8.RuneCountInString(text) <= width {
		return text + "\n"
	}

	var b strings.Builder
	// The indent is kept as it is, also where the separator is a blank.
	start := len(text) - len(strings.TrimLeft(text, " "))
	b.WriteString(text[:start])
	column += start
	first := true
	for part := range strings.SplitSeq(text[start:], separator) {
		n := utf8.RuneCountInString(part)
		switch {
		// A word that is longer than a line is not broken: commands are to be pasted.
		case first && (column+n <= width || column <= len(indent)):
		case column+len(separator)+n <= width && !first:
			b.WriteString(separator)
			column += utf8.RuneCountInString(separator)
		default:
			b.WriteString("\n" + indent)
			column = len(indent)
		}

		b.WriteString(part)
		column += n
		first = false
	}

	return b.String() + "\n"
}

// costs is where the time went, and who the client may be.
func costs(e *Event) string {
	var parts []string
	for _, part := range [...]struct {
		name string
		took time.Duration
	}{
		{"key exchange", e.Timings.KeyExchange}, {"key schedule", e.Timings.KeySchedule}, {"signing", e.Timings.Signing},
		{"client and network", e.Timings.Client}, {"TCP round trip", e.Timings.RoundTrip},
	} {
		if part.took != 0 {
			parts = append(parts, fmt.Sprintf("%s %.2f ms", part.name, float64(part.took.Microseconds())/1000))
		}
	}

	if e.JA4 != "" {
		parts = append(parts, "ja4 "+e.JA4)
	}
	return strings.Join(parts, " · ")
}

// Remarks are the notes, and what came before.
func (e *Event) Remarks() []string {
	out := e.Notes
	if e.After != nil {
		out = append(out[:len(out):len(out)], fmt.Sprintf("the same client rejected us in #%d, %.0f s before: somebody clicked through a warning, installed the CA, or turned verification off", e.After.ID, e.After.Ago.Seconds()))
	}
	return out
}

// textWidth is the width of the widest text, within reason, so that sizes and labels stand in columns.
func textWidth(stages []Stage) int {
	width := 40
	for _, s := range stages {
		width = max(width, utf8.RuneCountInString(s.Text))
	}
	return min(width, widestText)
}

// widestText is how wide the column of texts is at most. A longer text pushes what follows aside.
const widestText = 110

func failureStory(f *Failure, p palette, width int) string {
	var b strings.Builder
	ended := fmt.Sprintf("the %s hung up after %s", f.By, StageTitle(f.Stage))
	if f.Alert >= 0 {
		ended += fmt.Sprintf(" with alert %d, %s", f.Alert, f.AlertName)
	}
	fmt.Fprintf(&b, "  %s %s", p.red("✗"), p.bold(strings.TrimSuffix(wrapped(ended, "    ", " ", 4, width), "\n"))+"\n")
	b.WriteString(wrapped(fmt.Sprintf("    cause: %s (%s)", f.Cause, f.Confidence), "           ", " ", 0, width))
	b.WriteString(wrapped("    to do: "+f.Remedy, "           ", " ", 0, width))
	if f.GoError != "" {
		b.WriteString(p.dim(strings.TrimSuffix(wrapped("    crypto/tls says: "+f.GoError, "      ", " ", 0, width), "\n")) + "\n")
	}
	return b.String()
}

func line(e *Event) string {
	parts := append([]string{fmt.Sprintf("#%d %s → %s", e.ID, e.Remote, name(e)), string(e.Outcome)}, facts(e)...)
	if f := e.Failure; f != nil {
		ended := fmt.Sprintf("%s hung up after %s", f.By, f.Stage)
		if f.Alert >= 0 {
			ended += fmt.Sprintf(", alert %d %s", f.Alert, f.AlertName)
		}
		parts = append(parts, ended, f.Cause+" ("+f.Confidence+")", "to do: "+f.Remedy)
	}
	if e.After != nil {
		parts = append(parts, fmt.Sprintf("rejected in #%d before", e.After.ID))
	}
	return strings.Join(parts, " · ")
}

func name(e *Event) string {
	if e.SNI == "" {
		return "(no name)"
	}
	return e.SNI
}

func facts(e *Event) []string {
	var out []string
	if e.Version != 0 {
		out = append(out, "TLS "+wire.VersionName(e.Version))
	}

	for _, fact := range []string{e.Group, e.CipherSuite, e.ALPN} {
		if fact != "" {
			out = append(out, fact)
		}
	}

	if e.Resumed {
		out = append(out, "resumed")
	}
	return append(out, ms(e.Duration))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// StageTitle is a stage's name as the RFCs write it: client_hello is ClientHello.
func StageTitle(name string) string {
	switch name {
	case "first_byte":
		return "first byte"
	case "tcp_accept":
		return "TCP accept"
	case "udp_packet":
		return "UDP packet"
	case "alert", "close":
		return name
	case "http_request", "http_response":
		return strings.Replace(name, "http_", "HTTP ", 1)
	}

	var b strings.Builder
	for word := range strings.SplitSeq(name, "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}

	return b.String()
}
