package http1

import "testing"

func TestNamesAreWrittenAsIsCustomary(t *testing.T) {
	for name, want := range map[string]string{
		"user-agent": "User-Agent", "accept": "Accept", "x-request-id": "X-Request-Id", "sec-websocket-key": "Sec-WebSocket-Key", "te": "TE", "dnt": "DNT",
		"soapaction": "SOAPAction", "x--y-": "X--Y-", "-a": "-A", "1-b": "1-B", "x_y": "X_y", "t": "T", "~": "~",
		"X-SSL-Client-Verify": "X-SSL-Client-Verify", "x-myApp-id": "x-myApp-id", "Sec-Websocket-Key": "Sec-Websocket-Key",
	} {
		if got := string(appendCustomary([]byte("before-"), name, "a-b c")); got != "before-"+want+": a-b c\r\n" {
			t.Errorf("%s is written %q", name, got)
		}
	}
}
