package message

import (
	"bytes"
	"fmt"
	"testing"
)

// Whatever could be read as the end of a line, of a word or of a head is refused in each of its places.
func TestWhatCouldBreakAMessageIsNotWritable(t *testing.T) {
	fine := func() *Request {
		return &Request{Method: "GET", Target: "/a%20b?c\\", Host: "x.test:1", Fields: Fields{{"A", "b c\t\xff"}}, Declared: []string{"Sum"}, Upgrade: "websocket"}
	}
	if err := fine().Writable(); err != nil {
		t.Fatal(err)
	}
	every := ""
	for c := range 256 {
		every += string([]byte{byte(c)})
	}
	for place, set := range map[string]func(*Request, string){
		"method": func(r *Request, s string) { r.Method = "G" + s + "T" }, "target": func(r *Request, s string) { r.Target = "/a" + s + "b" }, "host": func(r *Request, s string) { r.Host = "a" + s + "b" },
		"name": func(r *Request, s string) { r.Fields.Add("A"+s+"b", "") }, "value": func(r *Request, s string) { r.Fields.Add("A", "a"+s+"b") }, "declared": func(r *Request, s string) { r.Declared = []string{"A" + s + "b"} },
		"upgrade": func(r *Request, s string) { r.Upgrade = "a" + s + "b" },
	} {
		for i := range every {
			c := every[i]
			r := fine()
			set(r, string(every[i:i+1]))
			err := r.Writable()
			control := c < ' ' || c == 0x7f
			if bad := control && !(place == "value" && c == '\t') || c == ' ' && place != "value"; bad && err == nil {
				t.Errorf("%s with %q is writable", place, c)
			}
			if place == "value" && !control && err != nil {
				t.Errorf("%s with %q: %v", place, c, err)
			}
		}
	}
	for _, target := range []string{"", "a", "https://x/", "#", "*/", "/é"} {
		r := fine()
		if r.Target = target; r.Writable() == nil {
			t.Errorf("the target %q is writable", target)
		}
	}
	if got := fmt.Sprint((Fields{{"A", "secret\n"}}).Writable()); got != "its field A cannot be written" {
		t.Error(got)
	}
}

// A value is looked at word by word: what it may not hold is found in every place of every word, and nothing else is taken for it.
func TestAFieldValueIsJudgedByEachOfItsBytes(t *testing.T) {
	for length := 1; length <= 20; length++ {
		for place := range length {
			for c := range 256 {
				value := bytes.Repeat([]byte{'\t', ' ', '~', 0x80, 0xff}, 4)[:length]
				value[place] = byte(c)
				if want := c >= ' ' && c != 0x7f || c == '\t'; FieldValue(string(value)) != want {
					t.Fatalf("%q: %t", value, !want)
				}
			}
		}
	}
}
