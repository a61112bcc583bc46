package discovery

import (
	"errors"
	"log/slog"
)

// Problem is why something of an owner is not served, or not as it says.
type Problem struct {
	Owner   string // a container's name, or an app's
	Label   string // "": no label in particular
	Message string
	Remedy  string
	Waiting bool // nothing is wrong: the container is not ready yet
	Works   bool // nothing is wrong yet: the label is used
}

func (p Problem) Error() string {
	text := p.Message
	if p.Label != "" {
		text = p.Label + ": " + text
	}
	return text
}

// trouble is a problem with a label of a container that the caller names.
func trouble(label, message, remedy string) error {
	return Problem{Label: label, Message: message, Remedy: remedy}
}

// of names container and label of a problem. key is the label that it is with if the error does not say.
func of(err error, container, prefix, key string) Problem {
	p := Problem{Message: err.Error()}
	errors.As(err, &p)
	p.Owner = container
	if p.Label == "" {
		p.Label = key
	}
	p.Label = prefix + p.Label
	return p
}

// journal logs problems once, as long as they are the same.
type journal struct {
	log    *slog.Logger
	logged map[Problem]bool
}

func (j *journal) report(problems []Problem) {
	now := map[Problem]bool{}
	for _, p := range problems {
		if now[p] = true; j.logged[p] {
			continue
		}
		if p.Remedy == "" && !p.Waiting {
			p.Remedy = "correct the label or take it off; docs/discovery.md has a table of all labels"
		}

		attributes := []any{"container", p.Owner}
		for _, a := range []struct{ key, value string }{{"label", p.Label}, {"reason", p.Message}, {"remedy", p.Remedy}} {
			if a.value != "" {
				attributes = append(attributes, a.key, a.value)
			}
		}

		switch {
		case p.Waiting:
			j.log.Info("a container is not served yet", attributes...)
		case p.Works:
			j.log.Warn("a label of a container has another name now", attributes...)
		default:
			j.log.Warn("labels of a container cannot be used", attributes...)
		}
	}
	j.logged = now
}
