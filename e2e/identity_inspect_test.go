//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// inspection is the site's setting: enough requests until they are read. In every second life, what is secret is not kept at all.
func inspection(life int) string {
	return fmt.Sprintf("inspect: {requests: 3000, body: 8KiB, redact: %v}", redacts(life))
}

func redacts(life int) bool { return life%2 == 1 }

// idRecord is a request as the inspector shows it.
type idRecord struct {
	ID           uint64
	User         string
	Target       string
	Status       int
	TargetStatus int `json:"target_status"`
	Aborted      bool
	Error        string
	Tunnel       bool
	SentTarget   string    `json:"sent_target"`
	Received     []idField `json:"request_headers"`
	Sent         []idField `json:"request_headers_sent"`
	Answered     []idField `json:"response_headers_received"`
	Response     []idField `json:"response_headers"`
	In           idContent `json:"request_content"`
	Out          idContent `json:"response_content"`
	Messages     []idContent
	Tries        []struct{ Status int } `json:"targets"`
	Earlier      int                    `json:"messages_forgotten"`
}

type idField struct{ Name, Value string }

type idContent struct {
	From, Kind string // of messages
	Size       int64
	Cut        bool
	Data       []byte // of what is no text
	Text       string
}

func (c idContent) bytes() []byte {
	if c.Text != "" {
		return []byte(c.Text)
	}
	return c.Data
}

// inspector looks at the requests that a life's padlocks remember.
type inspector struct {
	h         *identity
	life      int
	takesOver bool // another padlock, in this life
	client    http.Client
}

// inspect begins to look at them. The watcher goes when nobody serves any more.
func (h *identity) inspect(p *padlock, watcher *sync.WaitGroup, life int) {
	i := &inspector{h: h, life: life, takesOver: restarts(life)}
	i.client.Transport = &http.Transport{MaxIdleConnsPerHost: idLookers, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.storage, "admin.sock"))
	}}
	followed := make(chan struct{})
	begin := sync.OnceFunc(func() { close(followed) })
	watcher.Go(func() {
		defer begin()
		for !h.over() {
			if err := i.follow(begin); err != nil && !h.ending() {
				h.t.Log("the inspector: ", err) // another padlock takes over
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	<-followed
}

// follow looks at every request that has ended, until the padlock that remembers it ends.
func (i *inspector) follow(begin func()) error {
	defer i.client.CloseIdleConnections()
	response, err := i.client.Get("http://localhost/requests?follow=1")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	begin()

	var lookers sync.WaitGroup
	defer lookers.Wait()
	looks := make(chan func())
	defer close(looks)
	for range idLookers {
		lookers.Go(func() {
			for look := range looks {
				look()
			}
		})
	}
	lines := bufio.NewReader(response.Body)
	var before [][]byte
	for n := 0; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil
		}
		looks <- func() { i.look(line, false) }
		// Later requests may write to a record that has ended.
		if before = append(before, line); len(before) > idLater {
			if again := before[0]; n%2 == 0 {
				looks <- func() { i.look(again, true) }
			}
			before = before[1:]
		}
	}
}

// idLater is how many requests end before a record is looked at once more.
const idLater = 100

// idLookers look at requests at once, as an answer may take a second on a busy machine.
const idLookers = 8

// idViews are those of a request. Each record is shown in one.
var idViews = []struct {
	path     string
	revealed bool
}{
	{".json?reveal=1", true}, {".json", false}, {".json?reveal=1", true}, {"?fragment=1", false}, {".json?reveal=1", true}, {".json", false}, {".curl?reveal=1", true}, {".curl", false},
}

// look looks at one request, of which the list has the summary.
func (i *inspector) look(summary []byte, again bool) {
	var r idRecord
	if err := json.Unmarshal(summary, &r); err != nil { // the stream was cut
		return
	}
	own := firstRequest(r.Target)
	if own == "" {
		return
	}
	view := idViews[int(r.ID)%len(idViews)]
	if again {
		view = idViews[0]
	}
	response, err := i.client.Get(fmt.Sprintf("http://localhost/requests/%d%s", r.ID, view.path))
	if err != nil {
		return
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 { // forgotten, or of the padlock that has taken over
		return
	}

	i.h.note("records")
	if is := firstRequest(string(text)); is != own {
		if !i.takesOver { // a padlock that takes over counts from 1 again, and may have been asked already
			i.h.mixed(i.h.find(own), "inspector", "it shows another request in "+view.path, is, string(text))
		}
		return
	}
	j := i.h.find(own)
	if j == nil {
		i.h.mixed(nil, "inspector", "it shows a request that was not sent", own, string(summary))
		return
	}
	for _, shown := range [][]byte{summary, text} {
		if theirs := stranger(string(shown), own); theirs != "" {
			i.h.mixed(j, "inspector", "it shows what is another's in "+view.path, theirs, string(shown))
			return
		}
	}
	var what string
	hides := !view.revealed || redacts(i.life)
	switch path, _, _ := strings.Cut(view.path, "?"); path {
	case ".json":
		what = j.checkRecord(text, hides)
		if what == "" && !i.h.ending() {
			what = j.checkWhole(text, hides)
		}
	case ".curl":
		if hides {
			what = secretIn(string(text))
		}
	}
	if what != "" {
		i.h.mixed(j, "inspector", "it shows in "+view.path+" what it should not: "+what, own, string(text))
	}
}

// checkRecord holds what is remembered of a request against the request.
func (j *idJob) checkRecord(text []byte, hides bool) string {
	var r idRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return err.Error()
	}
	if r.User != "" && r.User != j.known() {
		return fmt.Sprintf("the user %q, not %q", r.User, j.known())
	}
	for _, fields := range [][]idField{r.Received, r.Sent, r.Answered, r.Response} {
		for _, f := range fields {
			if secret := secretIn(f.Value); hides && secret != "" {
				return fmt.Sprintf("%s: %q", f.Name, f.Value)
			}
		}
	}
	if !hides {
		if what := j.checkReceived(r.Received); what != "" {
			return what
		}
	}

	if sent := j.content(); !bytes.HasPrefix(sent, r.In.bytes()) {
		return fmt.Sprintf("content that was not sent: %.100q", r.In.bytes())
	}
	got := idGot{content: r.Out.bytes(), err: io.ErrUnexpectedEOF, fields: http.Header{}} // it may have been cut
	for _, f := range r.Response {
		got.fields.Add(f.Name, f.Value)
	}
	if err := got.decode(); err != nil {
		return "content that cannot be decoded: " + err.Error()
	}
	for _, m := range r.Messages {
		got.content = append(got.content, m.Data...)
	}
	if j.encoded() {
		got.content = unpadded(got.content)
	}
	return stranger(string(got.content), j.marker)
}

// checkWhole tells what is missing of what is remembered, which may stand elsewhere.
func (j *idJob) checkWhole(text []byte, hides bool) string {
	var r idRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return err.Error()
	}
	value := func(fields []idField, name string) string {
		for _, f := range fields {
			if strings.EqualFold(f.Name, name) {
				return f.Value
			}
		}
		return ""
	}

	last := 0 // what the last target has answered
	for _, try := range r.Tries {
		last = try.Status
	}
	answered := r.TargetStatus != 0 || last != 0 && last == r.Status
	passed := answered && r.Status == last && !(j.intercepted() && r.Status == j.failure()) && !j.rebuffed
	switch {
	case len(r.Tries) > 0 && value(r.Sent, "x-marker") != j.marker:
		return "no head for the target"
	case answered && value(r.Answered, "x-echo") != j.marker:
		return "no head of the target's answer"
	}
	for _, side := range []idContent{r.In, r.Out} {
		if n := int64(len(side.bytes())); !hides && !r.Tunnel && n != side.Size && !side.Cut {
			return fmt.Sprintf("%d bytes of content that had %d", n, side.Size)
		}
	}
	if !passed || r.Aborted || r.Error != "" || j.combo.leaves() || j.combo.dying() {
		return ""
	}

	// The target has read all before it has answered, and the client has been sent all.
	coded := value(r.Response, "content-encoding") != ""
	switch {
	case value(r.Response, "x-echo") != j.marker:
		return "no head of the answer"
	case r.Status == 101 && r.Earlier == 0 && j.unechoed(r.Messages):
		return "not all messages"
	case r.Status != 200:
	case j.method != "HEAD" && !coded && r.Out.Size < int64(j.down):
		return fmt.Sprintf("%d bytes of an answer of %d", r.Out.Size, j.down)
	case !j.combo.does(doesEarly) && !j.combo.does(doesUnread) && j.method == "POST" && r.In.Size != int64(len(j.content())):
		return fmt.Sprintf("%d bytes of content of %d", r.In.Size, len(j.content()))
	}
	return ""
}

// unechoed reports whether messages are missing: the target has said hello, and what it heard.
func (j *idJob) unechoed(messages []idContent) bool {
	said := map[string]int{}
	for _, m := range messages {
		if m.Kind == "text" || m.Kind == "binary" {
			said[m.From]++
		}
	}
	// Where a restart says goodbye, the last message has no echo.
	return said["server"] != said["client"]+1 && said["server"] != max(1, said["client"])
}

// checkReceived tells which field is not as the client has sent it.
func (j *idJob) checkReceived(received []idField) string {
	for _, f := range j.fields {
		if f[0] == "cookie" { // which comes in pieces
			continue
		}
		found := false
		for _, r := range received {
			if strings.EqualFold(r.Name, f[0]) {
				if found = r.Value == f[1]; !found {
					return fmt.Sprintf("%s: %q, not %q", r.Name, r.Value, f[1])
				}
			}
		}
		if !found && f[0] != "te" {
			return "no " + f[0]
		}
	}
	return ""
}
