package handshake

import (
	"strings"
	"testing"
)

// firstBytes are what clients of other protocols send first, as their specifications have it.
var firstBytes = []struct{ kind, bytes string }{
	{"http", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"}, {"http", "GET /"}, {"http", "POST "}, {"http", "OPTIONS * HTTP/1.1\r\n"}, {"http", "PROPFIND /dav HTTP/1.1\r\n"},
	{"http_connect", "CONNECT example.com:443 HTTP/1.1\r\n"}, {"http_proxy", "GET http://example.com/ HTTP/1.1\r\n"},
	{"h2c", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}, {"h2c", "PRI *"}, {"ssh", "SSH-2.0-OpenSSH_9.2\r\n"},
	{"proxy", "PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n"}, {"proxy", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"},
	{"smtp", "EHLO mail.example.com\r\n"}, {"smtp", "helo x\r\n"}, {"smtp", "MAIL FROM:<a@example.com>\r\n"},
	{"imap", "a001 CAPABILITY\r\n"}, {"imap", "1 LOGIN bob secret\r\n"}, {"imap", ". starttls\r\n"},
	{"pop3", "CAPA\r\n"}, {"pop3", "STLS\r\n"}, {"ftp", "AUTH TLS\r\n"}, {"ftp", "USER anonymous\r\n"},
	{"rdp", "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"},
	{"rdp", "\x03\x00\x00\x2f\x2a\xe0\x00\x00\x00\x00\x00Cookie: mstshash=bob\r\n"},
	{"mqtt", "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test"}, {"mqtt", "\x10\x8d\x01\x00\x06MQIsdp\x03"},
	{"postgres", "\x00\x00\x00\x08\x04\xd2\x16\x2f"}, {"postgres", "\x00\x00\x00\x08\x04\xd2\x16\x30"}, {"postgres", "\x00\x00\x00\x29\x00\x03\x00\x00user\x00bob\x00"},
	{"mysql", "\x20\x00\x00\x01\x85\xae\xff\x19\x00\x00\x00\x01\xff"},
	{"ldap", "0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"}, {"ldap", "0\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"}, {"ldap", "0\x84\x00\x00\x00\x10\x02\x01\x01\x60\x84"},
	{"redis", "*1\r\n$4\r\nPING\r\n"}, {"redis", "PING\r\n"}, {"redis", "AUTH secret\r\n"}, {"redis", "CLIENT SETINFO LIB-NAME x\r\n"}, {"redis", "client list\r\n"},
	{"dict", "CLIENT libcurl 7.88.1\r\nDEFINE ! x\r\nQUIT\r\n"}, {"dict", "DEFINE * word\r\n"}, {"dict", "SHOW DB\r\n"}, {"http", "DEFINE /x y HTTP/1.1\r\n"}, {"starttls", "STARTTLS\r\n"},
	{"amqp", "AMQP\x00\x00\x09\x01"}, {"amqp", "AMQP\x03\x01\x00\x00"},
	{"dns", "\x00\x1d\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"},
	{"kerberos", "\x00\x00\x00\xa5\x6a\x81\xa2\x30\x81\x9f"},
	{"socks5", "\x05\x01\x00"}, {"socks5", "\x05\x02\x00\x02"}, {"socks5", "\x05\x03\x00\x01\x02"}, {"socks4", "\x04\x01\x01\xbb\xc0\x00\x02\x01\x00"}, {"socks4", "\x04\x01\x00\x50\x00\x00\x00\x01bob\x00example.com\x00"},
	{"memcached", "stats\r\n"}, {"memcached", "get key\r\n"}, {"memcached", "set key 0 0 3\r\n"}, {"memcached", "\x80\x0b\x00\x00\x00\x00\x00\x00"}, {"memcached", "version\r\n"},
	{"bittorrent", "\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05"},
	{"smb", "\x00\x00\x00\x90\xfeSMB\x40\x00"}, {"dtls", "\x16\xfe\xff\x00\x00\x00\x00"}, {"kafka", "\x00\x00\x00\x1f\x00\x12\x00\x03\x00\x00\x00\x01"},
	{"mongodb", "\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00"}, {"tds", "\x12\x01\x00\x2f\x00\x00\x01\x00"},
	{"xmpp", "<?xml version='1.0'?><stream:stream to='x'"}, {"irc", "NICK bob\r\n"}, {"stomp", "CONNECT\naccept-version:1.2\n"}, {"stomp", "CONNECT {\"verbose\":false}\r\n"},
	{"sip", "OPTIONS sip:x@example.com SIP/2.0\r\n"}, {"rtsp", "DESCRIBE rtsp://example.com/ RTSP/1.0\r\n"}, {"vnc", "RFB 003.008\n"},
	{"git", "0033git-upload-pack /a.git\x00host=x\x00"}, {"rsync", "@RSYNCD: 31.0\n"}, {"telnet", "\xff\xfd\x03\xff\xfb\x18"}, {"json", "{\"id\":1,\"method\":\"mining.subscribe\"}\n"},
	{"tls_alert", "\x15\x03\x01\x00\x02\x02\x28"}, {"tls_data", "\x17\x03\x03\x00\x20" + "xxxxxxxx"}, {"tls_data", "\x14\x03\x03\x00\x01\x01"}, {"tls_heartbeat", "\x18\x03\x02\x00\x03\x01\x40\x00"},
	{"sslv2", "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"},
	{"unknown", "hello?\r\n\r\n"}, {"unknown", ""}, {"unknown", "\x00\x01\x02\x03\x04"}, {"unknown", "get"}, {"unknown", "\x30\x31\x32\x33\x34\x35\x36\x37"},
}

// What a client speaks that does not speak TLS is told by its first bytes.
func TestProtocolsAreRecognisedByTheirFirstBytes(t *testing.T) {
	for _, c := range firstBytes {
		if got := Recognise([]byte(c.bytes)); got != c.kind {
			t.Errorf("%q: %s, and not %s", c.bytes, got, c.kind)
		}
	}
}

// Every protocol has a name that completes a sentence, and a remedy; but for plain HTTP, whose depends on the answer.
func TestEveryProtocolHasARemedy(t *testing.T) {
	for _, p := range protocols {
		if p.name == "" || p.remedy == "" && p.kind != "http" || strings.HasSuffix(p.remedy, ".") {
			t.Errorf("%+v", p)
		}
	}
}
