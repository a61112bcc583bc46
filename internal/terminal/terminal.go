// Package terminal finds out what somebody at a terminal can be shown, and writes the operation log for them.
//
//	log := slog.New(terminal.LogHandler(os.Stderr, os.Stderr))
package terminal

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"padlock/handshake"
	"padlock/internal/mask"
)

// Is reports whether somebody reads what is written, and not a file or another program.
func Is(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, ok = window(f)
	return ok
}

// Colour reports whether w is a terminal that takes colours.
func Colour(w any) bool { return os.Getenv("NO_COLOR") == "" && Is(w) }

// Width is how many columns w has, or COLUMNS says that it has; 0 where it is no terminal, or nobody knows.
func Width(w any) int {
	if !Is(w) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	width, _ := window(w.(*os.File))
	return width
}

// Story has stories of handshakes fit w.
func Story(w any) handshake.StoryOptions {
	return handshake.StoryOptions{Colour: Colour(w), Width: func() int { return Width(w) }}
}

// LogHandler writes the operation log to lines: in padlock's own style where w, to which they lead, is a terminal,
// and else for programs.
func LogHandler(lines io.Writer, w any) slog.Handler {
	if Is(w) {
		return &sentences{mu: &sync.Mutex{}, w: lines, width: func() int { return Width(w) }}
	}
	return slog.NewTextHandler(lines, &slog.HandlerOptions{ReplaceAttr: masked})
}

// NewSentences writes each record as a sentence and what belongs to it.
func NewSentences(w io.Writer) slog.Handler {
	return &sentences{mu: &sync.Mutex{}, w: w, width: func() int { return Width(w) }}
}

// sentences is safe for use from many goroutines.
type sentences struct {
	mu    *sync.Mutex
	w     io.Writer
	width func() int // of the terminal that is looked at; 0: none
	attrs []slog.Attr
	group string
}

func (h *sentences) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *sentences) WithAttrs(attrs []slog.Attr) slog.Handler {
	all := h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		a.Key = h.group + a.Key
		all = append(all, a)
	}
	return &sentences{h.mu, h.w, h.width, all, h.group}
}

func (h *sentences) WithGroup(name string) slog.Handler {
	return &sentences{h.mu, h.w, h.width, h.attrs, h.group + name + "."}
}

func (h *sentences) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
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

	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, said(b.String(), h.width()))
	return err
}

// masked takes the secrets out of URLs in errors, as libraries put them there.
func masked(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.AnyValue(mask.Error(err))
	}
	return a
}
