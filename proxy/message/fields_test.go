package message

import (
	"reflect"
	"testing"
)

func TestHopByHopFieldsAndThoseNominatedAreRemoved(t *testing.T) {
	f := Fields{
		{"Connection", "close, X-Secret"}, {"X-Secret", "1"}, {"Accept", "*/*"}, {"te", "trailers"},
		{"Keep-Alive", "300"}, {"Connection", "Content-Length"}, {"Content-Length", "4"}, {"Upgrade", "h2c"}, {"HTTP2-Settings", "AA"},
	}
	f.RemoveHopByHop()
	want := Fields{{"Accept", "*/*"}, {"Content-Length", "4"}}
	if !reflect.DeepEqual(f, want) {
		t.Fatalf("got %v, want %v", f, want)
	}
}

func TestNamesCompareWithoutCase(t *testing.T) {
	f := Fields{{"x-a", "1"}, {"B", "2"}, {"X-A", "3"}}
	if v := f.Value("X-a"); v != "1" {
		t.Fatalf("Value = %q", v)
	}
	f.Set("X-A", "4")
	if want := (Fields{{"B", "2"}, {"X-A", "4"}}); !reflect.DeepEqual(f, want) {
		t.Fatalf("Set left %v", f)
	}
	if _, ok := f.Get("c"); ok {
		t.Fatal("found a field that is not there")
	}
}

func TestATokenIsFoundInAnyLineOfAListField(t *testing.T) {
	f := Fields{{"Connection", "keep-alive"}, {"Connection", " foo ,\tUpgrade"}}
	if !f.HasToken("connection", "upgrade") || f.HasToken("Connection", "grade") {
		t.Fatal("tokens are not told apart")
	}
}

// PHP reads dots, blanks and brackets in names of cookies as underscores.
func TestCookiesThatPassForOthers(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"a_b=1": false, "a_b=1; a_b=2": false, "x=1; a.b=2": true, "a b=1": true, "a[b=1": true, "a_b[]=1": true, "a_b[c]=1": true, "a%5Fb=1": true, "a%2eb=1": true, "a_b%zz=1": false,
		"a-b=1; ab=2; A_b=3; a_b_c=4; c.a_b=5": false, "a.b": true, "": false,
	} {
		f := Fields{{"Cookie", line}, {"X-Other", "a.b=1"}}
		if got := f.CookieAliased("a_b"); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
	f := Fields{{"cookie", "x=1; a.b=2; a_b=3; a-b=4; a_b[c]=5"}}
	if f.DelCookie("a_b"); f.Value("Cookie") != "x=1; a-b=4" {
		t.Errorf("left: %q", f)
	}
	for name, want := range map[string]bool{"X-A": false, "x-a": false, "X_A": true, "x.a": true, "X-B": false} {
		if got := (Fields{{name, ""}}).Aliased("X-A"); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
