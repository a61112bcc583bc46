package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"padlock/internal/lazy"
)

// syntaxError says what is wrong with a text that is not YAML, and where. The parser's own errors name the line where
// the mapping, the list or the text began in which it gave up, or one beside it; so the line is found by where the
// text before it still is YAML.
func syntaxError(name string, data []byte, err error) Error {
	place := func(line, column int, format string, args ...any) Error {
		return Error{File: name, Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
	}

	if e, ok := undecodable(data, place); ok {
		return e
	}

	// Editors show neither a byte order mark nor a carriage return, so neither counts as a column.
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	lines := strings.SplitAfter(text, "\n")
	line, stop := troubled(lines)
	s := slip{lines: lines, line: line, stop: stop, reason: strings.TrimPrefix(yamlLine().ReplaceAllString(err.Error(), ""), "yaml: ")}

	// The certain mistakes come first. The later ones are guesses from the lines around.
	for _, look := range []func() (line, column int, message string){s.tab, s.alias, s.reserved, s.quote, s.bracket, s.colon, s.indentation, s.value} {
		if line, column, message := look(); message != "" {
			return place(line, column, "%s", message)
		}
	}

	return place(line, 1+indentOf(s.text()), "not YAML: %s", s.reason)
}

var yamlLine = lazy.Regexp(`line \d+: `)

// undecodable finds what no line of YAML may hold.
func undecodable(data []byte, place func(line, column int, format string, args ...any) Error) (Error, bool) {
	// YAML may be in UTF-16 (YAML 1.2.2 section 5.2), in which every other byte of ASCII text is zero.
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return Error{}, false
	}
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return place(line, column, "the byte 0x%02x is not UTF-8: save the file as UTF-8", data[i]), true
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f:
			return place(line, column, "a control character (0x%02x) stands here: take it away, or write it in double quotes as \"\\x%02x\"", r, r), true
		case r == '\n':
			line, column = line+1, 0
		}
		i, column = i+size, column+1
	}

	return Error{}, false
}

// lineReader gives the parser no more than a line at a time, so that it is known how far it has read.
type lineReader struct {
	lines []string
	given int
	rest  string
}

func (r *lineReader) Read(p []byte) (int, error) {
	for r.rest == "" {
		if r.given == len(r.lines) {
			return 0, io.EOF
		}
		r.rest = r.lines[r.given]
		r.given++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// parses reports whether lines are YAML, and if not how many of them the parser has read.
func parses(lines []string) (ok bool, read int) {
	r := &lineReader{lines: lines}
	err := yaml.NewDecoder(r).Decode(new(yaml.Node))
	return err == nil || errors.Is(err, io.EOF), r.given
}

const maxTried = 32 << 20 // bytes, in looking for the line

// troubled finds the line from which on a text is no YAML, and the line at which the parser stopped, both from 1.
func troubled(lines []string) (line, stop int) {
	_, stop = parses(lines)
	stop = max(stop, 1)
	size := 0
	for _, l := range lines[:stop-1] {
		size += len(l)
	}

	tried := 0
	for good := stop - 1; good > 0; good-- {
		// Each attempt parses all lines before it, which takes quadratic time in a long file.
		if tried += size; tried > maxTried {
			return stop, stop
		}
		if ok, _ := parses(lines[:good]); ok {
			return good + 1, stop
		}
		size -= len(lines[good-1])
	}

	return 1, stop
}

// slip is a line that is no YAML. Its methods look for one mistake each, and say nothing where it is another.
type slip struct {
	lines      []string
	line, stop int
	reason     string // the parser's
}

func (s *slip) text() string { return strings.TrimRight(s.lines[s.line-1], "\r\n") }

func indentOf(text string) int { return len(text) - len(strings.TrimLeft(text, " ")) }

func (s *slip) tab() (line, column int, message string) {
	text := s.text()
	blank := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	at := strings.IndexByte(blank, '\t')
	if at < 0 {
		return
	}
	return s.line, at + 1, "a tab indents this line, and YAML takes spaces only: put two spaces for each level in the place of tabs"
}

// unquoted is a value, or an item of a list, that begins with a character.
func unquoted(text, characters string) (at int, value string) {
	expression := regexp.MustCompile(`(?:^\s*|[:\-]\s+|[\[{,]\s*)([` + characters + `][^\s,\]}]*)`)
	if m := expression.FindStringSubmatchIndex(text); m != nil {
		return m[2], text[m[2]:m[3]]
	}
	return -1, ""
}

func (s *slip) alias() (line, column int, message string) {
	at, value := unquoted(s.text(), `*`)
	if at < 0 {
		return
	}
	return s.line, at + 1, fmt.Sprintf("%s needs quotes, as an unquoted * begins an alias in YAML: write %q", value, value)
}

func (s *slip) reserved() (line, column int, message string) {
	at, value := unquoted(s.text(), "@`%")
	if at < 0 || !strings.Contains(s.reason, "cannot start") && !strings.Contains(s.reason, "directive") {
		return
	}
	return s.line, at + 1, fmt.Sprintf("%s needs quotes, as no value begins with %c in YAML: write %q", value, value[0], value)
}

func (s *slip) quote() (line, column int, message string) {
	text := s.text()
	for _, mark := range []string{`"`, `'`} {
		if strings.Count(strings.ReplaceAll(text, `\`+mark, ""), mark)%2 == 1 && s.stop >= s.line {
			return s.line, strings.Index(text, mark) + 1, fmt.Sprintf("a quote (%s) on this line has no partner: close it, or take it away", mark)
		}
	}
	return
}

func (s *slip) bracket() (line, column int, message string) {
	if strings.Contains(s.reason, "',' or") && openBracket(s.text()) < 0 {
		return s.line, 1 + indentOf(s.text()), "something in the brackets of this line needs a comma before it, or quotes around it"
	}

	open := openBracket(s.text())
	switch {
	case open < 0:
		return
	case openBracket(strings.Join(s.lines[s.line-1:], "")) >= 0:
		return s.line, open + 1, fmt.Sprintf("the %c of this line is never closed", s.text()[open])
	}

	// JSON is YAML too, and the parser of JSON knows the exact place.
	var wrong *json.SyntaxError
	if text := strings.Join(s.lines, ""); errors.As(json.Unmarshal([]byte(text), new(any)), &wrong) && strings.HasPrefix(strings.TrimSpace(text), "{") {
		before := text[:max(wrong.Offset-1, 0)]
		return 1 + strings.Count(before, "\n"), len(before) - strings.LastIndexByte(before, '\n'), "not JSON: " + wrong.Error()
	}

	at := s.lines[s.stop-1]
	return s.stop, 1 + indentOf(at), fmt.Sprintf("inside the %c of line %d, something here needs a comma before it, or quotes around it", s.text()[open], s.line)
}

// openBracket is where the last [ or { of a text begins that the text does not close; -1: none.
func openBracket(text string) int {
	var open []int
	var quote rune
	comment := false
	for i, c := range text {
		switch {
		case c == '\n':
			comment = false
		case comment:
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		// A # begins a comment only at the start or behind a blank (YAML 1.2.2 section 6.6).
		case c == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\n'):
			comment = true
		case c == '[' || c == '{':
			open = append(open, i)
		case (c == ']' || c == '}') && len(open) > 0:
			open = open[:len(open)-1]
		}
	}

	if len(open) == 0 {
		return -1
	}

	return open[len(open)-1]
}

var withoutBlank = lazy.Regexp(`^ *-([A-Za-z_]+:.*)$`)

var withoutColon = lazy.Regexp(`^([a-z0-9_]+)[ =]+(\S.*)$`)

// colon finds a key on the line before that has no colon, or an item without a blank behind its -, with which this
// line seems to go on.
func (s *slip) colon() (line, column int, message string) {
	before := s.before()
	if before == 0 {
		return
	}
	text := strings.TrimRight(s.lines[before-1], "\r\n ")
	rest := strings.TrimLeft(text, " -")
	if m := withoutBlank().FindStringSubmatch(text); m != nil {
		return before, 1 + indentOf(text), fmt.Sprintf("no blank follows the - of an item: write - %s", m[1])
	}
	if m := withoutColon().FindStringSubmatch(rest); m != nil && !strings.Contains(rest, ": ") && !strings.HasSuffix(rest, ":") {
		return before, len(text) - len(rest) + 1, fmt.Sprintf("%s has no colon: write %s: %s", m[1], m[1], m[2])
	}

	return
}

// before is the line with content that is nearest above; 0: none.
func (s *slip) before() int {
	for i := s.line - 1; i > 0; i-- {
		if rest := strings.TrimSpace(s.lines[i-1]); rest != "" && rest[0] != '#' {
			return i
		}
	}
	return 0
}

// indentation compares with the lines above what keys and items can stand under.
func (s *slip) indentation() (line, column int, message string) {
	indent, before := indentOf(s.text()), s.before()
	if before == 0 {
		return
	}

	columns := openColumns(s.lines[:before])
	deepest := columns[len(columns)-1]
	above := strings.TrimSpace(s.lines[before-1])
	if indent > deepest && !strings.HasSuffix(above, ":") && above != "-" {
		return s.line, indent + 1, fmt.Sprintf("indented by %s, deeper than line %d, which has a value already: %s would stand beside it", spaces(indent), before, spaces(deepest))
	}

	for i, c := range columns {
		if c == indent {
			break
		}
		if c > indent && i > 0 {
			return s.line, indent + 1, fmt.Sprintf("indented by %s, which fits nothing above: %d or %s would", spaces(indent), columns[i-1], spaces(c))
		}
	}

	return
}

// openColumns are where the mappings and lists begin that are open behind some lines, the outermost first.
func openColumns(lines []string) (columns []int) {
	for _, l := range lines {
		rest := strings.TrimLeft(l, " ")
		if trimmed := strings.TrimSpace(rest); trimmed == "" || trimmed[0] == '#' {
			continue
		}

		at := indentOf(l)
		for len(columns) > 0 && columns[len(columns)-1] > at {
			columns = columns[:len(columns)-1]
		}

		// The first key of an item opens a mapping on the same line, in a column of its own.
		for {
			if len(columns) == 0 || columns[len(columns)-1] < at {
				columns = append(columns, at)
			}
			item := strings.TrimLeft(strings.TrimPrefix(rest, "-"), " ")
			if !strings.HasPrefix(rest, "- ") || item == "" {
				break
			}
			at, rest = at+len(rest)-len(item), item
		}
	}

	return columns
}

func spaces(n int) string {
	if n == 1 {
		return "1 space"
	}
	return fmt.Sprintf("%d spaces", n)
}

// value finds one with a colon in it.
func (s *slip) value() (line, column int, message string) {
	text := s.text()
	_, value, ok := strings.Cut(strings.TrimLeft(text, " -"), ": ")
	if value = strings.TrimSpace(value); !ok || value == "" || !strings.Contains(s.reason, "mapping values") {
		return
	}
	if strings.HasSuffix(value, ":") {
		return s.line, strings.LastIndex(text, value) + 1, fmt.Sprintf("%q ends in a colon: write what belongs behind it, such as a port, or quotes around it", value)
	}
	return s.line, strings.LastIndex(text, value) + 1, fmt.Sprintf("a value in which a blank follows a colon needs quotes: write %q", value)
}
