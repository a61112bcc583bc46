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
