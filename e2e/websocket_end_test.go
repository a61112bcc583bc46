//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

func endings() []wsCase {
	half := down(fin|opText, "a whole frame")
	closing := func(code uint16, reason string) wsCase {
		payload := status(code, reason)
		return wsCase{
			name:   fmt.Sprintf("a Close with %d and a reason of %d bytes, and its answer", code, len(reason)),
			target: func(p *wsPeer) { p.accept(); p.hear(up(fin|opClose, payload)); p.say(down(fin|opClose, payload)) },
			client: func(v *wsClient) { v.say(up(fin|opClose, payload)); v.hear(down(fin|opClose, payload)); v.properly() },
		}
	}
	return []wsCase{
		closing(1000, ""), closing(1000, "that is all"), closing(1001, "going away"), closing(3000, "registered"), closing(4999, strings.Repeat("r", 123)),
		exchanged("a Close without a status", up(fin|opClose, ""), down(fin|opClose, "")),
		exchanged("a Close in the middle of a message in fragments", append(up(opText, "begun"), up(fin|opClose, status(1001, ""))...), down(fin|opClose, status(1001, ""))),
		{
			name: "a Close by the target first",
			target: func(p *wsPeer) {
				p.accept()
				p.say(append(down(fin|opText, "last words"), down(fin|opClose, status(1012, "restart"))...))
				p.hear(up(fin|opClose, status(1012, "")))
			},
			client: func(v *wsClient) {
				v.hear(append(down(fin|opText, "last words"), down(fin|opClose, status(1012, "restart"))...))
				v.say(up(fin|opClose, status(1012, "")))
				v.properly()
			},
		},
		{
			name: "what a client still says after the target's Close",
			target: func(p *wsPeer) {
				p.accept()
				p.say(down(fin|opClose, status(1000, "")))
				p.hear(append(up(fin|opText, "was on its way"), up(fin|opClose, status(1000, ""))...))
			},
			client: func(v *wsClient) {
				v.hear(down(fin|opClose, status(1000, "")))
				v.say(append(up(fin|opText, "was on its way"), up(fin|opClose, status(1000, ""))...))
				v.properly()
			},
		},
		{
			name:   "a client that has said everything, and hears on",
			target: func(p *wsPeer) { p.accept(); p.hear(up(fin|opText, "all")); p.end(); p.say(half); p.say(half) },
			client: func(v *wsClient) {
				v.say(up(fin|opText, "all"))
				must(v.t, v.end())
				v.hear(append(bytes.Clone(half), half...))
				v.properly()
			},
		},
		{
			name: "a target that has said everything, and hears on", over: []string{"h1", "h3"}, // x/net's client resets a stream that its server has ended
			target: func(p *wsPeer) {
				p.accept()
				p.say(half)
				must(p.t, p.CloseWrite())
				p.hear(up(fin|opText, "still heard"))
				p.end()
			},
			client: func(v *wsClient) {
				v.hear(half)
				v.properly()
				v.say(up(fin|opText, "still heard"))
				must(v.t, v.end())
			},
		},
		{
			name:   "a target that ends without a Close",
			target: func(p *wsPeer) { p.accept(); p.say(half) },
			client: func(v *wsClient) { v.hear(half); v.ended() },
		},
		{
			name:   "a target that ends in the middle of a frame",
			target: func(p *wsPeer) { p.accept(); p.say(half[:5]) },
			client: func(v *wsClient) { v.hear(half[:5]); v.ended() },
		},
		{
			name:   "a target that is reset",
			target: func(p *wsPeer) { p.accept(); p.say(half); p.hear(up(fin|opText, "die")); must(p.t, p.SetLinger(0)) },
			client: func(v *wsClient) { v.hear(half); v.say(up(fin|opText, "die")); v.ended() },
		},
		{
			name:   "a client that is gone",
			target: func(p *wsPeer) { p.accept(); p.hear(up(fin|opText, "here")); p.say(half); p.gone() },
			client: func(v *wsClient) { v.say(up(fin|opText, "here")); v.hear(half); v.reset() },
		},
		{
			name:   "a client that is gone in the middle of a frame",
			target: func(p *wsPeer) { p.accept(); p.hear(up(fin|opText, "here")[:6]); p.say(half); p.gone() },
			client: func(v *wsClient) { v.say(up(fin|opText, "here")[:6]); v.hear(half); v.reset() },
		},
		{
			name: "a client that goes while the target has much to say",
			target: func(p *wsPeer) {
				p.accept()
				frame := down(fin|opBinary, noise(1<<20))
				var err error
				for err == nil {
					_, err = p.Write(frame)
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					p.t.Error("the target was never told that its client is gone")
				}
			},
			client: func(v *wsClient) {
				_, err := io.CopyN(io.Discard, v, 3<<20)
				must(v.t, err)
				v.reset()
			},
		},
	}
}
