package handshake

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"strings"

	"padlock/handshake/wire"
	"padlock/internal/lazy"
)

// protocol is what a client speaks that does not speak TLS.
type protocol struct {
	kind   string // stable: a label of metrics
	name   string // completes "the client spoke …"
	remedy string
	found  func(head []byte) bool
}

const (
	remedyUnknown  = "check which program connects to this port, and its scheme and port: this one takes TLS only"
	remedyMail     = "use the client's TLS mode (SSL/TLS, not STARTTLS), and forward the port as a TCP site: sites[].tcp"
	remedyTCP      = "turn TLS on in the client, and forward the port as a TCP site: sites[].tcp"
	remedyMySQL    = "connect the client to the database itself: MySQL begins in plaintext, and padlock takes TLS only"
	remedyForward  = "take padlock's address out of the client's proxy settings (https_proxy, http_proxy): padlock is no forward proxy"
	remedyMidway   = "look for a load balancer or firewall that moves open connections here; the client only has to connect again"
	remedyScanners = "nothing: this is how scanners look for old faults, which padlock does not have"
)

// protocols are in the order in which they are tried: the exact ones first.
var protocols = []protocol{
	{"h2c", "HTTP/2 without TLS", "use https://; gRPC clients: TLS credentials instead of plaintext ones", prefix("PRI * HTTP/2")},
	{"ssh", "SSH", "use another port for SSH", prefix("SSH-")},
	{"proxy", "the PROXY protocol", "add the load balancer's address to listen.proxy_protocol.from, or turn the PROXY protocol off there", proxied},
	{"stomp", "STOMP or NATS", remedyTCP, matching(`^(?:STOMP\r?\n|CONNECT\r?\n|CONNECT \{)`)},
	{"http_connect", "HTTP CONNECT, as to a forward proxy,", remedyForward, prefix("CONNECT ")},
	{"http_proxy", "plain HTTP, as to a forward proxy,", remedyForward, matching(`^[A-Z]{3,16} (?i:https?|ftp)://`)},
	{"sip", "SIP", remedyTCP, matching(`^(?:[A-Z]+ sips?:|SIP/2\.0 )`)},
	{"rtsp", "RTSP", remedyTCP, matching(`^[A-Z_]+ (?:rtsps?://|\S+ RTSP/)`)},
	{"dict", "DICT", remedyTCP, dict},
	{"http", "plain HTTP", "", plainHTTP},
	{"smtp", "SMTP", remedyMail, matching(`^(?i:EHLO|HELO|LHLO|MAIL FROM|RCPT TO)(?:[ :]|\r?\n)`)},
	{"imap", "IMAP", remedyMail,
		matching(`^[A-Za-z0-9.+-]{1,16} (?i:CAPABILITY|LOGIN|STARTTLS|AUTHENTICATE|NOOP|LOGOUT|SELECT|ID|NAMESPACE)(?:[ ]|\r?\n)`)},
	{"pop3", "POP3", remedyMail, matching(`^(?i:CAPA|STLS|APOP .*|UIDL)\r?\n`)},
	{"ftp", "FTP", remedyMail, matching(`^(?i:AUTH (?:TLS|SSL)|FEAT|SYST|PASV|EPSV)\r?\n`)},
	{"ftp", "FTP or POP3", remedyMail, matching(`^(?i:USER [^\r\n]*|STAT)\r?\n`)},
	{"nntp", "NNTP", remedyMail, matching(`^(?i:MODE READER|CAPABILITIES|AUTHINFO USER [^\r\n]*)\r?\n`)},
	{"greeting", "a protocol in which the server greets first (SMTP, FTP, POP3 or NNTP), waited in vain, and took its leave", remedyMail, matching(`^(?i:QUIT)\r?\n`)},
	{"starttls", "a protocol that begins in plaintext, and asked for TLS (STARTTLS),", remedyMail, matching(`^(?i:STARTTLS)\r?\n`)},
	{"redis", "Redis's protocol", remedyTCP + "; redis-cli: --tls", redis},
	{"memcached", "memcached's protocol", remedyTCP,
		matching(`^(?:(?:get|gets|delete|touch|incr|decr|set|add|replace) \S|(?:stats|version|flush_all|verbosity)(?: [^\r\n]*)?\r?\n)`)},
	{"memcached", "memcached's binary protocol", remedyTCP, memcachedBinary},
	{"bittorrent", "BitTorrent", "nothing: a peer that guesses ports", prefix("\x13BitTorrent protocol")},
	{"amqp", "AMQP", "use amqps:// in the client, and forward the port as a TCP site: sites[].tcp", prefix("AMQP")},
	{"mqtt", "MQTT", "use mqtts:// (TLS) in the client, and forward the port as a TCP site: sites[].tcp", mqtt},
	{"postgres", "PostgreSQL's protocol, which asks for TLS in its own way,", "correct the port in the client, or give the database a TCP site with tcp.starttls: postgres",
		postgres(80877103, 80877104)},
	{"postgres", "PostgreSQL's protocol without TLS", "set sslmode=require and the right port in the client, or give the database a TCP site with tcp.starttls: postgres",
		postgres(80877102, 3<<16, 3<<16|2, 2<<16)},
	{"mysql", "MySQL's protocol", remedyMySQL, mysql},
	{"tds", "SQL Server's protocol (TDS)", "use Encrypt=Strict in the client (TDS 8.0), and forward the port as a TCP site: sites[].tcp", prefix("\x12\x01")},
	{"ldap", "LDAP", "use ldaps:// in the client instead of ldap:// or StartTLS, and forward the port as a TCP site: sites[].tcp", ldap},
	{"rdp", "RDP (Remote Desktop)", "RDP begins in plaintext and cannot be served here: give it a port of its own", rdp},
	{"socks5", "SOCKS5, as to a proxy,", strings.Replace(remedyForward, "https_proxy, http_proxy", "SOCKS, all_proxy", 1), socks5},
	{"socks4", "SOCKS4, as to a proxy,", strings.Replace(remedyForward, "https_proxy, http_proxy", "SOCKS, all_proxy", 1), socks4},
	{"smb", "SMB (Windows file sharing)", remedyUnknown, smb},
	{"kerberos", "Kerberos", "send it to the KDC's port (88): padlock does not forward it here", kerberos},
	{"dns", "DNS over TCP", "use DNS over TLS (port 853) in the client, and forward the port as a TCP site: sites[].tcp", dns},
	{"dtls", "DTLS, which is TLS for UDP,", "let the client use TLS over TCP", dtls},
	{"kafka", "Kafka's protocol", "set security.protocol=SSL in the client, and forward the port as a TCP site: sites[].tcp", kafka},
	{"mongodb", "MongoDB's protocol", "set tls=true in the client, and forward the port as a TCP site: sites[].tcp", mongodb},
	{"xmpp", "XMPP", "use direct TLS (xmpps) in the client, and forward the port as a TCP site: sites[].tcp", matching(`^(?:<\?xml[^>]*>\s*)?<stream:stream`)},
	{"irc", "IRC", remedyTCP, matching(`^(?:NICK |CAP LS|PASS )`)},
	{"vnc", "VNC", remedyTCP, prefix("RFB 00")},
	{"git", "the git protocol", "use https:// instead of git://", matching(`^[0-9a-f]{4}git-(?:upload|receive)-pack `)},
	{"rsync", "rsync", remedyTCP, prefix("@RSYNCD:")},
	{"telnet", "Telnet", remedyUnknown, telnet},
	{"oracle", "Oracle's protocol (TNS)", "use TCPS in the client, and forward the port as a TCP site: sites[].tcp", oracle},
	{"cassandra", "Cassandra's protocol", remedyTCP, cassandra},
	{"rtmp", "RTMP", "use rtmps:// in the client, and forward the port as a TCP site: sites[].tcp", rtmp},
	{"x11", "X11", remedyUnknown, prefix("l\x00\x0b\x00\x00\x00")},
	{"openvpn", "OpenVPN", "send it to OpenVPN's own port: padlock does not forward it here", openVPN},
	{"fastcgi", "FastCGI", remedyUnknown, prefix("\x01\x01\x00\x01\x00\x08")},
	{"json", "JSON without HTTP", remedyUnknown, matching(`^\s*\{\s*"`)},
	{"tls_alert", "a TLS alert and no hello", remedyMidway, record(wire.TypeAlert)},
	{"tls_data", "encrypted TLS data and no hello, as a connection does that began elsewhere", remedyMidway, record(wire.TypeApplicationData)},
	{"tls_data", "the end of a TLS handshake and no hello, as a connection does that began elsewhere", remedyMidway, record(wire.TypeChangeCipherSpec)},
	// RFC 6520.
	{"tls_heartbeat", "a TLS heartbeat and no hello, as scanners for Heartbleed do", remedyScanners, record(24)},
	{"sslv2", "SSL 2.0", "nothing: an ancient client, or a scanner", sslv2},
	{"sslv2", "SSL 2.0 or an unknown protocol", "nothing: an ancient client, or a scanner", func(b []byte) bool { return len(b) > 2 && b[0] == 0x80 }},
}

// more are kinds that the server knows, and no bytes show.
var more = []protocol{
	{kind: "no_proxy", name: "without the PROXY header that listen.proxy_protocol asks its address for",
		remedy: "turn the PROXY protocol on at the load balancer, or take its address out of listen.proxy_protocol.from"},
	{kind: "tls_on_plain", name: "TLS on the port of plain HTTP"},
	{kind: "quic_version", name: "an unknown version of QUIC"},
	{kind: "unknown", name: "an unknown protocol", remedy: remedyUnknown},
}

// Recognise names what a client speaks by its first bytes, of which there may be few; "unknown" if none fits.
func Recognise(head []byte) string { return protocolOf(head).kind }

// Spoken is what a client speaks whose first bytes these are, in words.
func Spoken(head []byte) string { return strings.TrimSuffix(protocolOf(head).name, ",") }

func protocolOf(head []byte) *protocol {
	for i := range protocols {
		// The order of the table decides: stricter patterns stand before looser ones.
		if protocols[i].found(head) {
			return &protocols[i]
		}
	}
	return protocolNamed("unknown")
}

func protocolNamed(kind string) *protocol {
	for _, all := range [][]protocol{more, protocols} {
		for i := range all {
			if all[i].kind == kind {
				return &all[i]
			}
		}
	}
	return &protocol{kind: kind, name: "an unknown protocol", remedy: remedyUnknown}
}

// spoken is what a connection that is not TLS speaks: what the bytes say, else what the server says of them.
func (d *dissector) spoken() *protocol {
	switch d.kind {
	case "no_proxy", "tls_on_plain":
		return protocolNamed(d.kind)
	}
	if found := protocolOf(d.in); found.kind != "unknown" || d.kind == "" {
		return found
	}
	return protocolNamed(d.kind)
}

func (d *dissector) notTLS(f *Failure) {
	p := d.spoken()
	f.By, f.Confidence = Server, "certain"
	f.Cause, f.Remedy = "the client spoke "+p.name+" on a TLS port", p.remedy

	switch p.kind {
	case "http":
		f.Remedy = "use https:// instead of http://"
		// padlock answers plain HTTP on its HTTPS port with a redirect where it can.
		if bytes.Contains(d.out, []byte(" 308 ")) {
			f.Remedy += " (padlock has answered with a redirect there)"
		}
	case "no_proxy":
		d.noProxy(f, p)
	case "tls_on_plain":
		f.Cause = "the client spoke TLS on the port of plain HTTP"
		f.Remedy = "use https:// with the port of HTTPS, or http:// for this one"
		if port := d.httpsPort; port != "" {
			f.Remedy = "use port " + port + " for https://, or http:// for this one"
		}
	case "tls_alert":
		f.Cause = "the client began with " + p.name
		if a, ok := plainAlert(d.in); ok {
			f.Alert, f.AlertName = int(a.Description), wire.AlertName(a.Description)
			f.Kind = f.Cause
			f.Cause += ": it gave up before it began, or the connection began elsewhere; the alert is " + f.AlertName
			f.Remedy = "see the client's own error: padlock explain " + f.AlertName + "; else " + p.remedy
		}
		f.Confidence = "likely"
	case "tls_data", "tls_heartbeat":
		f.Cause, f.Confidence = "the client began with "+p.name, "likely"
	case "ftp", "nntp", "redis", "dict", "memcached", "mysql", "tds", "ldap", "rdp", "socks4", "socks5", "kerberos", "dns", "kafka", "mongodb", "irc", "stomp", "telnet", "greeting", "oracle", "cassandra", "rtmp", "x11", "openvpn", "fastcgi", "json", "sslv2":
		// A few bytes are no proof: other protocols may begin with them too.
		f.Confidence = "likely"
	case "unknown":
		f.Kind = f.Cause
		f.Cause += ", which begins with " + excerpt(d.in)
	}
}

// noProxy is a connection from a proxy that did not say whom it speaks for.
func (d *dissector) noProxy(f *Failure, p *protocol) {
	f.Cause = "the client came " + p.name
	switch {
	case proxied(d.in):
		f.Cause = "the PROXY header of the client is malformed, or not whole"
		f.Remedy = "correct the PROXY header at the load balancer: version 1 or 2, with the client's address and port (listen.proxy_protocol)"
	case len(d.in) == 0 && d.timedOut():
		f.Cause = "the client sent nothing until the handshake timeout, and padlock expects a PROXY header of its address (listen.proxy_protocol)"
	}
	if len(d.in) > 0 {
		f.Kind = f.Cause
		f.Cause += "; it began with " + excerpt(d.in)
	}
}

func plainAlert(head []byte) (wire.Alert, bool) {
	records, _ := wire.Records(nil, head)
	if len(records) == 0 || records[0].Type != wire.TypeAlert {
		return wire.Alert{}, false
	}
	return wire.ParseAlert(records[0].Fragment)
}

// excerpt shows the first bytes of something, so that a person can recognise what padlock could not.
func excerpt(head []byte) string {
	if len(head) == 0 {
		return "nothing"
	}
	const most = 24
	text := `"` + Escape(string(head[:min(most, len(head))])) + `"`
	if len(head) > most {
		text += "…"
	}
	return text
}

// greetings are protocols in which the server speaks first, by their usual ports.
var greetings = map[string]string{
	"21": "FTP", "990": "FTP", "25": "SMTP", "465": "SMTP", "587": "SMTP", "110": "POP3", "995": "POP3", "143": "IMAP", "993": "IMAP", "3306": "MySQL", "5900": "VNC",
}

// greeting is the protocol of the connection's port in which clients wait for the server; "" if none is known.
func (d *dissector) greeting() string {
	_, port, err := net.SplitHostPort(d.event.Local)
	if err != nil {
		return ""
	}
	return greetings[port]
}

// What follows recognises protocols. Heads may be short: a client that waits for an answer has sent only its first
// message.

func prefix(text string) func([]byte) bool {
	return func(b []byte) bool {
		// Five bytes or more of the beginning will do: that is what crypto/tls has read when it gives up.
		return bytes.HasPrefix(b, []byte(text)) || len(b) >= 5 && len(b) < len(text) && strings.HasPrefix(text, string(b))
	}
}

func matching(pattern string) func([]byte) bool {
	// Compiled for the first client that says something else than TLS.
	expression := lazy.Regexp(pattern)
	return func(b []byte) bool { return expression().Match(b) }
}

// plainHTTP is a request line, of which there may be five bytes only.
func plainHTTP(b []byte) bool {
	if requestLine().Match(b) {
		return true
	}
	return slices.ContainsFunc([]string{"HEAD /", "POST /", "PATCH /", "DELETE /", "OPTIONS /", "TRACE /"}, func(line string) bool { return prefix(line)(b) && len(b) < len(line) })
}

var requestLine = lazy.Regexp(`^[A-Z][A-Z-]{1,15} (?:/|\*)`)

// record is a TLS record of this type, in SSL 3.0 to TLS 1.3.
func record(kind byte) func([]byte) bool {
	return func(b []byte) bool { return len(b) >= 3 && b[0] == kind && b[1] == 3 && b[2] <= 4 }
}

func proxied(b []byte) bool {
	return bytes.HasPrefix(b, []byte("PROXY ")) || bytes.HasPrefix(b, []byte("\r\n\r\n\x00\r\nQUIT\n")) || string(b) == "PROXY" || string(b) == "\r\n\r\n\x00"
}

// sslv2 is a length of two bytes with its highest bit set, then CLIENT-HELLO.
func sslv2(b []byte) bool { return len(b) >= 3 && b[0]&0x80 != 0 && b[2] == 1 }

// dict is a command of RFC 2229. Redis has a CLIENT too, with words of its own behind it.
func dict(b []byte) bool {
	return dictCommand().Match(b) && !redis(b) && !bytes.Contains(b, []byte(" HTTP/"))
}

var dictCommand = lazy.Regexp(`^(?i:CLIENT [^\r\n]+|DEFINE \S+ [^\r\n]+|MATCH \S+ \S+ [^\r\n]+|SHOW (?:DB|DATABASES|STRAT|STRATEGIES|SERVER|INFO \S+))\r?\n`)

func redis(b []byte) bool {
	// Clients send arrays. People who try it with telnet send commands inline.
	return redisArray().Match(b) || redisInline().Match(b)
}

var (
	redisArray  = lazy.Regexp(`^\*[0-9]{1,4}\r\n`)
	redisInline = lazy.Regexp(`^(?i:PING|AUTH [^\r\n]+|INFO|HELLO [23]|SELECT [0-9]+|CLIENT (?:SETINFO|SETNAME|GETNAME|ID|INFO|LIST|KILL|REPLY|TRACKING|CACHING|NO-EVICT|NO-TOUCH|PAUSE|UNPAUSE|UNBLOCK|TRACKINGINFO|GETREDIR|HELP)\b)[^\r\n]*\r?\n`)
)

// memcachedBinary is a request's magic byte, a low opcode, a length of a key and the data type, which is 0.
func memcachedBinary(b []byte) bool {
	return len(b) >= 6 && b[0] == 0x80 && b[1] <= 0x24 && b[2] == 0 && b[5] == 0 && b[4] <= 0x20
}

// mqtt is CONNECT with the protocol's name (MQTT 3.1 to 5).
func mqtt(b []byte) bool {
	if len(b) < 2 || b[0] != 0x10 {
		return false
	}
	rest := b[1:]
	for i := 0; i < 4 && len(rest) > 0; i++ {
		more := rest[0]&0x80 != 0
		rest = rest[1:]
		if !more {
			break
		}
	}
	return bytes.HasPrefix(rest, []byte("\x00\x04MQTT")) || bytes.HasPrefix(rest, []byte("\x00\x06MQIsdp"))
}

// postgres is a length and one of these codes.
func postgres(codes ...uint32) func([]byte) bool {
	return func(b []byte) bool {
		if len(b) < 8 {
			return false
		}
		length, code := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		for _, c := range codes {
			if code == c && length >= 8 && length < 10_000 {
				return true
			}
		}
		return false
	}
}

// mysql is the packet with which a client answers the server's greeting: a length of three bytes, and 1.
func mysql(b []byte) bool {
	// Every client since MySQL 4.1 sets CLIENT_PROTOCOL_41.
	return len(b) >= 9 && int(b[0])|int(b[1])<<8 >= 32 && b[2] == 0 && b[3] == 1 && b[5]&0x02 != 0 // CLIENT_PROTOCOL_41
}

// ldap is a sequence that begins with a message's number, and then one of the requests (RFC 4511 section 4).
func ldap(b []byte) bool {
	if len(b) < 7 || b[0] != 0x30 {
		return false
	}

	rest := b[2:]
	if long := int(b[1] & 0x7f); b[1]&0x80 != 0 {
		if long > 4 || len(rest) < long {
			return false
		}
		rest = rest[long:]
	}

	if len(rest) < 3 || rest[0] != 2 || rest[1] < 1 || rest[1] > 4 || len(rest) < 3+int(rest[1]) {
		return false
	}

	request := rest[2+rest[1]]
	return request&0xc0 == 0x40 // an application's own tag
}

// rdp is TPKT with X.224's connection request, or its cookie.
func rdp(b []byte) bool {
	return len(b) >= 6 && b[0] == 3 && b[1] == 0 && b[5]&0xf0 == 0xe0 || len(b) == 5 && b[0] == 3 && b[1] == 0 && b[2] == 0
}

// socks5 is a version, a number of methods, and as many methods (RFC 1928 section 3).
func socks5(b []byte) bool {
	return len(b) >= 3 && b[0] == 5 && b[1] > 0 && b[1] < 16 && len(b) >= 2+int(b[1]) && b[2] <= 9
}

// socks4 is a version, CONNECT or BIND, port, address and a name.
func socks4(b []byte) bool {
	return len(b) >= 8 && b[0] == 4 && (b[1] == 1 || b[1] == 2)
}

func smb(b []byte) bool {
	return len(b) >= 8 && b[0] == 0 && (bytes.HasPrefix(b[4:], []byte("\xffSMB")) || bytes.HasPrefix(b[4:], []byte("\xfeSMB")))
}

// kerberos is a length and AS-REQ or TGS-REQ (RFC 4120 section 5.4.1).
func kerberos(b []byte) bool {
	return len(b) >= 6 && b[0] == 0 && b[1] == 0 && (b[4] == 0x6a || b[4] == 0x6c) && (b[5]&0x80 != 0 || b[5] > 16)
}

// dns is a length, a number, flags of a query, and one question (RFC 1035 section 4.1.1).
func dns(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	length := int(binary.BigEndian.Uint16(b))
	return length >= 17 && length < 4096 && b[4]&0xf8 == 0 && b[5]&0x8f == 0 && b[6] == 0 && b[7] == 1 && b[8] == 0 && b[9] == 0
}

func dtls(b []byte) bool {
	return len(b) >= 3 && b[0] == wire.TypeHandshake && b[1] == 0xfe && (b[2] == 0xff || b[2] == 0xfd)
}

// kafka is a length, ApiVersions or Metadata, and a low version.
func kafka(b []byte) bool {
	return len(b) >= 10 && b[0] == 0 && b[1] == 0 && b[4] == 0 && (b[5] == 18 || b[5] == 3) && b[6] == 0 && b[7] < 16
}

// mongodb is OP_MSG or OP_QUERY in a header that counts from the lowest byte.
func mongodb(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	length, code := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[12:])
	return (code == 2013 || code == 2004) && length >= 16 && length < 48<<20
}

// oracle is TNS's length, no checksum, CONNECT, and a version from 300 on.
func oracle(b []byte) bool {
	return len(b) >= 10 && b[2] == 0 && b[3] == 0 && b[4] == 1 && b[5] == 0 && b[8] == 1 && b[9] >= 0x2c
}

// cassandra is a version of CQL's protocol, and STARTUP or OPTIONS on the first stream.
func cassandra(b []byte) bool {
	return len(b) >= 9 && b[0] >= 3 && b[0] <= 5 && b[2] == 0 && (b[4] == 1 || b[4] == 5) && b[5] == 0 && b[6] == 0
}

// rtmp is a version, a time, and zeros (RTMP 1.0 section 5.2.3).
func rtmp(b []byte) bool {
	return len(b) >= 9 && b[0] == 3 && bytes.Equal(b[5:9], make([]byte, 4))
}

// openVPN is a length and a client's hard reset (P_CONTROL_HARD_RESET_CLIENT_V2, or V3) with the first key.
func openVPN(b []byte) bool {
	return len(b) >= 3 && b[0] == 0 && b[1] >= 14 && (b[2] == 7<<3 || b[2] == 10<<3)
}

func telnet(b []byte) bool { return len(b) >= 3 && b[0] == 0xff && b[1] >= 0xfb && b[1] <= 0xfe }
