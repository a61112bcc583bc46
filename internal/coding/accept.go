// Package coding knows content codings (RFC 9110 section 8.4.1): which of them a client accepts, and how to encode
// content as it comes.
//
//	if best, _ := coding.Acceptable(fields, []string{"zstd", "gzip"}); len(best) > 0 {
//		e := coding.NewEncoder(best[0], coding.Default)
//		e.Write(text)
//		e.Close()
//		n := e.Take(buffer) // until it is 0
//		e.Release()
//	}
package coding

import (
	"slices"
	"strconv"
	"strings"
)

// All returns the codings that there are encoders for, in the order in which they are usually preferred.
func All() []string { return []string{"zstd", "br", "gzip"} }

// identity is content without a coding.
const identity = "identity"

// Acceptable returns those of the offered codings that Accept-Encoding permits (RFC 9110 section 12.5.3): the one
// with the highest weight first, and among equals in the order of the offer. Those that the client likes less than
// no coding are left out. forced reports that it accepts content without a coding only if there is no other way.
func Acceptable(accept []string, offers []string) (codings []string, forced bool) {
	weights, any := weigh(accept)
	plain, named := weights[identity]
	if !named && any == 0 {
		plain, named = 0, true
	}

	weight := func(coding string) int {
		if w, named := weights[coding]; named {
			return w
		}
		return max(any, 0)
	}

	for _, offer := range offers {
		if w := weight(offer); w > 0 && (!named || w >= plain) {
			codings = append(codings, offer)
		}
	}

	slices.SortStableFunc(codings, func(a, b string) int { return weight(b) - weight(a) })
	return codings, named && plain == 0
}

// weigh reads weights, in thousandths. any is that of codings that are not named, -1 where nothing is said of them.
func weigh(accept []string) (weights map[string]int, any int) {
	weights, any = map[string]int{}, -1
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			name, parameters, weighted := strings.Cut(item, ";")
			name = strings.ToLower(strings.Trim(name, " \t"))
			w := 1000
			if weighted {
				var ok bool
				if w, ok = weightOf(parameters); !ok {
					continue
				}
			}

			switch name {
			case "":
			case "*":
				any = w
			case "x-gzip": // RFC 9110 section 8.4.1.3
				weights["gzip"] = w
			default:
				weights[name] = w
			}
		}
	}
	return weights, any
}

// weightOf reads a weight (RFC 9110 section 12.4.2) in thousandths.
func weightOf(parameter string) (int, bool) {
	name, value, ok := strings.Cut(strings.Trim(parameter, " \t"), "=")
	whole, fraction, _ := strings.Cut(value, ".")
	if !ok || !strings.EqualFold(name, "q") || whole != "0" && whole != "1" || len(fraction) > 3 || strings.Trim(fraction, "0123456789") != "" {
		return 0, false
	}

	n, err := strconv.Atoi(whole + (fraction + "000")[:3])
	return n, err == nil && n <= 1000
}
