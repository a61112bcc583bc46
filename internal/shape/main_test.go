package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const source = `package sample

func short() int { return 1 }

func solidOne(a, b bool) (n int) {
%s	return n
}

func airy(all []int) (n int) {
	for _, x := range all {
		n += x
	}

	// The sum is doubled.
	return 2 * n
}
`

// The measures of a file are what its lines are: tests are left out, and long lines count unless they have a string.
func TestMeasuresAreThoseOfTheLines(t *testing.T) {
	dir := t.TempDir()
	body := strings.Repeat("\tif a && b {\n\t\tn++\n\t}\n", 8) + "\tn += " + strings.Repeat("n + ", 40) + "n\n\t_ = \"" + strings.Repeat("text ", 40) + "\"\n"
	for name, content := range map[string]string{"sample.go": strings.Replace(source, "%s", body, 1), "sample_test.go": "no Go at all", "testdata/x.go": "neither"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := measure(dir)
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	got.print(&printed, 5)
	for _, want := range []string{
		"statements per line in functions of 10 lines and more: 0.70", // 19 in 27 lines
		"blank lines in bodies: 3.0 %",
		"comment lines in bodies: 3.0 %",
		"lines over 120 characters, without strings: 2.4 %",
		"functions with a complexity over 15: 33.3 %",
		"without a paragraph: 1 ",
		"sample.go:5 solidOne: 27 lines",
	} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("%q is not in\n%s", want, &printed)
		}
	}
}
