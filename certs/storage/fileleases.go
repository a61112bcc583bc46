package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// fileLeases are leases in files, for directories on which the kernel locks nothing (flock(2)), as NFS without its
// lock service.
//
// A lease has a directory, in which each holder makes the file with the next number; to make a file that must not be
// there yet is what every file system does in one step, NFS since version 3 too. The highest number counts, so that
// whoever takes a lease over need not remove what its holder has. The file holds the holder's token and a number that
// every renewal changes. Whoever waits takes the lease over when it has seen the same content for its duration, by
// its own clock alone; a holder that could not renew for so long gives up by its own.
type fileLeases struct {
	d        *Directory
	root     *os.Root
	duration time.Duration

	mu   sync.Mutex
	seen map[string]sighting // of leases that others hold
	held map[string]*holding
}

type sighting struct {
	content string
	since   time.Time
}

type holding struct {
	token   int64
	number  int
	beat    int
	renewed time.Time
}

const (
	freeLease    = "free" // content of a file whose holder has let go
	maxSightings = 10_000
)

func newFileLeases(d *Directory, duration time.Duration) *fileLeases {
	return &fileLeases{d: d, root: d.root, duration: duration, seen: map[string]sighting{}, held: map[string]*holding{}}
}

func leaseDirectory(name string) string {
	return path.Join(lockDirectory, certmagic.StorageKeys.Safe(name)+".lease")
}

func leaseFile(name string, number int) string {
	return path.Join(leaseDirectory(name), fmt.Sprintf("%020d", number))
}

// newest is the highest number with its content; 0 where there is none.
func (l *fileLeases) newest(name string) (number int, content string, err error) {
	entries, err := fs.ReadDir(l.root.FS(), leaseDirectory(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}

	for _, entry := range entries {
		// Other files may stand beside them, such as the .nfs files of an NFS client.
		if n, odd := strconv.Atoi(entry.Name()); odd == nil && entry.Type().IsRegular() && n > number {
			number = n
		}
	}

	if err != nil || number == 0 {
		return number, "", err
	}

	data, err := l.root.ReadFile(leaseFile(name, number))
	if errors.Is(err, fs.ErrNotExist) {
		// Another process took the lock meanwhile. Its content says nothing here; acquire finds out.
		err = nil
	}

	return number, strings.TrimSpace(string(data)), err
}

// acquire implements leaser.
func (l *fileLeases) acquire(_ context.Context, name string, token int64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.d.makeDirectory(leaseDirectory(name)); err != nil {
		return false, err
	}

	number, content, err := l.newest(name)
	if err != nil {
		return false, err
	}
	if number > 0 && content != freeLease && !l.stale(name, fmt.Sprint(number, " ", content)) {
		return false, nil
	}

	// Dated before the file is made, so that the holder gives up earlier than others take over.
	mine := &holding{token: token, number: number + 1, renewed: time.Now()}
	f, err := l.root.OpenFile(leaseFile(name, mine.number), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil // somebody was faster
	}

	// O_EXCL decides between several that find the lease free.
	if err == nil {
		_, err = f.WriteString(mine.content())
		err = errors.Join(err, l.d.give(f, leaseDirectory(name)), f.Sync(), f.Close())
	}

	now := 0
	if err == nil {
		now, _, err = l.newest(name)
	}
	// What was seen first was an old copy, as network file systems may return one.
	if err != nil || now != mine.number {
		return false, errors.Join(err, l.drop(name, mine.number))
	}

	// Only the latest two are looked for: those before were removed when their successors came.
	for old := number; old > 0 && old > number-2; old-- {
		_ = l.drop(name, old)
	}

	delete(l.seen, name)
	l.held[name] = mine
	return true, nil
}

// stale reports whether the holder's file has been the same for as long as a lease lasts.
func (l *fileLeases) stale(name, content string) bool {
	before := l.seen[name]
	if before.content != content {
		// Make room: sightings of locks that nobody waits for any more are forgotten.
		if len(l.seen) >= maxSightings {
			clear(l.seen)
		}
		l.seen[name] = sighting{content, time.Now()}
		return false
	}
	return time.Since(before.since) > l.duration
}

func (h *holding) content() string { return fmt.Sprintf("%d %020d\n", h.token, h.beat) }

func (l *fileLeases) drop(name string, number int) error {
	err := l.root.Remove(leaseFile(name, number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// mine is the holding of a token, if it is still the newest and was renewed in time; nil if it is lost.
func (l *fileLeases) mine(name string, token int64) (*holding, error) {
	h := l.held[name]
	// By its own clock the lease has ended, whether or not somebody has taken it over.
	if h == nil || h.token != token || time.Since(h.renewed) > l.duration {
		return nil, nil
	}
	number, _, err := l.newest(name)
	if err != nil || number != h.number {
		return nil, err
	}
	return h, nil
}

// holds reports whether a lease is still held with a token.
func (l *fileLeases) holds(name string, token int64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.mine(name, token)
	return h != nil, err
}

// renew implements leaser.
func (l *fileLeases) renew(_ context.Context, name string, token int64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.mine(name, token)
	if h == nil {
		return false, err
	}

	begun := time.Now()
	h.beat++
	if err := l.write(name, h.number, h.content()); err != nil {
		return false, err
	}
	// The time before the write counts: the write itself may take as long as a slow server likes.
	h.renewed = begun
	return true, nil
}

// write changes a file that is there.
func (l *fileLeases) write(name string, number int, content string) error {
	f, err := l.root.OpenFile(leaseFile(name, number), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// release implements leaser. The file stays, as the next number must be a higher one.
func (l *fileLeases) release(_ context.Context, name string, token int64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.mine(name, token)
	// Forgotten even where writing fails: the lease then ends by itself.
	if l.held[name] != nil && l.held[name].token == token {
		delete(l.held, name)
	}
	if h == nil {
		return false, err
	}
	return true, l.write(name, h.number, freeLease+"\n")
}

// byLease is the file that has every padlock of a directory use leases.
const byLease = lockDirectory + "/by-lease"

// useLeases reports whether locks of this directory are leases.
func (d *Directory) useLeases() bool {
	if d.byLease.Load() {
		return true
	}
	if _, err := d.root.Stat(byLease); err != nil {
		return false
	}
	d.byLease.Store(true)
	return true
}

// beginLeases has this and every other padlock of the directory use leases from now on.
func (d *Directory) beginLeases(why string) error {
	f, err := d.root.OpenFile(byLease, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(d.give(f, lockDirectory), f.Close())
	}
	if err != nil {
		return fmt.Errorf("the file system has no locks (%s), and leases cannot be kept in files: %w", why, err)
	}
	d.byLease.Store(true)
	d.log.Warn("the file system of the storage has no locks that its nodes share; padlock keeps leases in files instead, and waits for the lock of a node that was killed",
		"storage", d.path, "reason", why, "lease", d.leases.duration, "remedy", "mount NFS with version 4, or with its lock service and without nolock or local_lock; or use Redis or PostgreSQL (storage)")
	return nil
}

func newDirectoryLeases(d *Directory, o Options) *leases {
	return newLeases(newFileLeases(d, o.Lease), o)
}
