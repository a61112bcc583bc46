package message

import (
	"net/http"
	"sync/atomic"
	"time"
)

var lastDate atomic.Pointer[dated]

type dated struct {
	second int64
	text   string
}

// Date is now as a field's value (RFC 9110 section 5.6.7). It is made once a second.
func Date() string {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}
