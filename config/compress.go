package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"padlock/internal/coding"
)

const (
	compressMin = 1 << 10  // shorter content gains nothing that fits fewer packets
	maxMin      = 64 << 10 // of the smallest response, as much is read before the head is sent
)

// compressible are the types of content that is not compressed itself.
var compressible = []string{
	"text/*", "application/*json", "application/*xml", "application/*javascript", "application/*yaml", "application/wasm", "image/svg+xml", "image/x-icon",
	"font/otf", "font/ttf",
}

func (v *validator) compress(path string, c *Compress) {
	if c.Off {
		if !reflect.DeepEqual(*c, Compress{Off: true}) {
			v.fail(path, "off goes with nothing else")
		}
		return
	}

	if c.Prefer == nil {
		c.Prefer = coding.All()
	}
	for i, name := range c.Prefer {
		at := fmt.Sprintf("%s.prefer[%d]", path, i)
		v.oneOf(at, name, coding.All()...)
		if slices.Contains(c.Prefer[:i], name) {
			v.fail(at, "%s is given twice", name)
		}
	}

	if standard(&c.Min, compressMin); c.Min > maxMin {
		v.fail(path+".min", "%d is more than 64KiB: padlock reads as much before it sends anything", c.Min)
	}
	if c.Types == nil {
		c.Types = compressible
	}
	for i, kind := range c.Types {
		if main, sub, ok := strings.Cut(kind, "/"); !ok || !isToken(main) || !isToken(sub) || strings.Count(kind, "*") > 1 {
			v.fail(fmt.Sprintf("%s.types[%d]", path, i), "%q is not a type of content such as text/html, text/* or application/*+json", kind)
		}
	}

	standard(&c.Level, "default")
	standard(&c.Cookies, "same_site")
	v.oneOf(path+".level", c.Level, "fast", "default", "best")
	v.oneOf(path+".cookies", c.Cookies, "same_site", "always", "never")
}

// codings refuses rules for what compression decides.
func (v *validator) codings(path string, s *Site) {
	for i := range s.Routes {
		r := &s.Routes[i]
		at, c := fmt.Sprintf("%s.routes[%d]", path, i), r.Compress
		if c == nil {
			c = s.Compress
		}
		if c == nil || c.Off {
			continue
		}

		for _, rules := range []struct {
			where string
			rules *FieldRules
		}{{path, &s.Fields.Response.FieldRules}, {at, &r.Fields.Response.FieldRules}} {
			if rules.rules.names("Content-Encoding") {
				v.fail(rules.where+".headers.response", "changes Content-Encoding, which compress decides: take the rule away, or give the route compress: false")
			}
		}
	}
}

// names reports whether rules change a field.
func (r *FieldRules) names(name string) bool {
	is := func(other string) bool { return strings.EqualFold(other, name) }
	return slices.ContainsFunc(r.Remove, is) || slices.ContainsFunc(r.Replace, func(one Replacement) bool { return is(one.Name) }) ||
		slices.ContainsFunc(r.Set, func(one FieldValue) bool { return is(one.Name) }) || slices.ContainsFunc(r.Add, func(one FieldValue) bool { return is(one.Name) })
}
