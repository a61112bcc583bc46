package inspect

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/url"
	"strings"
)

// masking replaces secrets in texts, and notes what they were.
type masking struct {
	names names
	mask  string   // that stands for each
	taken []string // what it stands for, in their order
}

// query masks the parameters of a target or a URL.
func (m *masking) query(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target
	}
	return path + "?" + m.pairs(query)
}

// pairs masks the values of a form.
func (m *masking) pairs(form string) string {
	if !m.hasName(form) {
		return form
	}
	all := strings.Split(form, "&")
	for i, pair := range all {
		name, value, ok := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); ok && value != Redacted && err == nil && m.names.has(plain) {
			m.taken = append(m.taken, value)
			all[i] = name + "=" + m.mask
		}
	}
	return strings.Join(all, "&")
}

// hasName is false only where no pair is a secret: most texts have none, and are not taken to pieces.
func (m *masking) hasName(form string) bool {
	for pair := range strings.SplitSeq(form, "&") {
		name, _, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if strings.ContainsAny(name, "%+") || m.names.has(name) {
			return true
		}
	}
	return false
}

// json masks the values of members, wherever they stand. The text may be cut, may have other text around it, and need
// not be valid: what could be a member is one.
func (m *masking) json(text []byte) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(text); {
		if text[i] != '"' {
			i++
			continue
		}
		end := nameEnd(text, i)
		value := skipBlanks(text, end)
		if end == 0 || value >= len(text) || text[value] != ':' {
			i++
			continue
		}
		value = skipBlanks(text, value+1)
		if !m.names.has(unquoted(text[i:end])) || value >= len(text) {
			i = value
			continue
		}

		last := valueEnd(text, value)
		if was := string(text[value:last]); was != `"`+Redacted+`"` {
			m.taken = append(m.taken, was)
			out = append(append(out, text[done:value]...), `"`+m.mask+`"`...)
			done = last
		}
		i = last
	}
	if done == 0 {
		return text
	}
	return append(out, text[done:]...)
}

// maxName bounds what is looked through for the end of a name: else a text of quotes would be read as often as it has
// some.
const maxName = 256

// nameEnd is stringEnd for a name; 0: it has none.
func nameEnd(text []byte, at int) int {
	most := min(len(text), at+maxName)
	end := stringEnd(text[:most], at)
	if text[end-1] != '"' || end == at+1 {
		return 0
	}
	return end
}

// stringEnd is behind the quote that closes a string, or the end.
func stringEnd(text []byte, at int) int {
	for i := at + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

func skipBlanks(text []byte, at int) int {
	for at < len(text) && strings.IndexByte(" \t\r\n", text[at]) >= 0 {
		at++
	}
	return at
}

// valueEnd is behind a value: a string, a list or an object with all that is in it, or a word.
func valueEnd(text []byte, at int) int {
	depth := 0
	for i := at; i < len(text); {
		switch text[i] {
		case '"':
			i = stringEnd(text, i)
		case '[', '{':
			depth++
			i++
		case ']', '}':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return i
		}
	}
	return len(text)
}

// unquoted is the text of a JSON string.
func unquoted(s []byte) string {
	if bytes.IndexByte(s, '\\') >= 0 {
		var plain string
		if json.Unmarshal(s, &plain) == nil {
			return plain
		}
	}
	return strings.Trim(string(s), `"`)
}

// multipart masks the parts of a form whose names are secret (RFC 7578).
func (m *masking) multipart(data []byte, boundary string) []byte {
	if boundary == "" {
		return data
	}
	mark := []byte("--" + boundary)
	parts := bytes.Split(data, mark)
	changed := false
	for i, part := range parts {
		head, content, ok := bytes.Cut(part, []byte("\r\n\r\n"))
		if !ok || !m.names.has(partName(head)) || string(content) == Redacted+"\r\n" {
			continue
		}
		changed = true
		m.taken = append(m.taken, string(bytes.TrimSuffix(content, []byte("\r\n"))))
		parts[i] = bytes.Join([][]byte{head, []byte("\r\n\r\n" + m.mask + "\r\n")}, nil)
	}
	if !changed {
		return data
	}
	return bytes.Join(parts, mark)
}

// partName is the name of a field in a multipart form.
func partName(head []byte) string {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := strings.Cut(string(line), ":")
		if !equal(strings.TrimSpace(name), "Content-Disposition") {
			continue
		}
		if _, parameters, err := mime.ParseMediaType(value); err == nil {
			return parameters["name"]
		}
	}
	return ""
}

// content masks what is known of a message's content, by its type. Content that is coded stays as it is.
func (m *masking) content(fields []Field, data []byte) []byte {
	kind, parameters, err := mime.ParseMediaType(Value(fields, "Content-Type"))
	switch {
	case len(data) == 0:
	case err == nil && kind == "application/x-www-form-urlencoded":
		return []byte(m.pairs(string(data)))
	case err == nil && kind == "multipart/form-data":
		return m.multipart(data, parameters["boundary"])
	default:
		// A byte that is no text hides nothing of the members beside it.
		return m.json(data)
	}
	return data
}

// restore puts back what was taken from a text that somebody has edited since. ok is false where it has more or fewer
// places for it than were left.
func (m *masking) restore(text string) (was string, ok bool) {
	if len(m.taken) == 0 || !strings.Contains(text, m.mask) {
		return text, true
	}
	if strings.Count(text, m.mask) != len(m.taken) {
		return "", false
	}
	for _, value := range m.taken {
		before, after, _ := strings.Cut(text, m.mask)
		// The mask of a member stands between quotes, which are its value's own.
		if head, ok := strings.CutSuffix(before, `"`); ok && strings.HasPrefix(after, `"`) {
			before, after = head, after[1:]
		}
		was, text = was+before+value, after
	}
	return was + text, true
}
