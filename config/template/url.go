package template

import (
	"fmt"
	"strings"
)

// URL divides a template for a URL into its origin, such as https://{host}:8443, and what follows: a path, a
// query, or nothing. The origin is empty where the template begins with a path. A variable that a client fills
// as it likes cannot stand in an origin.
func (t Template) URL() (origin, reference Template, err error) {
	first, absolute := t.parts[0].text, false
	if at := strings.Index(first, "://"); at >= 0 && !strings.ContainsAny(first[:at], "/?#") {
		absolute = true
	}
	if !absolute {
		return Template{}, t, nil
	}

	for i, p := range t.parts {
		switch {
		case p.variable == URI || p.variable == Path: // begins with a slash
			return Template{t.parts[:i]}, Template{t.parts[i:]}, nil
		case p.variable == Host:
			continue
		case p.variable != none:
			return origin, reference, fmt.Errorf("{%s} cannot stand in the name of a host: a client would choose it", names[p.variable])
		}

		text, skip := p.text, 0
		if i == 0 {
			skip = strings.Index(text, "://") + len("://")
		}

		if end := strings.IndexAny(text[skip:], `/?#\`); end >= 0 {
			end += skip
			head := append(append([]part{}, t.parts[:i]...), part{text: text[:end]})
			tail := append([]part{{text: text[end:]}}, t.parts[i+1:]...)
			return Template{head}, Template{tail}, nil
		}
	}

	return t, Template{}, nil
}
