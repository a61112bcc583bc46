package inspect_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"padlock/inspect"
)

const multipart = "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\ns3cret\r\n--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nanna\r\n--x--\r\n"

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	w.Close()
	return b.String()
}

// Wherever a name that is secret stands with its value, the value is hidden, and with redact it is not kept. What is
// beside it stays.
func TestSecretsInContentAreHiddenToo(t *testing.T) {
	for _, test := range []struct{ kind, coding, content string }{
		{"application/x-www-form-urlencoded", "", "a=1&token=s3cret&name=anna"},
		{"application/x-www-form-urlencoded", "", "name=anna&tok%65n=s3cret"},
		{"multipart/form-data; boundary=x", "", multipart},
		{"application/json", "", `{"name":"anna","Token":"s3cret"}`},
		{"application/json", "", `{"name":"anna","a":[{"token" : {"deep":["s3cret",{"x":"s3cret"}]}}]}`},
		{"application/json", "", `{"name":"anna","token":"s3cret \" s3cret`},
		{"application/json", "", `{"name":"anna","tok\u0065n":"s3cret","b":1}`},
		{"application/json", "gzip", `{"name":"anna","token":12s3cret,"b":1}`},
		{"application/json", "", "{\"name\":\"anna\",\"town\":\"K\xf6ln\",\"token\":\"s3cret\"}"},
		{"application/json", "gzip", "{\"name\":\"anna\",\"x\":\"\u0085\",\"token\":\"s3cret\"}"},
		{"application/octet-stream", "", "\x00\x01{\"name\":\"anna\",\"token\":\"s3cret\"}"},
		{"text/event-stream", "", "event: a\ndata: {\"name\":\"anna\",\"token\":\"s3cret\"}\n\n"},
	} {
		content := test.content
		if test.coding != "" {
			content = gzipped(content)
		}
		fields := func() []inspect.Field {
			return []inspect.Field{{Name: "Content-Type", Value: test.kind}, {Name: "Content-Encoding", Value: test.coding}}
		}
		for _, redact := range []bool{false, true} {
			s := inspect.NewStore(1<<20, "token")
			c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10, Redact: redact}, "/", fields()...)
			c.Content(inspect.Client, []byte(content))
			c.Head(200, inspect.LinesOf(fields()))
			c.Content(inspect.Server, []byte(content))
			c.End(inspect.Outcome{Status: 200})
			shown, kept := s.Find(c.ID()), s.Find(c.ID())
			s.Conceal(shown)
			for what, r := range map[string]*inspect.Request{"shown": shown, "kept": kept} {
				for _, view := range []inspect.View{inspect.NewView(r.Received, &r.In, "/"), inspect.NewView(r.Response, &r.Out, "/")} {
					text := fmt.Sprintf("%+v", view)
					if has, want := strings.Contains(text, "s3cret"), what == "kept" && !redact; has != want || !strings.Contains(text, "anna") {
						t.Errorf("%q, redact %t: what is %s has secrets: %t: %s", test.content, redact, what, has, text)
					}
				}
				for _, m := range r.Messages {
					if has, want := bytes.Contains(m.Data, []byte("s3cret")), what == "kept" && !redact; has != want {
						t.Errorf("%q, redact %t: a message that is %s has secrets: %t", test.content, redact, what, has)
					}
				}
			}

			// Whoever edits what is shown sends what was hidden; what is not there any more cannot be sent.
			edited := strings.Replace(string(shown.In.Data), "anna", "bert", 1)
			again, err := s.Again(c.ID(), inspect.Edit{Content: &edited})
			if want := strings.Replace(test.content, "anna", "bert", 1); err != nil || !redact && string(again.In.Data) != want {
				t.Errorf("%v: %q became %q", err, want, again.In.Data)
			}
			if _, err := s.Again(c.ID(), inspect.Edit{}); (err != nil) != (redact && test.coding != "") {
				t.Errorf("%q, redact %t: %v", test.content, redact, err)
			}
		}
	}

	// A coding that nobody knows could hide anything.
	s := inspect.NewStore(1<<20, "token")
	c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10, Redact: true}, "/", inspect.Field{Name: "Content-Encoding", Value: "compress"})
	c.Content(inspect.Client, []byte("s3cret"))
	c.End(inspect.Outcome{Status: 200})
	if r := s.Find(c.ID()); len(r.In.Data) > 0 || !r.In.Cut {
		t.Errorf("%+v", r.In)
	}
}

func TestHiddenPartsOfAnEditAreToldApartOrRefused(t *testing.T) {
	s := inspect.NewStore(1<<20, "token")
	l := &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10}
	c := begin(s, l, "/p?token=1&x=1&token=2", inspect.Field{Name: "Content-Type", Value: "application/json"})
	c.Content(inspect.Client, []byte(`{"token":"3","x":1}`))
	c.End(inspect.Outcome{Status: 200})
	target := func(text string) string {
		r, err := s.Again(c.ID(), inspect.Edit{Target: text})
		if err != nil {
			return "refused"
		}
		return r.Target
	}
	h := inspect.Hidden
	for edit, want := range map[string]string{
		"/q?token=" + h + "&x=2&token=" + h: "/q?token=1&x=2&token=2", "/q?token=" + h: "refused", "/q?token=9": "/q?token=9", "/p": "/p",
	} {
		if got := target(edit); got != want {
			t.Errorf("%s: %s, not %s", edit, got, want)
		}
	}
	content := `{"x":2,"token":"` + h + `","y":"` + h + `"}`
	if r, err := s.Again(c.ID(), inspect.Edit{Content: &content}); err == nil {
		t.Errorf("%s", r.In.Data)
	}
}

// What a reload turns off, or lets keep no secrets any more, holds for what was remembered before, and for requests
// that were let in before.
func TestRulesHoldFromAReloadOn(t *testing.T) {
	s := inspect.NewStore(1<<20, "token")
	l := &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10}
	underway := begin(s, l, "/?token=s3cret")
	begin(s, l, "/2").End(inspect.Outcome{Status: 200})
	s.Keep(map[string]*inspect.Limits{"a": l})
	if got := targets(s); len(got) != 2 {
		t.Errorf("a reload that changes nothing: %v", got)
	}

	s.Keep(map[string]*inspect.Limits{"a": {Site: "a", Requests: 9, Body: 1 << 10, Redact: true}})
	underway.Content(inspect.Client, []byte("x"))
	late := begin(s, l, "/late?token=s3cret")
	if got := targets(s); len(got) != 1 || strings.Contains(fmt.Sprintf("%+v", s.Find(late.ID())), "s3cret") {
		t.Errorf("redact: %v", got)
	}

	s.Keep(map[string]*inspect.Limits{})
	off := begin(s, l, "/off")
	off.Content(inspect.Client, []byte("x"))
	off.Head(200, nil)
	off.End(inspect.Outcome{Status: 200})
	if got := targets(s); len(got) != 0 || s.Used() != 0 || off.ID() != 0 {
		t.Errorf("off: %v, %d bytes, #%d", got, s.Used(), off.ID())
	}
	s.Clear()
	if begin(s, l, "/off"); len(targets(s)) != 0 {
		t.Error("forgetting everything has turned it on")
	}
}

// A secret may be spread over the frames of a message, and stand beside bytes that are no text.
func TestSecretsInMessagesOfSeveralFramesAreHidden(t *testing.T) {
	frame := func(first byte, text string) string { return string([]byte{first, byte(len(text))}) + text }
	for _, test := range []struct{ bytes, seen string }{
		{frame(0x01, `{"name":"anna","token":"s3c`) + frame(0x89, "ping") + frame(0x80, `s3cret"}`), "anna"},
		{frame(0x01, `{"name":"anna","tok`) + frame(0x00, `en":`) + frame(0x80, `"s3cret"}`), "anna"},
		{frame(0x80, `s3cret"}`), ""},
		{frame(0x02, `{"name":"anna","a`) + frame(0x80, `":"bert"}`), `":"bert"}`},
		{frame(0x82, "\x00\xff{\"name\":\"anna\",\"token\":\"s3cret\"}"), "anna"},
		{frame(0x81, "{\"name\":\"K\xf6ln\",\"token\":\"s3cret\"}"), "name"},
	} {
		for _, redact := range []bool{false, true} {
			s := inspect.NewStore(1<<20, "token")
			c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10, Redact: redact}, "/")
			c.Tunnel(true, nil)
			c.Content(inspect.Server, []byte(test.bytes))
			shown, kept := s.Find(c.ID()), s.Find(c.ID())
			s.Conceal(shown)
			text := func(r *inspect.Request) (text string) {
				for _, m := range r.Messages {
					text += string(m.Data) + "\n"
				}
				return text
			}
			if got := text(shown); len(shown.Messages) == 0 || strings.Contains(got, "s3c") || !redact && !strings.Contains(got, test.seen) {
				t.Errorf("%q, redact %t: what is shown is %q", test.bytes, redact, got)
			}
			if got := text(kept); strings.Contains(got, "s3c") == redact && strings.Contains(test.bytes, "s3c") {
				t.Errorf("%q, redact %t: what is kept is %q", test.bytes, redact, got)
			}
		}
	}
}
