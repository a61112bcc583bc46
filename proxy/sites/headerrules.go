package sites

import (
	"slices"
	"strings"

	"padlock/config"
	"padlock/config/template"
	"padlock/proxy/message"
)

// HeaderRules change fields: first they remove, then replace, then set, then add.
type HeaderRules struct {
	Request, Response FieldChanges
	AltSvc            bool // a target's Alt-Svc is kept
}

type FieldChanges struct {
	remove   []fieldName
	replace  []fieldReplacement
	set, add []fieldTemplate
}

// fieldReplacement puts a text into the place of another, wherever that stands in a field's value.
type fieldReplacement struct {
	fieldName
	from, to template.Template
}

// fieldName is a name, and what backends of CGI's kind make of it.
type fieldName struct{ name, plain string }

func newFieldName(name string) fieldName {
	plain, _ := message.Alias(name)
	return fieldName{name, plain}
}

// is reports whether another name is this one, or with aliases passes for it.
func (n *fieldName) is(other string, aliases bool) bool {
	if aliases {
		other, _ = message.Alias(other)
		return message.Is(other, n.plain)
	}
	return message.Is(other, n.name)
}

// del removes every line of the name, and of its aliases where a client must not pass them off for it.
func (n *fieldName) del(f *message.Fields, aliases bool) {
	f.DelFunc(func(other string) bool { return n.is(other, aliases) })
}

type fieldTemplate struct {
	fieldName
	value template.Template
	fixed string // the value, where nothing varies
	vary  bool
	leads *Redirect // where a Location that varies leads to; nil: the value is any text
}

func NewHeaderRules(c *config.HeaderRules) HeaderRules {
	compile := func(r *config.FieldRules) FieldChanges {
		changes := FieldChanges{set: fieldTemplates(r.Set), add: fieldTemplates(r.Add)}
		for _, name := range r.Remove {
			changes.remove = append(changes.remove, newFieldName(name))
		}

		for _, v := range r.Replace {
			from, _ := template.Parse(v.From) // were validated
			to, _ := template.Parse(v.To)
			changes.replace = append(changes.replace, fieldReplacement{newFieldName(v.Name), from, to})
		}

		return changes
	}
	keep := slices.ContainsFunc(c.Response.Keep, func(name string) bool { return message.Is(name, "Alt-Svc") })
	return HeaderRules{compile(&c.Request), compile(&c.Response.FieldRules), keep}
}

func fieldTemplates(values config.FieldValues) (all []fieldTemplate) {
	for _, v := range values {
		parsed, _ := template.Parse(v.Value) // was validated
		fixed, ok := parsed.Fixed()
		field := fieldTemplate{fieldName: newFieldName(v.Name), value: parsed, fixed: fixed, vary: !ok}
		if message.Is(v.Name, "Location") && field.vary {
			field.leads = newRedirect(&config.Redirect{To: v.Value})
		}
		all = append(all, field)
	}
	return all
}

// Texts fills in what varies from one request to the next.
type Texts interface {
	Expand(t template.Template) string
	// Location is where a redirect leads. It is false where that is no host, as a client may have had a hand in it.
	Location(to *Redirect) (string, bool)
}

// Apply changes fields; aliases tells whether to change what passes for them as well.
func (c *FieldChanges) Apply(x Texts, f *message.Fields, aliases bool) {
	for i := range c.remove {
		c.remove[i].del(f, aliases)
	}

	for i := range c.replace {
		c.replace[i].apply(x, *f, aliases)
	}

	for i := range c.set {
		// All of the names are deleted first, as a name may be set to several values.
		c.set[i].del(f, aliases)
	}

	for _, list := range [...][]fieldTemplate{c.set, c.add} {
		for i := range list {
			value := list[i].fixed
			switch {
			case list[i].leads != nil:
				value, _ = x.Location(list[i].leads)
			case list[i].vary:
				value = x.Expand(list[i].value)
			}
			f.Add(list[i].name, value)
		}
	}
}

func (r *fieldReplacement) apply(x Texts, f message.Fields, aliases bool) {
	for i := range f {
		if r.is(f[i].Name, aliases) {
			f[i].Value = strings.ReplaceAll(f[i].Value, x.Expand(r.from), x.Expand(r.to))
		}
	}
}

// Owns reports whether a field is the configuration's: it takes it away, or says what it is. Then no trailer has it
// either, as some readers make one list of head and trailers.
func (c *FieldChanges) Owns(name string, aliases bool) bool {
	for i := range c.remove {
		if c.remove[i].is(name, aliases) {
			return true
		}
	}

	for i := range c.replace {
		if c.replace[i].is(name, aliases) {
			return true
		}
	}

	for i := range c.set {
		if c.set[i].is(name, aliases) {
			return true
		}
	}

	return false
}

// Empty reports whether no field is owned. Fields that are only added are not.
func (c *FieldChanges) Empty() bool { return len(c.remove)+len(c.replace)+len(c.set) == 0 }

// Redirect answers with another address.
type Redirect struct {
	Status            int
	Origin, Reference template.Template
}

func newRedirect(c *config.Redirect) *Redirect {
	to, _ := template.Parse(c.To) // was validated
	origin, reference, _ := to.URL()
	return &Redirect{c.Status, origin, reference}
}
