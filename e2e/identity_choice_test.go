//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

const (
	idChosenField = "X-Chosen"      // of responses: the side whose route has answered
	idChoice      = "choice"        // header, cookie and query parameter by which a request chooses
	idShare       = "padlock_share" // the cookie of percent
)

// sides are the routes of a combo: requests choose one of two by what its condition asks for.
func (c idCombo) sides() []string {
	if c[idChosen] == chosenPath {
		return []string{"only"}
	}
	return []string{"left", "right"}
}

// condition is that of one of the routes. The right one, which comes last, takes all that the left one does not.
func (c idCombo) condition(side string) string {
	if side != "left" {
		return ""
	}
	switch c[idChosen] {
	case chosenHeader:
		return "header: {" + idChoice + ": left}"
	case chosenCookie:
		return "cookie: {" + idChoice + ": left}"
	case chosenQuery:
		return "query: {" + idChoice + ": left}"
	case chosenMatch:
		return "match: 'page-[0-3]$'"
	}
	return "percent: 50"
}

// side is the one that a request chooses; "": its client has none yet.
func (j *idJob) side() string {
	left := j.turn&16 != 0
	switch j.combo[idChosen] {
	case chosenPath:
		return "only"
	case chosenMatch:
		left = j.number%idPages < 4
	case chosenPercent:
		if j.share == "" {
			return ""
		}
		number, _, _ := strings.Cut(j.share, ".")
		n, err := strconv.Atoi(number)
		left = err == nil && n < 5000
	}
	if left {
		return "left"
	}
	return "right"
}

// checkChosen tells whether another route has answered than the one that the request chose.
func (j *idJob) checkChosen(fields http.Header) string {
	got := fields.Get(idChosenField)
	drawn := ""
	for _, cookie := range fields["Set-Cookie"] {
		if value, ok := strings.CutPrefix(cookie, idShare+"="); ok {
			drawn, _, _ = strings.Cut(value, ";")
		}
	}

	want := j.side()
	switch {
	case want == "" && drawn == "":
		return "a client without a number has got none"
	case want != "" && drawn != "":
		return fmt.Sprintf("a client with the number %q has got %q", j.share, drawn)
	case want == "":
		j.share = drawn
		want = j.side()
		j.user.share.CompareAndSwap(nil, &drawn)
	}
	if got != want {
		return fmt.Sprintf("the route %q has answered, not %q", got, want)
	}
	return ""
}

// accepts are what requests say of codings, and those that they permit.
var accepts = []struct {
	field   string
	permits []string
}{
	{"gzip", []string{"gzip"}}, {"br, gzip;q=0.5", []string{"br", "gzip"}}, {"zstd", []string{"zstd"}}, {"gzip, deflate, br, zstd", []string{"gzip", "br", "zstd"}},
	{"identity", nil}, {"", nil},
}

func (j *idJob) accepts() (field string, permits []string) {
	one := accepts[int(j.turn>>12)%len(accepts)]
	return one.field, one.permits
}

// checkCoding tells whether content is coded that should not be.
func (j *idJob) checkCoding(got idGot) string {
	_, permits := j.accepts()
	if coding := got.fields.Get("Content-Encoding"); coding != "" && (!j.combo.compress() || !slices.Contains(permits, coding)) {
		return fmt.Sprintf("the coding %q, of %q", coding, permits)
	}
	return ""
}

// tag is the entity tag of the response: that of coded content is weak.
func (j *idJob) tag(got idGot) string {
	if tag := `W/"` + j.marker + `"`; j.combo.compress() && got.fields.Get("Etag") == tag {
		return tag
	}
	return `"` + j.marker + `"`
}

// decode undoes the coding of content, or of what has come of it.
func (g *idGot) decode() error {
	coding := g.fields.Get("Content-Encoding")
	if coding == "" || len(g.content) == 0 {
		return nil
	}

	var content io.Reader
	var err error
	switch raw := bytes.NewReader(g.content); coding {
	case "gzip":
		content, err = gzip.NewReader(raw)
	case "br":
		content = brotli.NewReader(raw)
	case "zstd":
		var decoder *zstd.Decoder
		if decoder, err = zstd.NewReader(raw, zstd.WithDecoderConcurrency(1)); err == nil {
			defer decoder.Close()
			content = decoder
		}
	default:
		err = fmt.Errorf("an unknown coding %q", coding)
	}
	var decoded []byte
	if err == nil {
		decoded, err = io.ReadAll(content)
	}
	if err != nil && g.err == nil {
		return err
	}
	g.content, g.coded = decoded, true
	return nil
}
