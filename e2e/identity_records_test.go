//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
)

// readLog holds the lines of the access log against the requests that they tell of.
func (h *identity) readLog(file string) {
	f, err := os.Open(file)
	if err != nil {
		h.t.Error(err)
		return
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	before := h.lines
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			break
		}
		h.checkLine(line)
	}
	if h.lines == before {
		h.t.Errorf("the access log tells of nothing")
	}
}

func (h *identity) checkLine(line []byte) {
	text := string(line)
	own := ""
	for marker := range markers(line) { // of a user, or of the request
		if own = string(marker); !strings.Contains(own, numberOfUser) {
			break
		}
	}
	if theirs := stranger(text, own); theirs != "" && own != "" {
		h.mixed(h.find(own), "access log", "a line tells of two", theirs, text)
		return
	}
	if secret := secretIn(text); secret != "" {
		h.mixed(h.find(own), "access log", "a line has the secret "+secret, "", text)
		return
	}
	if own == "" {
		return // a request without a head that can be read, or what was lost
	}
	h.lines++
	if _, failed := h.failures.Load(own); failed {
		h.t.Logf("the access log tells of what has failed: %s", line)
	}
	j := h.find(own)
	if j == nil {
		h.mixed(nil, "access log", "a line tells of a marker that was not given out", own, string(line))
		return
	}
	host := j.host
	if j.combo[idTells] == tellsHost && !quoted(line, "host", host) {
		host = "inner.test" // it has been forwarded
	}
	expected := [][2]string{{"target", j.target}, {"host", host}}
	if user := j.known(); bytes.Contains(line, []byte(`"user":"`)) {
		expected = append(expected, [2]string{"user", user})
	}
	for _, f := range j.fields {
		switch f[0] {
		case "user-agent":
			expected = append(expected, [2]string{"user_agent", f[1]})
		case "x-marker", "x-key", "referer", "baggage", "x-long":
			expected = append(expected, f)
		}
	}
	for _, want := range expected {
		if !quoted(line, want[0], want[1]) {
			h.mixed(j, "access log", fmt.Sprintf("a line does not have %q", want), own, text)
			return
		}
	}
}

// quoted looks for a key and its value in a line of JSON.
func quoted(line []byte, key, value string) bool {
	return bytes.Contains(line, fmt.Appendf(nil, "%q:%q", key, value))
}

// readSpans holds spans against the requests that they tell of, and their traces against what the clients have sent.
func (h *identity) readSpans() {
	for _, s := range h.collector.Take() {
		text := fmt.Sprint(s.Name, " ", s.State, " ", s.Message, " ", s.Attributes, s.Events)
		own := firstRequest(fmt.Sprint(s.Attributes["url.path"], s.Attributes["url.full"]))
		if own == "" {
			continue
		}
		h.spans++
		j := h.find(own)
		theirs := stranger(text, own)
		if j == nil || theirs != "" || secretIn(text) != "" || j.traced && s.Trace != j.trace() {
			h.mixed(j, "span", "it tells of another, or in another's trace", theirs, fmt.Sprintf("%+v", s))
			return
		}
	}
}
