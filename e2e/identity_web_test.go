//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	bigendian "encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// What pages in browsers ask for: gRPC-Web, and responses of other origins.

// translated reports whether padlock makes gRPC of the request.
func (j *idJob) translated() bool {
	return j.combo.does(doesWeb) && j.combo[idWeb] == 1 && !j.combo.files()
}

// encoded reports whether the content of gRPC-Web is base64.
func (j *idJob) encoded() bool { return j.combo.does(doesWeb) && j.turn>>10&1 != 0 }

// webType is the content's type at the client.
func (j *idJob) webType() string {
	if j.encoded() {
		return "application/grpc-web-text+" + j.marker
	}
	return "application/grpc-web+" + j.marker
}

// kind is the content's type of an answer.
func (j *idJob) kind() string {
	if j.translated() {
		return j.webType()
	}
	return "text/" + j.marker
}

// content is what the client sends.
func (j *idJob) content() []byte {
	raw := stamped(j.marker, j.up)
	if !j.encoded() {
		return raw
	}
	var text []byte
	for piece := range slices.Chunk(raw, 1+int(j.turn>>5)%2000) { // each has padding of its own
		text = base64.StdEncoding.AppendEncode(text, piece)
	}
	return text
}

// passed is the content that a target gets.
func (j *idJob) passed() []byte {
	if j.translated() {
		return stamped(j.marker, j.up)
	}
	return j.content()
}

// decodeCall makes of padlock's own error for a call of gRPC or gRPC-Web, which is 200 with a status of gRPC, the error that other requests get.
func (j *idJob) decodeCall(got *idGot) string {
	kind := "application/grpc"
	switch {
	case j.combo.does(doesWeb):
		kind = j.webType()
	case !j.combo.does(doesGRPC):
		return ""
	}
	number, _, _ := strings.Cut(got.fields.Get("Grpc-Message"), " ")
	status, err := strconv.Atoi(number)
	if got.status != 200 || got.err != nil || err != nil || got.fields.Get("X-Target") != "" {
		return ""
	}

	means := map[int]string{400: "13", 401: "16", 403: "7", 404: "12", 413: "8", 429: "14", 502: "14", 503: "14", 504: "14"}
	want, known := means[status]
	if value := got.fields.Get("Grpc-Status"); !known && value != "2" || known && value != want || got.fields.Get("Content-Type") != kind || len(got.content) > 0 {
		return fmt.Sprintf("%d with the status %s of gRPC, Content-Type %q and %d bytes", status, value, got.fields.Get("Content-Type"), len(got.content))
	}
	got.status, got.call = status, true
	return ""
}

// decodeWeb takes an answer apart that has its trailers in the content.
func (j *idJob) decodeWeb(got *idGot) string {
	if !j.translated() || got.status != 200 || got.err != nil {
		return ""
	}
	if kind := got.fields.Get("Content-Type"); kind != j.webType() {
		return fmt.Sprintf("Content-Type: %q, not %q", kind, j.webType())
	}

	content := got.content
	if j.encoded() {
		content = unpadded(content)
	}
	const frameHead = 5
	at := bytes.IndexByte(content, 0x80)
	if at < 0 || len(content)-at < frameHead || int(bigendian.BigEndian.Uint32(content[at+1:])) != len(content)-at-frameHead {
		return fmt.Sprintf("no frame of trailers behind %d bytes of %d", at, len(content))
	}
	got.trailers = http.Header{}
	for line := range strings.SplitSeq(string(content[at+frameHead:]), "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			got.trailers.Add(name, value)
		}
	}
	got.content = content[:at]
	return ""
}

// unpadded decodes base64 of which each piece has padding of its own, up to where it is none.
func unpadded(text []byte) (content []byte) {
	for four := range slices.Chunk(text, 4) {
		decoded, err := base64.StdEncoding.AppendDecode(content, four)
		if err != nil {
			break
		}
		content = decoded
	}
	return content
}

// origin is that of the page that sends the request; "": none does.
func (j *idJob) origin() string {
	if !j.combo.does(doesPreflight) && j.turn>>14&3 != 0 {
		return ""
	}
	return "https://" + j.marker + ".from.test"
}

// idShares is what the target says about who may read its answer.
const idShares = "Access-Control-Allow-Origin"

func (j *idJob) shares() string { return "https://" + j.marker + ".target.test" }

// preflighted reports whether padlock answers the request, as a browser asks for permission.
func (j *idJob) preflighted() bool { return j.combo.does(doesPreflight) && j.combo.cors() }

// checkShared tells whether another page may read the answer than the one that has asked.
func (j *idJob) checkShared(got idGot) string {
	want := ""
	switch {
	case j.combo.cors():
		want = j.origin()
	case got.fields.Get("X-Target") != "" || j.intercepted() && got.status == j.failure():
		want = j.shares()
	}
	if value := strings.Join(got.fields[idShares], "|"); value != want {
		return fmt.Sprintf("%s: %q, not %q", idShares, value, want)
	}
	return ""
}
