package console

import (
	"time"

	"padlock/handshake"
)

// step is a stage as a rung of the ladder.
type step struct {
	handshake.Stage
	Kind  string // alert, close or first_byte, which look other than messages
	Gap   string // how long nothing happened before it
	Facts []handshake.Fact
}

func steps(stages []handshake.Stage) []step {
	all := make([]step, len(stages))
	before := time.Duration(0)
	for i := range stages {
		s := &stages[i]
		all[i] = step{Stage: *s, Gap: gap(s.At - before), Facts: s.Facts()}
		before = s.At
		switch s.Name {
		case "alert", "close", "first_byte":
			all[i].Kind = s.Name
		}
	}
	return all
}

func gap(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "g0"
	case d < 10*time.Millisecond:
		return "g1"
	case d < 100*time.Millisecond:
		return "g2"
	}
	return "g3"
}

func meaning(l handshake.Label) string {
	switch l {
	case handshake.Observed:
		return "read off the wire"
	case handshake.Decrypted:
		return "read off the wire with the keys of the handshake, which cannot open what follows"
	}
	return "told by the TLS library"
}
