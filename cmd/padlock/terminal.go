package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"padlock/handshake"
)

// isTerminal reports whether somebody reads what is written, and not a file or another program.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, ok = window(f)
	return ok
}

// terminal reports whether w is a terminal that takes colours.
func terminal(w any) bool { return os.Getenv("NO_COLOR") == "" && isTerminal(w) }

// terminalWidth is how many columns w has, or COLUMNS says that it has; 0 where it is no terminal, or nobody knows.
func terminalWidth(w any) int {
	if !isTerminal(w) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	width, _ := window(w.(*os.File))
	return width
}

func storyOptions(w any) handshake.StoryOptions {
	return handshake.StoryOptions{Colour: terminal(w), Width: func() int { return terminalWidth(w) }}
}

// logHandler writes the operation log to lines: in padlock's own style where w, to which they lead, is a terminal, and else for programs.
func logHandler(lines io.Writer, w any) slog.Handler {
	if isTerminal(w) {
		return &terminalLog{mu: &sync.Mutex{}, w: lines}
	}
	return slog.NewTextHandler(lines, &slog.HandlerOptions{ReplaceAttr: masked})
}

// terminalLog writes each record as a sentence and what belongs to it. It is safe for use from many goroutines.
type terminalLog struct {
	mu    *sync.Mutex
	w     io.Writer
	attrs []slog.Attr
	group string
}

func (h *terminalLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *terminalLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	all := h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		a.Key = h.group + a.Key
		all = append(all, a)
	}
	return &terminalLog{h.mu, h.w, all, h.group}
}

func (h *terminalLog) WithGroup(name string) slog.Handler {
	return &terminalLog{h.mu, h.w, h.attrs, h.group + name + "."}
}

func (h *terminalLog) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("padlock: ")
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString("error: ")
	case r.Level >= slog.LevelWarn:
		b.WriteString("warning: ")
	}
	b.WriteString(handshake.Escape(r.Message))
	add := func(a slog.Attr) {
		if value := masked(nil, a).Value.Resolve(); value.String() != "" {
			b.WriteString(" · " + handshake.Escape(a.Key+": "+value.String()))
		}
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.group + a.Key
		add(a)
		return true
	})
	b.WriteString("\n")

	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

// fitted breaks the lines of a help text that are wider than a terminal. What is broken goes on below its own column: that of the text
// behind a flag or a command.
func fitted(text string, width int) string {
	if width <= 0 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if utf8.RuneCountInString(line) <= width {
			b.WriteString(line + "\n")
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if at := strings.Index(line[indent:], "  "); at >= 0 { // two columns
			column := indent + at + len(line[indent+at:]) - len(strings.TrimLeft(line[indent+at:], " "))
			if column > width/2 { // the second begins in a line of its own
				b.WriteString(strings.TrimRight(line[:column], " ") + "\n")
				indent = min(indent+6, width/2)
				line = strings.Repeat(" ", indent) + line[column:]
			} else {
				indent = column
			}
		}
		breakLine(&b, line, indent, width)
	}
	return b.String()
}

// breakLine writes a line as several, of which all but the first begin with an indent. The first indent bytes are not broken.
func breakLine(b *strings.Builder, line string, indent, width int) {
	b.WriteString(line[:indent])
	column := utf8.RuneCountInString(line[:indent])
	for i, word := range strings.Fields(line[indent:]) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width:
			fmt.Fprintf(b, "\n%*s", indent, "")
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	b.WriteByte('\n')
}
