package config

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"padlock/internal/mask"
)

// YAML is the file that gives this configuration. What is as it would be without being said is left out, and so are
// secrets: their keys have the value REDACTED.
func (c *Config) YAML() ([]byte, error) {
	return yaml.Marshal(c.node())
}

func (c *Config) node() *yaml.Node {
	standard := Default()
	(&validator{}).certificates(standard)
	return structure(reflect.ValueOf(c).Elem(), reflect.ValueOf(standard).Elem())
}

// unsaid is what validation makes of a structure in which nothing is said.
func unsaid(t reflect.Type) reflect.Value {
	v := reflect.New(t)

	// Errors about what is missing are ignored: only the defaults are wanted.
	check := &validator{}
	switch x := v.Interface().(type) {
	case *Route:
		check.upstream("", &x.Upstream, []string{"http"})
		check.upgrades("", x)
	case *TCP:
		check.tcp("", &Site{TCP: x})
	case *Health:
		check.health("", x, true)
	case *Redirect:
		check.redirect("", x)
	case *Respond:
		check.respond("", x)
	case *APIKeys:
		check.apiKeys("", x)
	case *JWT:
		check.jwt("", x)
	case *ForwardAuth:
		check.forwardAuth("", x)
	case *CORS:
		check.cors("", x)
	case *SecurityHeaders:
		check.securityHeaders("", x)
	case *RateLimit:
		check.rateLimit("", x)
	case *Files:
		check.files("", x)
	case *Compress:
		check.compress("", x)
	case *Mirror:
		check.mirror("", &Route{Mirror: x})
	case *Inspect:
		check.inspect("", x)
	case *OnDemand:
		check.onDemand("", x)
	case *Docker:
		// With this default, an endpoint that DOCKER_HOST names differs from it and is printed.
		x.Endpoint = defaultEngine
		check.docker("", x)
	}

	return v.Elem()
}

const redaction = "REDACTED"

// structure has the keys whose values are others than those of the standard.
func structure(v, standard reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		field, tag := v.Field(i), v.Type().Field(i).Tag
		key := tag.Get("yaml")
		if key == ",inline" {
			n.Content = append(n.Content, structure(field, standard.Field(i)).Content...)
			continue
		}

		if reflect.DeepEqual(field.Interface(), standard.Field(i).Interface()) {
			continue
		}

		value := encode(field, standard.Field(i))
		if tag.Get("secret") != "" {
			value = redacted(field)
		} else if tag.Get("mask") == "url" && field.Kind() == reflect.String {
			value = text(mask.URL(field.String()))
		}

		n.Content = append(n.Content, text(key), value)
	}
	return n
}

// redacted keeps the names of several secrets.
func redacted(field reflect.Value) *yaml.Node {
	if field.Kind() != reflect.Map {
		return text(withoutSecret(field.String()))
	}
	names := map[string]string{}
	for _, name := range field.MapKeys() {
		names[name.String()] = redaction
	}
	n := new(yaml.Node)
	_ = n.Encode(names) // texts by texts
	return n
}

// withoutSecret leaves of a URL all but its password, and of anything else but a path nothing.
func withoutSecret(value string) string {
	if u, err := url.Parse(value); err == nil && u.Host != "" {
		return mask.URL(value)
	}
	if strings.HasPrefix(value, "/") || strings.HasPrefix(value, "file:") {
		return value
	}
	return redaction
}

func text(s string) *yaml.Node {
	n := new(yaml.Node)
	n.SetString(s)
	return n
}

func encode(v, standard reflect.Value) *yaml.Node {
	if n := word(v, standard); n != nil {
		return n
	}
	if n := written(v.Interface()); n != nil {
		return n
	}
	return encodeKind(v, standard)
}

// word is the short form of a structure that has one; nil: it is written in full.
func word(v, standard reflect.Value) *yaml.Node {
	switch value := v.Interface().(type) {
	case Backend:
		if value.Weight <= 1 {
			return text(value.Target.String())
		}
	case Issuer:
		if value == (Issuer{Name: value.Name}) {
			return text(value.Name)
		}
	case Admin:
		if reflect.DeepEqual(value, Admin{Address: value.Address}) {
			return text(value.Address)
		}
	case Compress:
		if value.Off || reflect.DeepEqual(value, standard.Interface()) {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(!value.Off)}
		}
	case Inspect:
		if value.Off || reflect.DeepEqual(value, standard.Interface()) {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(!value.Off)}
		}
	case Maintenance:
		if reflect.DeepEqual(value, Maintenance{On: value.On}) {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value.On)}
		}
	case SecurityHeaders:
		switch {
		case reflect.DeepEqual(value, SecurityHeaders{Preset: "strict"}):
			return text("strict")
		case value.Off || reflect.DeepEqual(value, standard.Interface()):
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(!value.Off)}
		}
	case HSTS:
		if value.Off {
			return text("off")
		}
	case PassiveHealth:
		if value.Off {
			return text("off")
		}
	case KeepAlive:
		if value.Off {
			return text("off")
		}
	}
	return nil
}

// written is a value that has a text, or a form, of its own; nil: it is encoded by its kind.
func written(of any) *yaml.Node {
	switch value := of.(type) {
	case Target:
		return text(value.String())
	case Network:
		return text(value.String())
	case time.Duration:
		return text(value.String())
	case FieldValues:
		return value.node()
	case Replacements:
		return value.node()
	case encoding.TextMarshaler:
		b, _ := value.MarshalText() // sizes
		return text(string(b))
	}
	return nil
}

func encodeKind(v, standard reflect.Value) *yaml.Node {
	switch v.Kind() {
	case reflect.Pointer:
		return encode(v.Elem(), unsaid(v.Type().Elem()))
	case reflect.Struct:
		return structure(v, standard)
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, encode(v.Index(i), unsaid(v.Type().Elem())))
		}
		return n
	case reflect.Map:
		n := new(yaml.Node)
		_ = n.Encode(v.Interface()) // texts by texts
		return n
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}
	case reflect.Int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(v.Int(), 10)}
	case reflect.Float64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: strconv.FormatFloat(v.Float(), 'g', -1, 64)}
	}
	return text(fmt.Sprint(v.Interface()))
}

// node has a list where a name has several values.
func (f FieldValues) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i, field := range f {
		if i > 0 && f[i-1].Name == field.Name {
			last := &n.Content[len(n.Content)-1]
			if (*last).Kind != yaml.SequenceNode {
				*last = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{*last}}
			}
			(*last).Content = append((*last).Content, text(field.Value))
			continue
		}
		n.Content = append(n.Content, text(field.Name), text(field.Value))
	}
	return n
}

// node has a list where something is replaced in a name's value several times.
func (r Replacements) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i, one := range r {
		value := structure(reflect.ValueOf(fromTo{one.From, one.To}), reflect.ValueOf(fromTo{}))
		if i > 0 && r[i-1].Name == one.Name {
			last := &n.Content[len(n.Content)-1]
			if (*last).Kind != yaml.SequenceNode {
				*last = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{*last}}
			}
			(*last).Content = append((*last).Content, value)
			continue
		}
		n.Content = append(n.Content, text(one.Name), value)
	}
	return n
}
