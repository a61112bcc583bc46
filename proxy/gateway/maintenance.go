package gateway

import (
	"strconv"
	"strings"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

const (
	maintenanceText  = "This site is in maintenance and will be back soon"
	maintenanceAgain = 2 * time.Minute // where nobody has said when it ends
)

// inMaintenance is the answer for a client that is not served while a site is in maintenance; nil: it is served.
func (x *Exchange) inMaintenance(m *sites.Maintenance) error {
	if !m.Holds(x.addr, x.path.Raw, x.start) {
		return nil
	}

	wait := maintenanceAgain
	if !m.Until.IsZero() {
		wait = m.Until.Sub(x.start)
	}
	page := &StatusError{
		Status: 503, Text: maintenanceText, page: m.Page, Cause: "maintenance",
		// Rounded up: a client that comes back a moment early would be sent away again.
		Fields: message.Fields{{Name: "Retry-After", Value: strconv.Itoa(int((wait + time.Second - 1) / time.Second))}},
	}
	if m.Message != "" {
		page.Text, page.plain = strings.TrimSuffix(m.Message, "."), true
	}
	return page
}
