package lab

import (
	"crypto/tls"
	"slices"
	"sync"
	"time"

	"padlock/handshake"
)

// Visit is one connection to an endpoint, as the server saw it. It is a copy: nobody changes it.
type Visit struct {
	ID        uint64    `json:"id"`
	Endpoint  string    `json:"endpoint"`
	Start     time.Time `json:"start"`
	Remote    string    `json:"remote"`
	SNI       string    `json:"sni"`
	QUIC      bool      `json:"quic,omitempty"`
	Open      bool      `json:"open,omitempty"`          // it has not ended yet
	Handshake bool      `json:"handshake"`               // it was complete for the server
	Finished  bool      `json:"finished"`                // the client has sent its Finished
	Obeyed    bool      `json:"obeyed,omitempty"`        // it answered a message that it must not answer
	Data      bool      `json:"data"`                    // application data has come
	Served    bool      `json:"served"`                  // a whole answer was sent
	Agent     string    `json:"agent,omitempty"`         // the client by its own words
	Unsuited  string    `json:"unsuited,omitempty"`      // why the endpoint could not be shown
	Alert     string    `json:"alert,omitempty"`         // the client's, by name
	Error     string    `json:"error,omitempty"`         // of this side
	Said      string    `json:"handshake_log,omitempty"` // by the handshake log: how it ended
	Asked     int       `json:"asked,omitempty"`         // how often the revocation server was asked for this host

	Excused string `json:"excused,omitempty"` // why this client may do as it likes

	Event *handshake.Event `json:"-"`

	source string // where the client is: see sourceOf
}

// visits remembers what happens at the endpoints. It is safe for use from many goroutines.
type visits struct {
	mu      sync.Mutex
	all     []*Visit                    // the last ones, oldest first
	early   map[uint64]*handshake.Event // events that came before their visits
	changed chan struct{}               // closed and replaced at each change
	count   uint64                      // changes
}

// maxVisits are remembered for the page.
const maxVisits = 2000

func newVisits() *visits {
	return &visits{changed: make(chan struct{}), early: map[uint64]*handshake.Event{}}
}

func (v *visits) begin(e *Endpoint, hello *tls.ClientHelloInfo, id uint64, remote string, asked int) *Visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	excused := ""
	if e.tuned != nil {
		excused = e.tuned(hello)
	}

	visit := &Visit{ID: id, Endpoint: e.Name, Start: time.Now(), Remote: remote, source: sourceOf(remote), SNI: handshake.Escape(hello.ServerName), Open: true, Excused: excused, Asked: -asked}
	v.append(visit)
	return visit
}

// stranger notes a connection that says nothing of where it wants to go.
func (v *visits) stranger(id uint64, remote string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.append(&Visit{ID: id, Start: time.Now(), Remote: remote, source: sourceOf(remote), Error: handshake.Escape(err.Error())})
}

// again makes another visit of one, for the next request on its connection.
func (v *visits) again(visit *Visit, asked int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	past := *visit
	past.Open, past.Asked = false, past.Asked+asked
	if i := slices.Index(v.all, visit); i >= 0 {
		v.all[i] = &past
	}
	visit.Start, visit.Asked, visit.Served, visit.Agent = time.Now(), -asked, false, ""
	v.append(visit)
}

// append is called with the lock held.
func (v *visits) append(visit *Visit) {
	if len(v.all) == maxVisits {
		v.all = slices.Delete(v.all, 0, maxVisits/4)
	}
	v.all = append(v.all, visit)
	v.change()
}

// update changes a visit, under the lock.
func (v *visits) update(visit *Visit, f func(*Visit)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(visit)
	v.change()
}

// change is called with the lock held.
func (v *visits) change() {
	v.count++
	close(v.changed)
	v.changed = make(chan struct{})
}

// Handshake implements handshake.Sink: the log's event joins its visit.
func (v *visits) Handshake(e *handshake.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	joined := false
	for _, visit := range v.all {
		if visit.ID == e.ID {
			visit.join(e)
			joined = true
		}
	}
	if joined {
		v.change()
		return
	}
	if len(v.early) > maxVisits {
		clear(v.early)
	}
	v.early[e.ID] = e
}

func (v *Visit) join(e *handshake.Event) {
	v.Event = e
	for _, s := range e.Stages {
		if s.Name == "finished" && s.From == handshake.Client {
			v.Finished = true
		}
	}
	if f := e.Failure; f != nil {
		if f.By == handshake.Client {
			v.Alert = f.AlertName
		}
		v.Said = "the " + string(f.By) + " ended it after " + handshake.StageTitle(f.Stage) + ": " + f.Cause
	}
}

// of lists the visits to an endpoint since a moment, from there, and tells whether all of them are over.
func (v *visits) of(endpoint string, since time.Time, from sources) (list []Visit, over bool, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	over = true
	for _, visit := range v.all {
		if visit.Endpoint == endpoint && !visit.Start.Before(since) && from.has(visit.source) {
			list = append(list, *visit)
			over = over && !visit.Open && visit.Event != nil
		}
	}
	return list, over, v.changed
}

// astray says where connections since a moment, from there, went that did not go to an endpoint of the table; "": there
// are none.
func (v *visits) astray(since time.Time, from sources) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, visit := range v.all {
		switch {
		case visit.Start.Before(since), !from.has(visit.source):
		case visit.Endpoint == "":
			return "it connected, and sent no TLS: " + visit.Error
		case visit.Endpoint == unknown.Name || visit.Endpoint == page.Name:
			return "it connected, and asked for the server name " + visit.SNI
		}
	}
	return ""
}

// since lists all visits, for the page.
func (v *visits) since(count uint64) (list []Visit, now uint64, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if count != v.count || count == 0 {
		for _, visit := range v.all {
			list = append(list, *visit)
		}
	}
	return list, v.count, v.changed
}
