package servicetest

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"
)

// NTLM is a server that authenticates connections, as IIS does with NTLM: a client proves who it is in two requests,
// and what follows on the connection is the user's. It believes everybody, and answers with the user's name.
type NTLM struct {
	URL string

	mu   sync.Mutex
	open map[net.Conn]*ntlmConn
}

type ntlmConn struct {
	mu         sync.Mutex
	challenged bool
	user       string
}

type ntlmKey struct{}

// StartNTLM starts a server whose challenges are of a scheme: NTLM or Negotiate.
func StartNTLM(t testing.TB, scheme string) *NTLM {
	t.Helper()
	n := &NTLM{open: map[net.Conn]*ntlmConn{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(ntlmKey{}).(*ntlmConn)
		c.answer(w, r, scheme)
	}))

	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		c := &ntlmConn{}
		n.mu.Lock()
		n.open[conn] = c
		n.mu.Unlock()
		return context.WithValue(ctx, ntlmKey{}, c)
	}

	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			n.mu.Lock()
			delete(n.open, conn)
			n.mu.Unlock()
		}
	}

	server.Start()
	t.Cleanup(server.Close)
	n.URL = server.URL
	return n
}

// Users are those whose connections are open.
func (n *NTLM) Users() (users []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.open {
		c.mu.Lock()
		if c.user != "" {
			users = append(users, c.user)
		}
		c.mu.Unlock()
	}
	return users
}

// ntlmChallenge is a CHALLENGE_MESSAGE without target information (MS-NLMP section 2.2.1.2).
var ntlmChallenge = base64.StdEncoding.EncodeToString([]byte("NTLMSSP\x00\x02\x00\x00\x00" + "\x00\x00\x00\x00\x38\x00\x00\x00" + "\x01\x82\x00\x00" + "12345678" + strings.Repeat("\x00", 24)))

func (c *ntlmConn) answer(w http.ResponseWriter, r *http.Request, scheme string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), scheme+" ")
	message, _ := base64.StdEncoding.DecodeString(token)

	switch kind := messageKind(message); {
	case kind == 1:
		c.challenged, c.user = true, ""
		w.Header().Set("WWW-Authenticate", scheme+" "+ntlmChallenge)
		http.Error(w, "go on", http.StatusUnauthorized)
	case kind == 3 && c.challenged:
		c.challenged, c.user = false, userOf(message)
		fmt.Fprintln(w, c.user)
	case kind == 0 && c.user != "":
		fmt.Fprintln(w, c.user)
	default:
		w.Header().Set("WWW-Authenticate", scheme)
		http.Error(w, "who is it?", http.StatusUnauthorized)
	}
}

// messageKind is 1 or 3 for a client's messages, and 0 for anything else.
func messageKind(message []byte) uint32 {
	if len(message) < 12 || string(message[:8]) != "NTLMSSP\x00" {
		return 0
	}
	return binary.LittleEndian.Uint32(message[8:])
}

const ntlmUserField = 36 // of an AUTHENTICATE_MESSAGE (MS-NLMP section 2.2.1.3)

func userOf(message []byte) string {
	if len(message) < ntlmUserField+8 {
		return "nobody"
	}
	length, at := int(binary.LittleEndian.Uint16(message[ntlmUserField:])), int(binary.LittleEndian.Uint32(message[ntlmUserField+4:]))
	if at > len(message) || at+length > len(message) {
		return "nobody"
	}
	var units []uint16
	for name := message[at : at+length]; len(name) >= 2; name = name[2:] {
		units = append(units, binary.LittleEndian.Uint16(name))
	}
	return string(utf16.Decode(units))
}

// NTLMTokens are the two messages by which a user proves who it is.
func NTLMTokens(user string) (first, second string) {
	hello := "NTLMSSP\x00\x01\x00\x00\x00\x01\x82\x00\x00" + strings.Repeat("\x00", 16)
	proof := make([]byte, 64)
	copy(proof, "NTLMSSP\x00\x03")
	name := utf16.Encode([]rune(user))
	binary.LittleEndian.PutUint16(proof[ntlmUserField:], uint16(2*len(name)))
	binary.LittleEndian.PutUint16(proof[ntlmUserField+2:], uint16(2*len(name)))
	binary.LittleEndian.PutUint32(proof[ntlmUserField+4:], uint32(len(proof)))
	for _, unit := range name {
		proof = binary.LittleEndian.AppendUint16(proof, unit)
	}
	return base64.StdEncoding.EncodeToString([]byte(hello)), base64.StdEncoding.EncodeToString(proof)
}
