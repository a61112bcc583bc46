package http2

import (
	"context"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/park"
)

func TestIdleConnectionsAreParkedWokenAndEnded(t *testing.T) {
	lot, err := park.New()
	if err != nil {
		t.Fatal(err)
	}
	defer lot.Close()
	s := serve(t, hello, func(o *ServerOptions) { o.Park, o.Idle = lot, 3*time.Second })
	c := dial(t, s)
	for id := uint32(1); id < 5; id += 2 {
		c.request(id, true, get...)
		if a := c.await(id); a.status != "200" {
			t.Fatalf("%+v", a)
		}
		for deadline := time.Now().Add(10 * time.Second); lot.Parked() == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("not parked")
			}
		}
	}
	if code, said := c.goneWith(); !said || code != http2.ErrCodeNo {
		t.Fatal("an idle connection ended without a word", code, said)
	}
	c = dial(t, s)
	c.request(1, true, get...)
	c.await(1)
	for deadline := time.Now().Add(10 * time.Second); lot.Parked() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not parked")
		}
	}
	go c.goneWith() // answers nothing: Shutdown does not wait for it
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}
