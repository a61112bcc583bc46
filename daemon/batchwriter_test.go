package daemon

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type countedFile struct {
	mu      sync.Mutex
	text    bytes.Buffer
	writes  int
	limited bool
	room    int // bytes that it takes of a write, where it is limited
	closed  bool
}

func (f *countedFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	if f.limited && len(p) > f.room {
		f.text.Write(p[:f.room])
		return f.room, syscall.ENOSPC
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
	log := newBatchWriter(file, func(lost int, err error) {
		if lost > 0 || err != nil {
			t.Errorf("%d lost, %v", lost, err)
		}
	})
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

// A disk takes a part, then nothing, then all again: the lines that are not whole are counted, and no writer hears of it.
func TestLinesThatAFullDiskDoesNotTakeAreCounted(t *testing.T) {
	file := &countedFile{limited: true}
	var lost []int
	log := newBatchWriter(file, func(n int, err error) {
		if (n > 0) != (err != nil) {
			t.Errorf("%d lost, %v", n, err)
		}
		lost = append(lost, n)
	})
	line := append(bytes.Repeat([]byte("x"), batchSize/4-1), '\n')
	for _, room := range []int{4, 2, 0, 4} {
		file.room = room*len(line) + min(room%4, 1) // and a byte of the third
		for range 4 {
			if _, err := log.Write(line); err != nil {
				t.Error(err)
			}
		}
	}
	if !slices.Equal(lost, []int{0, 2, 4, 0}) {
		t.Errorf("lost: %v", lost)
	}
}

// Lines that came together go on at once, in one write; those that are not whole are counted one by one.
func TestGatheredLinesGoOnAtOnceAndAreCountedEach(t *testing.T) {
	file := &countedFile{}
	var lost []int
	log := newBatchWriter(file, func(n int, _ error) { lost = append(lost, n) })
	log.gathered = true
	const lines = "first\nsecond\nthird\n"
	for _, room := range []int{len(lines), len("first\nsec"), len("first\n"), 0} {
		file.limited, file.room = true, room
		if _, err := log.Write([]byte(lines)); err != nil {
			t.Error(err)
		}
	}
	if text, writes := file.state(); text != lines+"first\nsec"+"first\n" || writes != 4 {
		t.Errorf("%d writes: %q", writes, text)
	}
	if !slices.Equal(lost, []int{0, 2, 2, 3}) {
		t.Errorf("lost: %v", lost)
	}
}
