//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// A marker stands for one request of one user: mk, the user, the request's number and a random number in hexadecimal digits, z.
const (
	markerHead   = "mk"
	markerUser   = 3
	markerNumber = 6
	markerRandom = 8
	markerLength = len(markerHead) + markerUser + markerNumber + markerRandom + 1
)

func newMarker(user, number int, random uint32) string {
	return fmt.Sprintf("%s%03x%06x%08xz", markerHead, user, number, random)
}

// markers yields the markers in a text. What is shaped otherwise, a damaged marker for example, is none.
func markers(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			at := bytes.Index(text, []byte(markerHead))
			if at < 0 || at+markerLength > len(text) {
				return
			}
			one := text[at : at+markerLength]
			if !isMarker(one) {
				text = text[at+len(markerHead):]
				continue
			}
			if !yield(one) {
				return
			}
			text = text[at+markerLength:]
		}
	}
}

func isMarker(b []byte) bool {
	for _, c := range b[len(markerHead) : markerLength-1] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return b[markerLength-1] == 'z'
}

// A user has a marker too, for what is the same in all of its requests: credentials, for example.
const (
	numberOfUser = "ffffff"
	markerOfUser = len(markerHead) + markerUser
)

func (u *idUser) marker() string {
	return fmt.Sprintf("%s%03x%s00000000z", markerHead, u.number, numberOfUser)
}

// stranger is the first marker in a text that is neither the one nor its user's.
func stranger(text, own string) string {
	for marker := range markers([]byte(text)) {
		same := len(own) == markerLength && string(marker[:markerOfUser]) == own[:markerOfUser]
		if string(marker) != own && (!same || string(marker[markerOfUser:markerOfUser+markerNumber]) != numberOfUser) {
			return string(marker)
		}
	}
	return ""
}

func firstMarker(text string) string { return stranger(text, "") }

// firstRequest is the first marker in a text that stands for a request.
func firstRequest(text string) string {
	for marker := range markers([]byte(text)) {
		if string(marker[markerOfUser:markerOfUser+markerNumber]) != numberOfUser {
			return string(marker)
		}
	}
	return ""
}

// numberOf is the number of the request that a marker stands for, or -1.
func numberOf(marker string) int {
	if len(marker) != markerLength {
		return -1
	}
	at := len(markerHead) + markerUser
	n, err := strconv.ParseUint(marker[at:at+markerNumber], 16, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// stamped is content of a length that has the marker everywhere.
func stamped(marker string, length int) []byte {
	return bytes.Repeat([]byte(marker), length/markerLength+1)[:length]
}

// unstamped is where content is not what stamped makes, or -1.
func unstamped(content []byte, marker string) int {
	for at := 0; at < len(content); at += markerLength {
		piece := content[at:min(at+markerLength, len(content))]
		if string(piece) != marker[:len(piece)] {
			return at
		}
	}
	return -1
}

// idJob is one request, and what is expected of it.
type idJob struct {
	combo     idCombo
	number    int
	marker    string
	user      *idUser
	method    string
	target    string // of the request line
	host      string
	fields    [][2]string // that it is sent with, in lower case
	up, down  int         // bytes of content
	rebuffed  bool        // what it shows for its user is wrong
	turn      uint32      // random, for what target and client do
	traced    bool        // it is sent with a trace
	connected string      // the server name of the connection that it was sent by
	share     string      // its number for percent, "": none
	tries     atomic.Int32
}

const idPort = "8443" // in Host; nobody looks at it

// trace is the id of the request's trace.
func (j *idJob) trace() string {
	digits := j.marker[len(markerHead) : markerLength-1]
	return digits + strings.Repeat("a", 32-len(digits))
}

// path is what targets get.
func (j *idJob) path() string {
	rest := strings.TrimPrefix(j.target, idPrefix(j.combo))
	switch j.combo[idRewrite] {
	case 1:
		return rest
	case 2:
		return "/put/in/its/place" + rest
	}
	return j.target
}

// forgotten reports whether the job's life is over: what may be late of it is held against nothing.
func (j *idJob) forgotten() bool { return j.fields == nil }

// location is what a target calls the request's URL, or with outer what its client does.
func (j *idJob) location(outer bool) string {
	if outer {
		return j.scheme() + "://" + j.host + j.target
	}
	scheme, host := "http://", j.host
	if scheme := idMembers[idTarget][j.combo[idTarget]]; scheme == "https" || scheme == "h2" {
		scheme = "https://"
	}
	if j.combo[idTells] == tellsHost {
		host = "inner.test"
	}
	return scheme + host + j.path()
}

func idPrefix(c idCombo) string { return fmt.Sprintf("/r%04x", c.route()) }

// unreadMost is as much content as net/http's server reads when its handler has not, before it resets the connection, answer and all.
const unreadMost = 200 << 10

func (h *identity) job(u *idUser, c idCombo) *idJob {
	number := int(h.numbers.Add(1)) - 1
	if number >= len(h.jobs) {
		return nil
	}
	rng := rand.New(rand.NewPCG(h.seed, uint64(number)))
	j := &idJob{combo: c, number: number, user: u, turn: rng.Uint32(), connected: u.name}
	m := newMarker(u.number, number, rng.Uint32())
	j.marker = m
	host := m
	if c.inspected() {
		host += ".inspected"
	}
	switch {
	case !c.plain():
		host += ".localhost"
	case c.inspected():
		host, j.connected = host+".test", ""
	default:
		host, j.connected = host+".plain.test", ""
	}
	j.host = host + ":" + idPort
	of := m
	if c.files() {
		of = u.marker()
	}
	j.target = fmt.Sprintf("%s/%s/page-%d?q=%s&n=%d", idPrefix(c), of, number%idPages, m, number)
	if share := u.share.Load(); share != nil && c[idChosen] == chosenPercent {
		j.share = *share
	}
	if c[idChosen] == chosenQuery {
		j.target += "&" + idChoice + "=" + j.side()
	}

	size := func() int {
		switch {
		case c.beyond(): // of streams and connections
			return 600<<10 + rng.IntN(600<<10)
		case c.large():
			return 17<<10 + rng.IntN(12<<10)
		}
		return rng.IntN(1500)
	}
	j.up, j.down = size(), size()
	switch j.method = "POST"; {
	case c.does(doesGet):
		j.method = []string{"GET", "GET", "DELETE", "OPTIONS"}[rng.IntN(4)]
	case c.does(does103), c.does(doesSocket):
		j.method = "GET"
	case c.does(doesHead):
		j.method = "HEAD"
	case c.does(doesPreflight):
		j.method = "OPTIONS"
	case c.does(doesError):
		j.method = []string{"GET", "POST"}[rng.IntN(2)]
	case c.does(doesEarly) && rng.IntN(3) > 0: // more than a buffer holds
		j.up += 30 << 10
	}
	if j.method != "POST" {
		j.up = 0
	}
	if c.does(doesEarly) || c.does(doesUnread) {
		j.up = min(j.up, unreadMost)
	}

	j.rebuffed = !c.auth(0) && rng.IntN(200) == 0
	j.fields = j.compose(rng)
	if c.limit(limitCounts) {
		j.tally().Add(1)
	}
	h.jobs[number].Store(j)
	return j
}

func (j *idJob) compose(rng *rand.Rand) [][2]string {
	m, u := j.marker, j.user.marker()
	authorization, shown, more := j.credentials()
	cookie := "session=" + j.user.secret("session") + shown
	if token, ok := j.user.stuck.Load(j.combo.route()); ok {
		cookie += "; stick=" + token.(string)
	}
	if j.share != "" {
		cookie += "; " + idShare + "=" + j.share
	}
	if j.combo[idChosen] == chosenCookie {
		cookie += "; " + idChoice + "=" + j.side()
	}

	// Most heads are short and look alike, as those of one browser do: what they have in common is found where it was before.
	agent := "agent/" + u
	fields := append([][2]string{{"authorization", authorization}, {"cookie", cookie}, {"user-agent", agent}, {"x-key", u}, {"x-marker", m}}, more...)
	if origin := j.origin(); origin != "" {
		fields = append(fields, [2]string{"origin", origin})
	}
	if j.combo.does(doesPreflight) {
		fields = append(fields, [2]string{"access-control-request-method", "GET"})
	}
	if j.combo[idChosen] == chosenHeader {
		fields = append(fields, [2]string{idChoice, j.side()})
	}
	if accept, _ := j.accepts(); accept != "" && !j.combo.does(doesSocket) {
		fields = append(fields, [2]string{"accept-encoding", accept})
	}
	if rng.IntN(3) == 0 {
		fields[1][1] += "; id=" + m
		fields = append(fields, [][2]string{
			{"referer", "https://from.test/" + m}, {"x-long", strings.Repeat(m, 1+rng.IntN(100))}, {"x-" + m, m}, {"x-taken-away", m},
			{"baggage", "user=" + m}, {"traceparent", "00-" + j.trace() + "-00000000000000ab-01"}, {"tracestate", "id=" + m}, {"accept", "text/" + m},
		}...)
		for _, name := range idForged {
			fields = append(fields, [2]string{name, "forged " + m})
		}
		rng.Shuffle(len(fields), func(i, k int) { fields[i], fields[k] = fields[k], fields[i] })
		j.traced = true
	}
	switch {
	case j.combo.does(doesTrailers):
		fields = append(fields, [2]string{"te", "trailers"})
	case j.combo.does(doesGRPC):
		fields = append(fields, [2]string{"te", "trailers"}, [2]string{"content-type", "application/grpc"})
	case j.combo.does(doesWeb):
		fields = append(fields, [2]string{"content-type", j.webType()})
	case j.up > 0:
		fields = append(fields, [2]string{"content-type", "text/" + m})
	}
	return fields
}

// chunked reports whether the content's length is not told.
func (j *idJob) chunked() bool {
	return j.combo.does(doesTrailers) || j.combo.does(doesGRPC) || j.combo.does(doesWeb) || j.method == "POST" && j.turn&1 != 0
}

// String is the request as it would stand in HTTP/1.1.
func (j *idJob) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\nhost: %s\n", j.method, j.target, j.host)
	for _, f := range j.fields {
		fmt.Fprintf(&b, "%s: %s\n", f[0], shortened(f[1]))
	}
	fmt.Fprintf(&b, "(and %d bytes of content, chunked: %v)", j.up, j.chunked())
	return b.String()
}

func shortened(s string) string {
	if len(s) > 10*markerLength {
		return fmt.Sprintf("%s… (%d bytes)", s[:3*markerLength], len(s))
	}
	return s
}

// variables are those that stand in rules, and what they must have been filled in with, but for idAny.
func (j *idJob) variables() map[string]string {
	path, query, _ := strings.Cut(j.target, "?")
	host, _, _ := strings.Cut(j.host, ":")
	return map[string]string{
		"client_ip": "127.0.0.1", "host": host, "method": j.method, "scheme": j.scheme(), "path": path, "query": query, "uri": j.target,
		"sni": j.connected, "client_subject": j.subject(), "tls_version": "TLS 1.3", "user": j.known(),
	}
}

// idAny are those of which it is not known.
var idAny = map[string]bool{"tls_cipher": true, "request_id": true, "handshake_id": true}

// idOfTLS are those that only TLS has.
var idOfTLS = map[string]bool{"sni": true, "client_subject": true, "tls_version": true, "tls_cipher": true, "handshake_id": true}

// scheme is that of the request.
func (j *idJob) scheme() string {
	if j.combo.plain() {
		return "http"
	}
	return "https"
}

// subject is that of the certificate that came with the request.
func (j *idJob) subject() string {
	if j.combo.plain() {
		return ""
	}
	return j.user.subject()
}

var idVariables = []string{
	"client_ip", "host", "method", "scheme", "path", "query", "uri", "request_id", "handshake_id", "tls_version", "tls_cipher", "sni", "client_subject", "user",
}

// varied is the field in which a rule puts a variable.
func varied(side, variable string) string {
	return "X-" + side + "-" + strings.ReplaceAll(variable, "_", "-")
}

// checkVaried looks at the fields that rules have made.
func (j *idJob) checkVaried(side string, fields http.Header) (fault string) {
	want := j.method + " " + j.target
	if side == "Request" {
		want = "of the site"
	}
	if got := fields.Get("X-Site-" + side); got != want {
		return fmt.Sprintf("a rule of the site made %q, not %q", got, want)
	}
	if !j.combo.rules() {
		return ""
	}
	variables := j.variables()
	for _, variable := range idVariables {
		if j.combo.plain() && idOfTLS[variable] {
			continue
		}
		want := variables[variable]
		got, given := fields[http.CanonicalHeaderKey(varied(side, variable))]
		if !given || len(got) != 1 || !idAny[variable] && got[0] != want {
			return fmt.Sprintf("{%s} became %q, not %q", variable, got, want)
		}
	}
	return ""
}
