package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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

// quoted is a word for a POSIX shell. What is within single quotes means itself.
func quoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func curl(r *Request) string {
	var b strings.Builder
	data := r.In.Data
	binary := len(data) > 0 && !Readable(data)
	if binary {
		b.WriteString("printf %s " + quoted(base64.StdEncoding.EncodeToString(data)) + " | base64 -d | ")
	}
	b.WriteString("curl")
	switch {
	case r.Method == "HEAD":
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
	if len(data) > 0 {
		// From standard input HTTPie takes content as it is.
		b.WriteString("printf %s " + quoted(base64.StdEncoding.EncodeToString(data)) + " | base64 -d | ")
	}
	b.WriteString("http --path-as-is ")
	if len(data) == 0 {
		b.WriteString("--ignore-stdin ")
	}
	b.WriteString(quoted(r.Method) + " " + quoted(r.URL()))
	for _, f := range r.repeated() {
		if f.Value == "" {
			b.WriteString(" \\\n  " + quoted(f.Name+";"))
			continue
		}
		b.WriteString(" \\\n  " + quoted(f.Name+":"+f.Value))
	}
	return b.String()
}

// literal is a text for JavaScript, and for Python, which both read what JSON says.
func literal(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text always has JSON
	return strings.TrimRight(b.String(), "\n")
}

func fetch(r *Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "await fetch(%s, {\n  method: %s,\n  headers: [\n", literal(r.URL()), literal(r.Method))
	for _, f := range r.repeated() {
		fmt.Fprintf(&b, "    [%s, %s],\n", literal(f.Name), literal(f.Value))
	}
	b.WriteString("  ],\n")
	switch data := r.In.Data; {
	case len(data) == 0:
	case Readable(data):
		fmt.Fprintf(&b, "  body: %s,\n", literal(string(data)))
	default:
		fmt.Fprintf(&b, "  body: Uint8Array.from(atob(%s), (c) => c.charCodeAt(0)),\n", literal(base64.StdEncoding.EncodeToString(data)))
	}
	b.WriteString("});")
	return b.String()
}

func python(r *Request) string {
	var b strings.Builder
	b.WriteString("import base64\nimport urllib.request\n\n")
	fmt.Fprintf(&b, "request = urllib.request.Request(%s, method=%s)\n", literal(r.URL()), literal(r.Method))
	for _, f := range r.repeated() {
		// A second line of a name would take the place of the first.
		fmt.Fprintf(&b, "request.add_header(%s, %s)\n", literal(f.Name), literal(f.Value))
	}
	if len(r.In.Data) > 0 {
		fmt.Fprintf(&b, "request.data = base64.b64decode(%s)\n", literal(base64.StdEncoding.EncodeToString(r.In.Data)))
	}
	b.WriteString("with urllib.request.urlopen(request) as response:\n    print(response.status, response.read())")
	return b.String()
}

// HTTPFile is requests as the .http files of editors have them.
func HTTPFile(all []*Request) []byte {
	var b bytes.Buffer
	for _, r := range all {
		fmt.Fprintf(&b, "### #%d, %s: %d\n%s %s\n", r.ID, r.Start.UTC().Format("2006-01-02 15:04:05"), r.Status, r.Method, r.URL())
		for _, f := range r.repeated() {
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
		switch {
		case len(r.In.Data) == 0:
		case Readable(r.In.Data):
			fmt.Fprintf(&b, "\n%s\n", r.In.Data)
		default:
			fmt.Fprintf(&b, "\n# %d bytes that are no text\n", r.In.Size)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
