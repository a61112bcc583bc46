package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// fitted breaks the lines of a help text that are wider than a terminal. What is broken goes on below its own column:
// that of the text behind a flag or a command.
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
			// The second column begins on a line of its own.
			if column > width/2 {
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

// breakLine writes a line as several, of which all but the first begin with an indent. The first indent bytes are not
// broken.
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
