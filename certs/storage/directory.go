package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"

	"padlock/internal/access"
	"padlock/internal/invoker"
	"padlock/internal/regular"
)

// Directory is a Store in a directory of this machine. Files are 0600 and directories 0700; a file is written aside,
// synced and renamed, so that a crash leaves the old or the new one. Symbolic links are not followed out of it.
type Directory struct {
	path string
	root *os.Root
	log  *slog.Logger
	odd  strangers

	maxValue int64 // bytes

	readers chan struct{} // has one for each that the kernel works for

	shared bool // its files are as the mount of a share, or a volume for padlock's group, has them, which has been said

	byLease atomic.Bool // locks are leases, as the kernel's are not shared
	leases  *leases

	mu      sync.Mutex
	locks   map[string]*os.File // held by this process, with the kernel's lock on the file
	exposed map[string]bool     // files that were logged as readable by others
}

// OpenDirectory makes the directory if need be. One that others can write to is an error; one that its group can
// write to, which this process is in, and files in it that others can read, are written to log. Where the file system
// has no locks, leases take their place.
func OpenDirectory(path string, o Options) (*Directory, error) {
	if err := invoker.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}

	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}

	// Shares without modes show those of their mount, and volumes with an fsGroup are meant to be writable by the
	// group.
	shared := access.Modeless(path) || access.Group(info)&access.Write != 0

	switch mode := info.Mode().Perm(); {
	case access.Others(info)&access.Write != 0 && access.Modeless(path):
		o.Log.Warn("everybody on this machine can write to the storage, as the mount of its share says", "directory", path, "mode", mode.String(), "remedy", "mount it with dir_mode=0700,file_mode=0600 and uid= of padlock's user")
	case access.Others(info)&access.Write != 0:
		return nil, fmt.Errorf("%s can be written to by others (mode %#o): chmod 700 it", path, mode)
	case access.Group(info)&access.Write != 0:
		o.Log.Warn("padlock's group can write to the storage, as volumes with an fsGroup have it: let nobody else be in that group", "directory", path, "mode", mode.String())
	}

	// os.Root does not follow links out of the directory, whoever can write to it.
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Directory{path: path, root: root, log: o.Log, odd: strangers{log: o.Log}, shared: shared, maxValue: o.maxValue(), readers: make(chan struct{}, maxReaders), locks: map[string]*os.File{}, exposed: map[string]bool{}}
	d.leases = newDirectoryLeases(d, o)
	return d, nil
}

func (d *Directory) String() string { return d.path }

// Close lets go of the locks. The kernel would do the same for a process that was killed.
func (d *Directory) Close() error {
	released := d.leases.releaseAll()
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.locks {
		_ = errors.Join(funlock(f), f.Close())
		delete(d.locks, name)
	}
	return errors.Join(released, d.root.Close())
}

const temporary = ".tmp-" // begins the name of a file that is being written

// Store implements certmagic.Storage.
func (d *Directory) Store(ctx context.Context, key string, value []byte) error {
	if err := errors.Join(ctx.Err(), ValidKey(key)); err != nil {
		return err
	}

	name := filepath.FromSlash(key)
	dir := filepath.Dir(name)
	if err := d.makeDirectory(dir); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}

	// In the same directory, as a rename works only within one file system.
	aside := filepath.Join(dir, fmt.Sprintf("%s%d-%d", temporary, os.Getpid(), time.Now().UnixNano()))
	err := d.write(aside, value)
	if err == nil {
		err = d.root.Rename(aside, name)
	}
	if err == nil {
		// Without this, the rename may be lost in a power failure.
		err = d.sync(dir)
	}

	if err != nil {
		_ = d.root.Remove(aside)
		return fmt.Errorf("storing %s: %w", key, err)
	}

	return nil
}

func (d *Directory) write(name string, value []byte) error {
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(value)
	return errors.Join(err, d.give(f, filepath.Dir(name)), f.Sync(), f.Close())
}

// makeDirectory makes a directory with those above it.
func (d *Directory) makeDirectory(dir string) error {
	if info, err := d.root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}

	if above := filepath.Dir(dir); above != dir {
		if err := d.makeDirectory(above); err != nil {
			return err
		}
	}

	if err := d.root.Mkdir(dir, 0o700); err != nil {
		// Another process made it at the same time.
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}

	made, err := d.root.Open(dir)
	if err != nil {
		return err
	}

	return errors.Join(d.give(made, filepath.Dir(dir)), made.Close())
}

// give makes what root has made the user's whose storage it is: with sudo, padlock works in the storage of whoever
// ran it.
func (d *Directory) give(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := d.root.Stat(dir)
	if err != nil {
		return err
	}
	return invoker.Give(f, info)
}

func (d *Directory) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// StoreFenced implements Store. The kernel's lock cannot pass to another process while this one lives, so there is
// nothing to check; a lease is looked at before the value is written.
func (d *Directory) StoreFenced(ctx context.Context, lock, key string, value []byte) error {
	d.mu.Lock()
	_, held := d.locks[lock]
	d.mu.Unlock()
	// The lease is looked at right before writing: a holder that was frozen may have lost it.
	if token := d.leases.token(lock); !held && token != 0 {
		var err error
		if held, err = d.leases.leaser.(*fileLeases).holds(lock, token); err != nil {
			return fmt.Errorf("storing %s: %w", key, err)
		}
	}

	if !held {
		return fmt.Errorf("storing %s: %w", key, ErrLockLost)
	}

	return d.Store(ctx, key, value)
}

// maxReaders are at work for reads at once: each that a file system does not answer keeps a thread of the operating
// system.
const maxReaders = 64

// reading does something that changes nothing, and ends with its context, or after regular.Patience, although the
// kernel gives no system call back: on a server that does not answer, such as NFS that is mounted hard, it goes on by
// itself. Who waits then waits for a reader, and not in the kernel, so that names that somebody invents cost no
// further threads.
func reading[T any](ctx context.Context, d *Directory, do func() (T, error)) (T, error) {
	var none T
	ctx, cancel := context.WithTimeoutCause(ctx, regular.Patience, fmt.Errorf("%w: %s %w", ErrUnavailable, d.path, regular.ErrSilent))
	defer cancel()
	if ctx.Err() != nil {
		return none, ctx.Err()
	}

	select {
	// A hung file server keeps each reader's thread. The bound keeps it from taking all that the process may have.
	case d.readers <- struct{}{}:
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}

	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	// The kernel cannot be interrupted, so another goroutine waits for it, and gives its place back whenever it
	// returns.
	go func() {
		defer func() { <-d.readers }()
		value, err := do()
		done <- result{value, err}
	}()

	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// Load implements certmagic.Storage.
func (d *Directory) Load(ctx context.Context, key string) ([]byte, error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	return reading(ctx, d, func() ([]byte, error) { return d.load(key) })
}

func (d *Directory) load(key string) ([]byte, error) {
	f, err := d.root.OpenFile(filepath.FromSlash(key), regular.Flags, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("loading %s: %w: %w", key, ErrUnusable, err)
	case err != nil:
		return nil, err
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return nil, &fs.PathError{Op: "load", Path: key, Err: fs.ErrNotExist}
	}
	d.inspect(key, info)
	value, err := regular.All(f, filepath.Join(d.path, filepath.FromSlash(key)), d.maxValue)
	if errors.Is(err, regular.ErrIrregular) || errors.Is(err, regular.ErrTooLarge) {
		err = fmt.Errorf("loading %s: %w: %w", key, ErrUnusable, err)
	}

	return value, err
}

// inspect logs, once, that a file is not as it was written: every one is for padlock alone.
func (d *Directory) inspect(key string, info fs.FileInfo) {
	if info.Mode().Perm()&0o077 == 0 || d.shared && (access.Others(info) == 0 || access.Modeless(d.path)) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// Once for each file: values are read at every handshake of a name on demand.
	if !d.exposed[key] {
		d.exposed[key] = true
		d.log.Warn("a file of the storage can be read by others", "file", filepath.Join(d.path, filepath.FromSlash(key)), "mode", info.Mode().Perm().String(), "remedy", "chmod 600; if it holds a key that others may have read, replace that")
	}
}

// Delete implements certmagic.Storage.
func (d *Directory) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), ValidKey(key)); err != nil {
		return err
	}
	return d.root.RemoveAll(filepath.FromSlash(key))
}

// Exists implements certmagic.Storage.
func (d *Directory) Exists(ctx context.Context, key string) bool {
	_, err := d.Stat(ctx, key)
	return err == nil
}

// Stat implements certmagic.Storage.
func (d *Directory) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if err := ValidKey(key); err != nil {
		return certmagic.KeyInfo{}, err
	}
	info, err := reading(ctx, d, func() (fs.FileInfo, error) { return d.root.Stat(filepath.FromSlash(key)) })
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key, Modified: info.ModTime(), Size: info.Size(), IsTerminal: !info.IsDir()}, nil
}

// irregular reports why an entry of the directory is no value, nor holds any: a FIFO, a socket, a link that leads out
// or nowhere.
func (d *Directory) irregular(key string, entry fs.DirEntry) error {
	if entry.IsDir() || entry.Type().IsRegular() {
		return nil
	}
	// A link within the directory may be followed, such as those that Kubernetes makes.
	info, err := d.root.Stat(filepath.FromSlash(key))
	if err != nil || info.IsDir() || info.Mode().IsRegular() {
		return err
	}
	return fmt.Errorf("%w (mode %v)", regular.ErrIrregular, info.Mode())
}

// List implements certmagic.Storage. Keys come sorted.
func (d *Directory) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	start := "."
	if prefix != "" {
		if err := ValidKey(prefix); err != nil {
			return nil, err
		}
		start = prefix
	}
	return reading(ctx, d, func() ([]string, error) { return d.list(ctx, start, recursive) })
}

func (d *Directory) list(ctx context.Context, start string, recursive bool) (keys []string, err error) {
	err = fs.WalkDir(d.root.FS(), start, func(key string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && key != start && errors.Is(err, fs.ErrNotExist): // deleted meanwhile
			return nil
		case err != nil:
			return err
		case key == start:
			return ctx.Err()
		// The lock files, the local CA and half-written files are no values.
		case slices.Contains(ours, key) || len(entry.Name()) > len(temporary) && entry.Name()[:len(temporary)] == temporary:
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.odd.is(key, d.irregular(key, entry)):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return ctx.Err()
		case entry.IsDir() && recursive:
			return ctx.Err()
		}

		keys = append(keys, key)
		if entry.IsDir() {
			return fs.SkipDir
		}
		return ctx.Err()
	})
	slices.Sort(keys)
	return keys, err
}

const (
	lockDirectory = "locks"
	lockPoll      = 50 * time.Millisecond
)

// Lock implements certmagic.Storage.
func (d *Directory) Lock(ctx context.Context, name string) error {
	for {
		if d.useLeases() {
			// Waiting for a lease asks less often than the loop below, as each look is a question to a file server.
			return errors.Join(d.makeDirectory(lockDirectory), d.leases.Lock(ctx, name))
		}
		if ok, err := d.TryLock(ctx, name); ok || err != nil {
			return err
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// TryLock implements certmagic.TryLocker.
func (d *Directory) TryLock(ctx context.Context, name string) (bool, error) {
	if err := errors.Join(ctx.Err(), validName(name)); err != nil {
		return false, err
	}
	if err := d.makeDirectory(lockDirectory); err != nil {
		return false, err
	}

	if d.useLeases() {
		return d.leases.TryLock(ctx, name)
	}

	ok, why, err := d.tryFlock(name)
	if why == "" {
		return ok, err
	}

	// The file system turned out to have no locks, so all locks are leases from now on.
	if err := d.beginLeases(why); err != nil {
		return false, fmt.Errorf("locking %s: %w", name, err)
	}

	return d.leases.TryLock(ctx, name)
}

// tryFlock takes the kernel's lock, or says why the file system has none.
func (d *Directory) tryFlock(name string) (ok bool, lacking string, err error) {
	if why := localLocks(d.path); why != "" {
		return false, why, nil
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	// The kernel's lock belongs to the process, and would be granted a second time within it.
	if _, held := d.locks[name]; held {
		return false, "", nil
	}

	f, err := d.root.OpenFile(filepath.Join(lockDirectory, certmagic.StorageKeys.Safe(name)+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, "", fmt.Errorf("locking %s: %w", name, err)
	}

	if err := d.give(f, lockDirectory); err != nil {
		f.Close()
		return false, "", err
	}

	if ok, err = flock(f); !ok {
		f.Close()
		return false, noFlock(err), err
	}

	d.locks[name] = f
	return true, "", nil
}

// Unlock implements certmagic.Storage. The file stays: to remove it would let two processes lock two files of one name.
func (d *Directory) Unlock(ctx context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, held := d.locks[name]
	if !held {
		return d.leases.Unlock(ctx, name)
	}
	delete(d.locks, name)
	return errors.Join(funlock(f), f.Close())
}
