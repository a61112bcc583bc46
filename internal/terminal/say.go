package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	speaker = "padlock: " // begins every line that padlock says
	joint   = "\u00a0"    // a space at which no line is broken
)

// Say writes a line to a person. On a terminal, it is broken at spaces where it is too wide, and goes on below its own
// text.
func Say(w io.Writer, format string, args ...any) {
	_, _ = io.WriteString(w, said(fmt.Sprintf(format, args...), Width(w)))
}

// Unbroken is a command in what is said: it stays in one line, so that it can be pasted.
func Unbroken(command string) string { return strings.ReplaceAll(command, " ", joint) }

// said breaks a text into lines of a width; 0: into one line.
func said(text string, width int) string {
	var b strings.Builder
	b.WriteString(speaker)
	column := len(speaker)
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case width > 0 && column+1+n > width && column > len(speaker):
			b.WriteString("\n" + strings.Repeat(" ", len(speaker)))
			column = len(speaker)
		default:
			b.WriteByte(' ')
			column++
		}

		b.WriteString(strings.ReplaceAll(word, joint, " "))
		column += n
	}

	b.WriteByte('\n')
	return b.String()
}
