package phc_test

import (
	"strings"
	"testing"

	"padlock/internal/phc"
)

// Made by the reference implementation: argon2 somesalt12 -id -m 16 -t 3 -p 1 -e, and smaller ones.
const (
	ofReference = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHQxMg$YDUlKUYpgqJKHMFX8j0YIbCWbV8p8ka3MksxkZUGbZU"
	small       = "$argon2id$v=19$m=4096,t=1,p=2$b3RoZXJzYWx0$cxOih2//0xErQlqOLo2uOnq56ZHNilg57E7nJooE4iY"
)

func TestHashesOfTheReferenceImplementationMatch(t *testing.T) {
	t.Parallel()
	for _, text := range []string{ofReference, small} {
		h, err := phc.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if !h.Matches("secret") || h.Matches("Secret") || h.Matches("") || h.Matches("secret\x00") {
			t.Errorf("%s does not match its password alone", text)
		}
	}
}

// Hashes that would cost too much, or protect nothing, are errors, and so is what is cut off one; no error repeats it.
func TestOnlyHashesOfABoundedCostAreTaken(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string { return strings.Replace(ofReference, from, to, 1) }
	all := []string{
		"", "$argon2id$", "password", change("argon2id", "argon2i"), change("argon2id", "argon2d"), change("v=19", "v=16"), change("v=19$", ""), change("m=65536", "m=65537"), change("m=65536", "m=4294967296"), change("m=65536", "m=8"),
		change("t=3", "t=0"), change("t=3", "t=5"), change("p=1", "p=0"), change("p=1", "p=5"), change("p=1", "p=1,x=1"), change("m=65536,t=3", "t=3,m=65536"), change("m=", "m=+"), change("m=", "m=-"), change("c29tZXNhbHQxMg", "c2FsdA"), change("c29tZXNhbHQxMg", "c29tZXNhbHQxMg=="),
		change("YDUlKUYpgqJKHMFX8j0YIbCWbV8p8ka3MksxkZUGbZU", "YDUl"), ofReference + "$", ofReference + "\n", " " + ofReference, ofReference + strings.Repeat("A", 100),
	}
	for i := range ofReference {
		if i < len(ofReference)-24 {
			all = append(all, ofReference[:i])
		}
	}
	for _, text := range all {
		if h, err := phc.Parse(text); err == nil {
			t.Errorf("%q is taken: %+v", text, h)
		} else if len(text) > 60 && strings.Contains(err.Error(), text[50:60]) {
			t.Errorf("the error repeats the hash: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ofReference)
	f.Fuzz(func(_ *testing.T, text string) { _, _ = phc.Parse(text) })
}
