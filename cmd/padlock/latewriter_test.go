package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

type countedFile struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
	err    error
	closed bool
}

func (f *countedFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	if f.err != nil {
		return 0, f.err
	}
	return f.text.Write(p)
}

func (f *countedFile) Close() error { f.closed = true; return nil }

func (f *countedFile) state() (string, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String(), f.writes
}

func TestLinesOfABusyLogAreWrittenTogetherAndSoon(t *testing.T) {
	file := &countedFile{}
	log := newLateWriter(file)
	var writers sync.WaitGroup
	for i := range 10 {
		writers.Go(func() {
			for j := range 20 {
				fmt.Fprintf(log, "line %d of %d\n", j, i)
			}
		})
	}
	writers.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, writes := file.state()
		if strings.Count(text, "\n") == 200 {
			if writes > 20 {
				t.Errorf("%d writes for 200 lines", writes)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d lines were written", strings.Count(text, "\n"))
		}
	}
	fmt.Fprintln(log, "last")
	if err := log.Close(); err != nil || !file.closed {
		t.Fatal("the file is still open", err)
	}
	if text, _ := file.state(); !strings.HasSuffix(text, "last\n") {
		t.Fatal("Close has lost a line")
	}
}

func TestAFullDiskIsToldToTheNextWriter(t *testing.T) {
	log := newLateWriter(&countedFile{err: errors.New("no space left")})
	if _, err := log.Write(bytes.Repeat([]byte("x"), lateSize)); err == nil {
		t.Fatal("a failed write was not told")
	}
	if _, err := log.Write([]byte("y\n")); err != nil {
		t.Fatal("told twice:", err)
	}
}
