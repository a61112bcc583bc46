package paths

import (
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pattern is a path that others are compared with: itself, or all that is below it. It never changes.
type Pattern struct {
	text, encoded string
	segments      []string
	loose         string
	exact         bool
	ignoreCase    bool
	tame          bool // no reader changes it
}

// NewPattern makes a pattern of a decoded path without dot segments and empty ones. An exact one matches that
// path alone; another one what is below it too: /api matches /api and /api/x, and not /apix; /api/ only what is
// below; and "" everything. With ignoreCase letters match in any case.
func NewPattern(path string, exact, ignoreCase bool) *Pattern {
	p := &Pattern{text: path, encoded: Encode(path), loose: loosePattern(path), exact: exact, ignoreCase: ignoreCase}
	if ignoreCase {
		p.text = strings.ToLower(path)
	}

	for segment := range strings.SplitSeq(path, "/") {
		if segment != "" {
			p.segments = append(p.segments, segment)
		}
	}

	// For a tame pattern, a literal match proves that every reader sees the same, which spares most requests the
	// loose comparison.
	p.tame = true
	for _, segment := range p.segments {
		p.tame = p.tame && looseSegment(letters(segment)) == fold(segment)
	}

	return p
}

// Match says who takes a path to be what a pattern means.
type Match uint8

// The matches.
const (
	None Match = iota // nobody
	Some              // some readers do, and padlock does not
	Ours              // padlock does, and some readers do not
	All               // everybody
)

// Match compares. In raw mode it is None or All: nobody else is asked.
func (p *Pattern) Match(path *Path) Match {
	normal := path.Normal
	if p.ignoreCase {
		// Several patterns are compared with each path, so its lower case is kept.
		if path.lower == "" {
			path.lower = strings.ToLower(normal)
		}
		normal = path.lower
	}

	ours := p.holds(normal)
	if path.mode == Raw {
		if ours {
			return All
		}
		return None
	}

	switch {
	case ours && p.literal(path.Raw):
		return All
	case ours:
		return Ours
	case p.looselyHolds(path):
		return Some
	}

	return None
}

// Head returns the first segment of a path; ok reports that every reader takes the path for the same. Then only patterns
// with that segment among their Heads, or with none, can Match it, in whatever way.
func (p *Path) Head() (segment string, ok bool) {
	// Nothing is decoded, and nothing to be loosened, so both readings are the path as it came.
	if p.Normal != p.Raw || !loosePath(p.Raw) {
		return "", false
	}
	return firstSegment(p.Raw), true
}

// Heads are the first segments of paths that padlock or a looser reader takes for the pattern's; none: any.
func (p *Pattern) Heads() []string {
	ours, theirs := firstSegment(p.text), firstSegment(p.loose)
	switch {
	case ours == "" || theirs == "":
		return nil
	case ours == theirs:
		return []string{ours}
	}
	return []string{ours, theirs}
}

func firstSegment(path string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment
}

func (p *Pattern) holds(path string) bool {
	if p.exact {
		return p.text == path
	}
	return within(path, p.text)
}

// within reports whether a path is a prefix or below it.
func within(path, prefix string) bool {
	if !strings.HasPrefix(path, prefix) {
		return false
	}
	return len(path) == len(prefix) || prefix == "" || prefix[len(prefix)-1] == '/' || path[len(prefix)] == '/'
}

// literal reports whether a path that matches begins with the pattern as nobody would encode it otherwise.
func (p *Pattern) literal(raw string) bool {
	n := len(p.encoded)
	switch {
	case n == 0:
		return true
	case !p.tame || len(raw) < n || !strings.EqualFold(raw[:n], p.encoded):
		// Escapes may be in upper or lower case, so the comparison ignores case.
		return false
	case len(raw) == n:
		return true
	}
	return !p.exact && (p.encoded[n-1] == '/' || raw[n] == '/')
}

// maxRead is how long a path with characters beyond ASCII may be for Readings: some become eighteen.
const maxRead = 4 << 10

// Readings are the path as other readers may have it, in lower case, for what compares the whole of it: a regular
// expression. A slash at the end is there in one of two. They are not clear where nobody can say what a reader has. In
// raw mode there are none, as nobody else is asked.
func (p *Path) Readings() (forms []string, clear bool) {
	if p.mode == Raw {
		return nil, true
	}

	need := len(p.Raw) + 1
	if !loosePath(p.Raw) && marks(p.Raw).high {
		if len(p.Raw) > maxRead {
			return nil, false
		}
		need *= longest
	}
	p.loosen(need)
	if p.loose.unclear {
		return nil, false
	}

	loose := p.loose.forms
	if p.loose.whole {
		loose = []string{p.loose.only}
	}
	last := p.Raw[strings.LastIndexByte(p.Raw, '/')+1:]
	for _, form := range loose {
		if form != "" {
			forms = append(forms, form)
		}
		if form == "" || trimmed(Decode(last)) == "" {
			forms = append(forms, form+"/")
		}
	}
	return forms, true
}

// longest is how many times as long a path may become: U+FDFA, which is nine characters long encoded, has 33 bytes then.
const longest = 4

// looselyHolds asks the loosest readers.
func (p *Pattern) looselyHolds(path *Path) bool {
	// One byte more than the pattern shows whether the path ends there or goes on.
	path.loosen(len(p.loose) + 1)
	// Counting as a match makes the stricter rule win.
	if path.loose.unclear {
		return true
	}

	holds := func(form string) bool {
		if p.exact {
			return form == p.loose
		}
		return within(form, p.loose)
	}

	if path.loose.whole {
		return holds(path.loose.only)
	}
	return slices.ContainsFunc(path.loose.forms, holds)
}

// loose is a path as loose readers have it.
type loose struct {
	need    int      // so many bytes of each form are right
	whole   bool     // all are
	unclear bool     // nobody can say: it may be anything
	only    string   // what all have, where it is whole
	forms   []string // what some have, otherwise
}

// maxHosts in a row, as in //a//b//c, are looked behind.
const maxHosts = 3

// maxNothings are as many segments as may have something in them and be nothing to some reader, such as %20. Nobody
// means more.
const maxNothings = 64

// loosen finds what loose readers have, as far as it takes to tell the first bytes. What a path costs is bounded by
// that, and not by what somebody has made its letters of.
func (p *Path) loosen(need int) {
	if p.loose.whole || p.loose.need >= need {
		return
	}

	// More than is needed now, so that a slightly longer pattern does not start over.
	p.loose = loose{need: max(2*need, 32)}
	if loosePath(p.Raw) {
		p.loose.whole, p.loose.only = true, strings.TrimSuffix(p.Raw, "/")
		return
	}

	has := marks(p.Raw)
	kinds := has.kinds()
	ends := []string{""}
	if has.query || has.high {
		ends = append(ends, "?#")
	}
	if has.parameters {
		ends = append(ends, ";?#")
	}

	// Only the readings that can differ for this path are worked out: their number is multiplied by hosts and ends.
	for _, kind := range kinds {
		segments, hosted := p.segments(kind), true
		for hosts := 0; hosted && hosts <= maxHosts; hosts++ {
			for _, end := range ends {
				if form := joinLoose(segments, end); !slices.Contains(p.loose.forms, form) {
					p.loose.forms = append(p.loose.forms, form)
				}
			}
			segments, hosted = afterHost(segments)
		}
	}
}

// marked is what a decoded path has in it.
type marked struct {
	high       bool // something beyond ASCII
	query      bool // what begins one, or a fragment
	parameters bool // what begins them
	streams    bool // perhaps
	slashes    bool // what only looks like one
}

func marks(raw string) (has marked) {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if one, ok := escaped(raw[i:]); ok {
				c = one
				i += 2
			}
		}

		switch {
		case c >= utf8.RuneSelf:
			has.high = true
		case c == '?' || c == '#':
			has.query = true
		case c == ';':
			has.parameters = true
		case c == '$':
			has.streams = true
		}
	}
	has.slashes = has.high && strings.ContainsAny(Decode(raw), slashes)
	return has
}

// kinds are those that may differ from each other.
func (has marked) kinds() []kind {
	kinds := []kind{asItIs}
	if has.high {
		kinds = append(kinds, alike)
	}
	if has.high && (has.parameters || has.streams) {
		kinds = append(kinds, alikeCut)
	}
	if has.slashes {
		kinds = append(kinds, divided)
	}
	return kinds
}

// kind is what is done to a path's segments.
type kind uint8

const (
	asItIs   kind = iota
	alike         // letters that look alike are one
	alikeCut      // the same, after parameters are gone
	divided       // what only looks like a slash ends a segment, too
)

// of is a decoded segment of that kind, folded, as far as it takes to tell so many bytes of it.
func (k kind) of(segment string, need int) string {
	switch k {
	case alikeCut:
		segment = letters(head(withoutParameters(segment), need, true))
	case alike:
		segment = letters(head(segment, need, true))
	case divided:
		segment = compatible(head(segment, need, true))
	default:
		segment = head(segment, need, false)
	}
	return fold(segment)
}

// split divides a path into decoded segments.
func (k kind) split(raw string) iter.Seq[string] {
	if k == divided {
		return strings.SplitSeq(strings.TrimPrefix(lookalikeSlashes.Replace(Decode(raw)), "/"), "/")
	}
	return func(yield func(string) bool) {
		for segment := range strings.SplitSeq(strings.TrimPrefix(raw, "/"), "/") {
			if !yield(Decode(segment)) {
				return
			}
		}
	}
}

// slashes are the characters that look like one, or like a backslash.
const slashes = "／＼﹨⁄∕∖¥₩"

var lookalikeSlashes = func() *strings.Replacer {
	var pairs []string
	for _, slash := range slashes {
		pairs = append(pairs, string(slash), "/")
	}
	return strings.NewReplacer(pairs...)
}()

// segments are as many as it takes to tell the first bytes, behind any number of hosts too.
func (p *Path) segments(kind kind) (segments []string) {
	solid, size, nothings := 0, 0, 0
	for decoded := range kind.split(p.Raw) {
		// Several slashes in a row mean the same as two.
		if decoded == "" && len(segments) > 0 && segments[len(segments)-1] == "" {
			continue
		}

		segment := kind.of(decoded, p.loose.need)
		segments = append(segments, segment)

		least := segment
		if end := strings.IndexAny(segment, ";?#"); end >= 0 {
			least = segment[:end]
		}

		switch least = trimmed(least); {
		case least != "":
			if solid++; solid > maxHosts {
				size += 1 + len(least)
			}
		// A path could otherwise be made of segments that cost time and bring the end no nearer.
		case decoded != "":
			if nothings++; nothings > maxNothings {
				p.loose.unclear = true
				return segments
			}
		}

		if size >= p.loose.need {
			return segments
		}
	}
	return segments
}

// tooManyHosts reports whether a path begins with more hosts in a row than are looked behind.
func tooManyHosts(raw string) bool {
	if len(raw) > 1 && unreserved(raw[1]) && raw[1] != '.' {
		// Every reader agrees that the path begins with this name.
		return false
	}
	return slices.ContainsFunc(marks(raw).kinds(), func(k kind) bool { return k.tooManyHosts(raw) })
}

func (k kind) tooManyHosts(raw string) bool {
	hosts, nothings, nothing := 0, 0, false
	for segment := range k.split(raw) {
		switch {
		case segment == "":
			nothing = true
		case k.isNothing(segment):
			nothing = true
			if nothings++; nothings > maxNothings {
				return true
			}
		case !nothing:
			return false
		default:
			nothing = false
			if hosts++; hosts > maxHosts {
				return true
			}
		}
	}
	return false
}

// isNothing reports whether readers of that kind leave nothing of a decoded segment.
func (k kind) isNothing(segment string) bool {
	switch k {
	case alikeCut:
		segment = reduced(withoutParameters(segment))
	case alike, divided:
		segment = reduced(segment)
	}
	return trimmed(segment) == ""
}

// decoded are a path's segments, after something was done to each.
func decoded(raw string, change func(string) string) (segments []string) {
	for segment := range strings.SplitSeq(strings.TrimPrefix(raw, "/"), "/") {
		segments = append(segments, change(Decode(segment)))
	}
	return segments
}

// letters are those of a segment, where those that look alike are one. What only looks like a slash ends no
// segment; see divided.
func letters(segment string) string {
	segment = compatible(segment)
	if strings.ContainsAny(segment, `/\`) {
		segment = noSlashes.Replace(segment)
	}
	return segment
}

var noSlashes = strings.NewReplacer("/", "\ufffd", `\`, "\ufffd")

// afterHost is what follows the first segment of a path that begins with an empty one, or one that some reader
// empties.
func afterHost(segments []string) (rest []string, ok bool) {
	for i, segment := range segments {
		if trimmed(segment) != "" {
			return segments[i+1:], i > 0
		}
	}
	return nil, false
}

// loosePattern is what paths as loose readers have them are compared with.
func loosePattern(path string) string {
	return joinLoose(decoded(Encode(path), func(s string) string { return fold(letters(s)) }), "")
}

// joinLoose is a path as all readers together might have it, of segments in one case: without empty segments and a
// slash at the end, without parameters, without blanks around segments and dots behind them, and cut where one that
// splits after decoding finds a query: after parameters are gone, or first, where one of the given characters ends all.
// A reader that does only some of this to a path and to its own routes finds nothing that the loosest one does not. The
// root is "".
func joinLoose(segments []string, ends string) string {
	var b strings.Builder
	for _, segment := range segments {
		end := -1
		if ends != "" {
			end = strings.IndexAny(segment, ends)
		} else {
			segment = withoutParameters(segment)
			end = strings.IndexAny(segment, "?#")
		}

		if end >= 0 {
			segment = segment[:end]
		}

		if segment = trimmed(segment); segment != "" {
			b.WriteByte('/')
			b.WriteString(segment)
		}

		if end >= 0 {
			break
		}
	}
	return b.String()
}

// loosePath reports whether there is nothing to loosen but a slash at the end.
func loosePath(raw string) bool {
	last := byte(0)
	for i := range len(raw) {
		c := raw[i]
		if 'A' <= c && c <= 'Z' || !plainBytes[c] || c == ':' || c == '/' && (last == '/' || last == '.') {
			return false
		}
		last = c
	}
	return last != '.' && strings.HasPrefix(raw, "/")
}

func withoutParameters(segment string) string {
	segment, _, _ = strings.Cut(segment, ";")
	// Windows: a stream of NTFS.
	if strings.Contains(segment, ":$") {
		segment, _, _ = strings.Cut(segment, ":")
	}
	return segment
}

func looseSegment(segment string) string { return fold(trimmed(segment)) }

// trimmed is a segment without parameters, and without what is taken off at its ends.
func trimmed(segment string) string {
	return strings.TrimLeft(strings.TrimRight(withoutParameters(segment), ". "), " ")
}

// fold makes all cases of a letter one. What some systems take for a letter of ASCII becomes that one.
func fold(s string) string {
	i := 0
	for i < len(s) && s[i] < utf8.RuneSelf && (s[i] < 'A' || s[i] > 'Z') {
		i++
	}

	if i == len(s) {
		return s
	}

	var b strings.Builder
	b.Grow(len(s))
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteByte(s[0])
		case r == 'ı' || r == 'İ':
			// unicode.SimpleFold leaves these two alone, but upper or lower case makes an ASCII letter of each.
			b.WriteByte('i')
		default:
			b.WriteRune(foldRune(r))
		}
		s = s[size:]
	}

	return b.String()
}

// foldRune is the lower case of the first letter in a letter's orbit.
func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}

	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}

	if least < utf8.RuneSelf {
		return foldRune(least)
	}
	return least
}

// Replace is the target that has another path in the place of the pattern's, which matches. What follows it
// stays as it is where it can be found segment by segment; otherwise, and where dot segments would lead out of
// it, it is encoded anew. It is an error, an Ambiguous, where that does not settle it for every reader.
func (p *Pattern) Replace(path *Path, replacement string) (string, error) {
	rest, found := p.after(path.Raw)
	// The normal form has no dot segments and no odd escapes. It changes the spelling, so it is the second choice.
	if !found || climbs(rest) {
		rest = Encode(p.afterNormal(path.Normal))
	}
	// The rest must not climb out of the replacement, whoever reads it.
	if climbsAnyhow(rest, true) {
		return "", dotSegments
	}

	rest = strings.TrimLeft(rest, "/")

	text := Encode(strings.TrimSuffix(replacement, "/"))
	// With nothing in front, the rest begins the path, and a second slash would begin a host.
	if text == "" && path.mode != Raw {
		if rest = withoutHost(rest); beginsHost(rest) {
			return "", encodedSlash
		}
	}

	if rest != "" || text == "" || strings.HasSuffix(replacement, "/") || strings.HasSuffix(path.Raw, "/") {
		text += "/" + rest
	}
	if path.hasQuery {
		text += "?" + path.Query
	}

	return text, nil
}

// withoutHost takes off the segments at the beginning of a path that some reader empties: the next one would be
// a host to whoever finds two slashes.
func withoutHost(rest string) string {
	for {
		segment, after, more := strings.Cut(rest, "/")
		if first := strings.TrimFunc(bare(reduced(Decode(segment))), isBlank); !more || first != "" && first != "." {
			return rest
		}
		rest = after
	}
}

// beginsHost reports whether some reader finds another slash behind the one that goes before.
func beginsHost(rest string) bool {
	for stage := range decodings(rest) {
		stage = strings.TrimLeftFunc(reduced(stage), isBlank)
		if end := strings.IndexAny(stage, `/\`); end >= 0 && trimmed(stage[:end]) == "" {
			return true
		}
	}
	return false
}

// after is what follows the pattern's segments in a raw path, where they stand one by one.
func (p *Pattern) after(raw string) (rest string, found bool) {
	rest = raw
	for _, want := range p.segments {
		segment := ""
		for segment == "" {
			if rest == "" {
				return "", false
			}

			rest = rest[1:] // the slash
			end := strings.IndexByte(rest, '/')
			if end < 0 {
				end = len(rest)
			}
			segment, rest = rest[:end], rest[end:]
		}

		segment = Decode(segment)
		if segment != want && !(p.ignoreCase && strings.EqualFold(segment, want)) {
			return "", false
		}
	}
	return rest, true
}

// afterNormal is what follows as many segments of a normal path as the pattern has.
func (p *Pattern) afterNormal(normal string) string {
	for range p.segments {
		normal = normal[min(1, len(normal)):]
		end := strings.IndexByte(normal, '/')
		if end < 0 {
			return ""
		}
		normal = normal[end:]
	}
	return normal
}

// climbs reports whether dot segments lead above where a path begins.
func climbs(raw string) bool {
	depth := 0
	for segment := range strings.SplitSeq(Decode(raw), "/") {
		switch segment {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}
