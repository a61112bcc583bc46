// Package certstatus says how certificates are: what certs knows of them, and the admin endpoint shows.
package certstatus

import "time"

// Status is what is known of a certificate, or of a name that should have one.
type Status struct {
	Name      string     `json:"name"`
	Issuer    string     `json:"issuer,omitempty"`
	KeyType   string     `json:"key_type,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	Renewal   *time.Time `json:"renewal,omitempty"` // when it is due
	Error     string     `json:"error,omitempty"`   // of the last look
	NextTry   *time.Time `json:"next_try,omitempty"`
	OnDemand  bool       `json:"on_demand,omitempty"`
	Expiring  bool       `json:"expiring,omitempty"` // it has expired, or is in its last third and renewals fail
	Source    string     `json:"source,omitempty"`   // acme | file | local
	Names     []string   `json:"names,omitempty"`
	DER       [][]byte   `json:"-"` // the chain as it is sent, the leaf first
}
