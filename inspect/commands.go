package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Formats are what a request can be copied as.
func Formats() []string { return []string{"curl", "httpie", "fetch", "python"} }

// Command is a command, or a piece of a program, that sends a request. ok is false where there is no such format.
func Command(format string, r *Request) (text string, ok bool) {
	make, ok := map[string]func(*Request) string{"curl": curl, "httpie": httpie, "fetch": fetch, "python": python}[format]
	if !ok {
		return "", false
	}
	text = make(r)
	if r.In.Cut {
		note := "#"
		if format == "fetch" {
			note = "//"
		}
		text = fmt.Sprintf("%s only the first %d of %d bytes of the content are known\n", note, len(r.In.Data), r.In.Size) + text
	}
	return text, true
}

// URL is where the client has sent a request.
func (r *Request) URL() string {
	if !strings.HasPrefix(r.Target, "/") {
		return r.Scheme + "://" + r.Host
	}
	return r.Scheme + "://" + r.Host + r.Target
}

// repeated are the fields that whoever sends a request again has to give.
func (r *Request) repeated() (fields []Field) {
	for _, f := range r.Received {
		if name := strings.ToLower(f.Name); !slices.Contains(ofConnection, name) && name != "host" {
			fields = append(fields, f)
		}
	}
	return fields
}

// typed reports whether a text can be pasted into a terminal or an editor: it has nothing that a line editor, or the
// terminal, would take for a key, else a client's text could move the cursor out of its quotes; and nothing that is
// invisible or turns the direction of text, else it could look like something else.
func typed(s string) bool {
	for i, r := range s {
		if r == utf8.RuneError && s[i] != "\uFFFD"[0] || r != '\n' && !unicode.IsGraphic(r) {
			return false
		}
	}
	return true
}

// quoted is a word for a POSIX shell. What is within single quotes means itself.
func quoted(s string) string {
	if typed(s) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}

	// printf puts back what cannot be pasted.
	var b strings.Builder
	b.WriteString(`"$(printf '`)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '%':
			b.WriteString("%%")
		case c < ' ' || c >= 0x7f || c == '\'' || c == '\\':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteString(`')"`)
	return b.String()
}

// piped is a command that has content on its standard input, whatever bytes it is of.
func piped(data []byte) string {
	return "printf %s " + quoted(base64.StdEncoding.EncodeToString(data)) + " | base64 -d | "
}

func curl(r *Request) string {
	var b strings.Builder
	data := r.In.Data
	binary := len(data) > 0 && (!Readable(data) || !typed(string(data)))
	if binary {
		b.WriteString(piped(data))
	}
	b.WriteString("curl")
	switch {
	case r.Method == "HEAD" && len(data) == 0:
		b.WriteString(" --head")
	case r.Method != "GET" || len(data) > 0:
		b.WriteString(" -X " + quoted(r.Method))
	}
	// Brackets and braces of the address mean themselves.
	b.WriteString(" --globoff --path-as-is " + quoted(r.URL()))
	for _, f := range r.repeated() {
		if f.Value == "" {
			// With a colon, curl would leave the field out.
			b.WriteString(" \\\n  -H " + quoted(f.Name+";"))
			continue
		}
		b.WriteString(" \\\n  -H " + quoted(f.Name+": "+f.Value))
	}
	if len(data) > 0 && Value(r.Received, "Content-Type") == "" {
		// Else curl says that content is a form.
		b.WriteString(" \\\n  -H 'Content-Type:'")
	}
	if Value(r.Received, "Accept-Encoding") != "" {
		b.WriteString(" \\\n  --compressed")
	}
	switch {
	case binary:
		b.WriteString(" \\\n  --data-binary @-")
	case len(data) > 0:
		b.WriteString(" \\\n  --data-raw " + quoted(string(data)))
	}
	return b.String()
}

func httpie(r *Request) string {
	var b strings.Builder
	data := r.In.Data
	for _, f := range r.repeated() {
		if loses(f.Value) {
			b.WriteString("# HTTPie takes a backslash out of the value of " + f.Name + "\n")
		}
	}
	if len(data) > 0 {
		// From standard input HTTPie takes content as it is.
		b.WriteString(piped(data))
	}
	b.WriteString("http --path-as-is ")
	if len(data) == 0 {
		b.WriteString("--ignore-stdin ")
	}
	// Behind two dashes nothing is an option, whatever a client calls its fields.
	b.WriteString("-- " + quoted(r.Method) + " " + quoted(r.URL()))
	for _, f := range r.repeated() {
		item := f.Name + ";"
		if f.Value != "" {
			item = f.Name + ":" + httpieValue(f.Value)
		}
		b.WriteString(" \\\n  " + quoted(item))
	}
	return b.String()
}

// loses reports whether HTTPie takes a backslash for its own: before what could stand behind a name.
func loses(value string) bool {
	for i := 1; i < len(value); i++ {
		if value[i-1] == '\\' && strings.IndexByte("=@:;", value[i]) >= 0 {
			return true
		}
	}
	return false
}

// httpieValue keeps HTTPie from taking the beginning of a value for a part of what stands between it and its name:
// behind name:@ it would read a file.
func httpieValue(value string) string {
	if strings.IndexByte("=@:;", value[0]) >= 0 {
		return `\` + value
	}
	return value
}

// literal is a text for JavaScript, and for Python, which both read what JSON says.
func literal(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text always has JSON
	return strings.TrimRight(b.String(), "\n")
}

// bytesLiteral is the value of a field for JavaScript and for Python, which send each character as one byte: that of
// ISO 8859-1.
func bytesLiteral(s string) string {
	if strings.Contains(s, Hidden) {
		// It stands for a value, and is read by people.
		return literal(s)
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			fmt.Fprintf(&b, `\u%04x`, c)
		} else if c == '"' || c == '\\' {
			b.WriteString(`\` + string(c))
		} else {
			b.WriteByte(c)
		}
	}
	return `"` + b.String() + `"`
}

// address is the URL for JavaScript and for Python: in ASCII, as fetch sends it, and as Python requires it.
func (r *Request) address() string {
	url := r.URL()
	if strings.Contains(url, Hidden) {
		return url
	}
	var b strings.Builder
	for i := range len(url) {
		if c := url[i]; c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func fetch(r *Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "await fetch(%s, {\n  method: %s,\n  headers: [\n", literal(r.address()), literal(r.Method))
	for _, f := range r.repeated() {
		fmt.Fprintf(&b, "    [%s, %s],\n", literal(f.Name), bytesLiteral(f.Value))
	}
	b.WriteString("  ],\n")
	switch data := r.In.Data; {
	case len(data) == 0:
	case Readable(data) && typed(string(data)):
		fmt.Fprintf(&b, "  body: %s,\n", literal(string(data)))
	default:
		fmt.Fprintf(&b, "  body: Uint8Array.from(atob(%s), (c) => c.charCodeAt(0)),\n", literal(base64.StdEncoding.EncodeToString(data)))
	}
	b.WriteString("});")
	return b.String()
}

// joined has each name once, with all of its values: add_header of Python replaces the value that a name had.
func joined(fields []Field) (once []Field) {
	for _, f := range fields {
		i := slices.IndexFunc(once, func(o Field) bool { return strings.EqualFold(o.Name, f.Name) })
		if i < 0 {
			once = append(once, f)
			continue
		}
		separator := ", "
		if strings.EqualFold(f.Name, "Cookie") {
			separator = "; "
		}
		once[i].Value += separator + f.Value
	}
	return once
}

func python(r *Request) string {
	var b strings.Builder
	b.WriteString("import base64\nimport urllib.request\n\n")
	fmt.Fprintf(&b, "request = urllib.request.Request(%s, method=%s)\n", literal(r.address()), literal(r.Method))
	for _, f := range joined(r.repeated()) {
		fmt.Fprintf(&b, "request.add_header(%s, %s)\n", literal(f.Name), bytesLiteral(f.Value))
	}
	if len(r.In.Data) > 0 {
		fmt.Fprintf(&b, "request.data = base64.b64decode(%s)\n", literal(base64.StdEncoding.EncodeToString(r.In.Data)))
	}
	b.WriteString("with urllib.request.urlopen(request) as response:\n    print(response.status, response.read())")
	return b.String()
}

// HTTPFile is requests as the .http files of editors have them. What would be more than text there is left out: a file
// that is read, a script that is run, a variable, another request.
func HTTPFile(all []*Request) []byte {
	var b bytes.Buffer
	for _, r := range all {
		url := strings.ReplaceAll(r.URL(), "{{", "%7B%7B")
		fmt.Fprintf(&b, "### #%d, %s: %d\n%s %s\n", r.ID, r.Start.UTC().Format("2006-01-02 15:04:05"), r.Status, r.Method, url)
		var left []string
		for _, f := range r.repeated() {
			if strings.Contains(f.Name+f.Value, "{{") {
				left = append(left, f.Name)
				continue
			}
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
		for _, name := range left {
			fmt.Fprintf(&b, "# left out, as it has a variable of such files in it: %s\n", name)
		}
		switch {
		case len(r.In.Data) == 0:
		case !Readable(r.In.Data):
			fmt.Fprintf(&b, "\n# left out: %d bytes that are no text\n", r.In.Size)
		case means(r.In.Data):
			fmt.Fprintf(&b, "\n# left out: %d bytes that mean something else in such files\n", r.In.Size)
		default:
			fmt.Fprintf(&b, "\n%s\n", r.In.Data)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// means reports whether content would be more than content in an .http file.
func means(data []byte) bool {
	if bytes.Contains(data, []byte("{{")) || bytes.Contains(data, []byte("{%")) {
		return true
	}
	for line := range bytes.FieldsFuncSeq(data, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = bytes.TrimLeft(line, " \t\f")
		for _, sign := range []string{"###", "<", ">", "#", "//", "@", "HTTP/"} {
			if bytes.HasPrefix(line, []byte(sign)) {
				return true
			}
		}
	}
	return false
}
