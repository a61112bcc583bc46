package storage

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"padlock/internal/regular"
)

// Errors of a storage whose values do not agree with storage_key. None is ever a reason to replace a value.
var (
	ErrEncrypted = errors.New("encrypted with another storage_key, or without one here")
	ErrPlain     = errors.New("it holds values that are not encrypted, although there is a storage_key")
	ErrMixed     = errors.New("and others that are") // beside ErrPlain
	ErrMarker    = errors.New("damaged, or not encrypted, and no other value tells whether this is the right storage_key")
)

// encryptedPrefix begins an encrypted value: this text, a nonce of 12 bytes, the ciphertext with its tag
// (AES-256-GCM, NIST SP 800-38D). The value's key is authenticated with it, so that values cannot be exchanged.
var encryptedPrefix = []byte("padlock sealed 1\n")

// marker is the value that says that all others are encrypted: from then on, one that is not was written by somebody
// else. It is encrypted itself, and so tells a wrong storage_key at once.
const marker = "encryption.json"

// areas are the places in which there are values, as a directory may hold files of other programs beside them.
var areas = []string{
	"acme", "autocert", "certificates", "certificates-p384", "certificates-rsa2048", "certificates-rsa4096", "imported", "secrets", quarantineArea, "tickets",
}

// quarantineArea holds what was found and could not be used.
const quarantineArea = "set-aside"

// encrypted encrypts every value before it reaches a Store, and takes only what it has encrypted under the same key.
// Anything else that appears is quarantined and reported, and is as if it were not there.
type encrypted struct {
	backend
	aead cipher.AEAD
	log  *slog.Logger

	mu    sync.Mutex
	ready bool // the marker has been seen
}

type backend = Store // as the field of this name cannot stand beside the method

func encrypt(inner Store, key []byte, log *slog.Logger) (*encrypted, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("storage key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	return &encrypted{backend: inner, aead: aead, log: log}, err
}

func (e *encrypted) encrypt(key string, value []byte) ([]byte, error) {
	nonce := make([]byte, e.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	out := append(bytes.Clone(encryptedPrefix), nonce...)
	// The key of the value is authenticated with it, so that nobody who can write to the storage can swap values.
	return e.aead.Seal(out, nonce, value, []byte(key)), nil
}

// open is what encrypt was given, or an error: ErrPlain or ErrEncrypted.
func (e *encrypted) open(key string, value []byte) ([]byte, error) {
	if !Encrypted(value) {
		return nil, ErrPlain
	}

	value = value[len(encryptedPrefix):]
	if len(value) < e.aead.NonceSize() {
		return nil, ErrEncrypted
	}
	nonce, text := value[:e.aead.NonceSize()], value[e.aead.NonceSize():]
	plain, err := e.aead.Open(nil, nonce, text, []byte(key))
	if err != nil {
		return nil, ErrEncrypted
	}

	return plain, nil
}

// inspection is what was found of the marker.
type inspection struct {
	marked  bool   // it is there, and as mark has written it
	damaged bool   // something else is in its place, but every other value, and there is one, is encrypted with this key
	raw     []byte // of a damaged one, if it can be read
}

// inspect looks for the marker. If it is missing or damaged, everything else must be encrypted with this key all the
// same, as it is where a service has lost some of its data; what was never encrypted needs Encrypt. It changes
// nothing.
func (e *encrypted) inspect(ctx context.Context) (inspection, error) {
	raw, err := e.backend.Load(ctx, marker)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing && !errors.Is(err, ErrUnusable) {
		return inspection{}, err
	}

	// A marker that opens proves the key, so nothing else has to be read.
	if err == nil {
		if _, err := e.open(marker, raw); err == nil {
			return inspection{marked: true}, nil
		}
	}

	opened, err := e.survey(ctx)
	switch {
	case missing:
		// With one value that opens this is the right key: each that does not is quarantined when it is read.
		return inspection{}, err
	case err == nil && opened > 0:
		return inspection{damaged: true, raw: raw}, nil
	case Encrypted(raw) && (err == nil || errors.Is(err, ErrPlain)):
		return inspection{}, fmt.Errorf("%s: %w", marker, ErrEncrypted)
	case err == nil:
		return inspection{}, fmt.Errorf("%s: %w", marker, ErrMarker)
	}

	return inspection{}, err
}

// survey counts the values that open with this key. Where none does, or some are not encrypted, err says so.
func (e *encrypted) survey(ctx context.Context) (opened int, err error) {
	var other, plain error // values that do not open, and that are not encrypted
	err = e.each(ctx, func(key string, raw []byte, wrong error) error {
		// What was quarantined may be of any age, and under any key.
		if wrong != nil || strings.HasPrefix(key, quarantineArea+"/") {
			return nil
		}

		switch _, err := e.open(key, raw); {
		case err == nil:
			opened++
		case errors.Is(err, ErrEncrypted):
			other = fmt.Errorf("%s: %w", key, err)
		case len(raw) > 0 && plain == nil:
			// An empty value is damaged rather than plain: nobody stores one.
			plain = fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
	switch {
	case err != nil:
	// Both kinds together are either an interrupted upgrade or an intruder. A person has to decide.
	case plain != nil && (opened > 0 || other != nil):
		err = fmt.Errorf("%w, %w", plain, ErrMixed)
	case plain != nil:
		err = plain
	case opened == 0:
		err = other
	}
	return opened, err
}

// each hands over every value as it stands in the storage, or why something in the place of one is none (ErrUnusable).
func (e *encrypted) each(ctx context.Context, do func(key string, raw []byte, wrong error) error) error {
	for _, area := range areas {
		keys, err := e.backend.List(ctx, area, true)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}

		for _, key := range keys {
			raw, err := e.backend.Load(ctx, key)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			// What is no value is handed over as well: the caller decides what it means.
			if err == nil || errors.Is(err, ErrUnusable) {
				err = do(key, raw, err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ensure has the marker in place before the first value is read or written.
func (e *encrypted) ensure(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ready {
		return nil
	}

	found, err := e.inspect(ctx)
	if err == nil && found.damaged {
		err = e.quarantineMarker(ctx, found.raw)
	}
	if err == nil && !found.marked {
		err = e.mark(ctx)
	}

	e.ready = err == nil
	return err
}

// readable is ensure for whoever reads: of a disk that is full, or cannot be written to, values are taken without the
// marker.
func (e *encrypted) readable(ctx context.Context) error {
	err := e.ensure(ctx)
	// Certificates have to be served from a full disk as well.
	if regular.Unwritable(err) {
		return nil
	}
	return err
}

// quarantineMarker keeps what was found in the marker's place, before mark replaces it.
func (e *encrypted) quarantineMarker(ctx context.Context, raw []byte) error {
	aside := quarantineKey(marker)
	value, err := e.encrypt(aside, raw)
	if err == nil {
		err = e.backend.Store(ctx, aside, value)
	}
	if err != nil {
		return fmt.Errorf("setting %s aside: %w", marker, err)
	}
	e.log.Error("the value that says that the storage is encrypted is damaged; it is set aside and written again, as all others are encrypted with this storage_key",
		"key", marker, "set_aside", aside, "remedy", "find out who can write to the storage")
	return nil
}

// quarantineKey is where a value goes that is refused.
func quarantineKey(key string) string {
	return fmt.Sprintf("%s/%s-refused/%s", quarantineArea, time.Now().UTC().Format(quarantineTime), key)
}

func (e *encrypted) mark(ctx context.Context) error {
	value, err := e.encrypt(marker, []byte("{}"))
	if err != nil {
		return err
	}
	return e.backend.Store(ctx, marker, value)
}

// Store implements certmagic.Storage.
func (e *encrypted) Store(ctx context.Context, key string, value []byte) error {
	value, err := e.prepare(ctx, key, value)
	if err != nil {
		return err
	}
	return e.backend.Store(ctx, key, value)
}

// StoreFenced implements Store.
func (e *encrypted) StoreFenced(ctx context.Context, lock, key string, value []byte) error {
	value, err := e.prepare(ctx, key, value)
	if err != nil {
		return err
	}
	return e.backend.StoreFenced(ctx, lock, key, value)
}

func (e *encrypted) prepare(ctx context.Context, key string, value []byte) ([]byte, error) {
	err := errors.Join(ValidKey(key), ctx.Err())
	if err == nil {
		err = e.ensure(ctx)
	}
	if err == nil {
		value, err = e.encrypt(key, value)
	}
	if err != nil {
		return nil, fmt.Errorf("storing %s: %w", key, err)
	}
	return value, nil
}

// Load implements certmagic.Storage.
func (e *encrypted) Load(ctx context.Context, key string) ([]byte, error) {
	raw, err := fetch(ctx, e.backend, key, e.log)
	if err != nil {
		return nil, err
	}
	if err := e.readable(ctx); err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	value, err := e.open(key, raw)
	if err != nil {
		return nil, e.refuse(ctx, key, raw, err)
	}
	return value, nil
}

// refuse quarantines a value that no padlock with this key has written under this name.
func (e *encrypted) refuse(ctx context.Context, key string, raw []byte, why error) error {
	reason := "it is not encrypted"
	if errors.Is(why, ErrEncrypted) {
		reason = "it is damaged, or was written under another name or with another key"
	}

	aside := quarantineKey(key)

	// Looked at again, as another node may have replaced or moved the value since.
	now, err := e.backend.Load(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(now, raw):
		// Another process has moved it away already.
		return &fs.PathError{Op: "loading", Path: key, Err: fs.ErrNotExist}
	case err == nil:
		err = e.Store(ctx, aside, raw)
	}

	if err == nil {
		// Deleted only once the copy is stored.
		err = e.backend.Delete(ctx, key)
	}

	if err != nil {
		err = fmt.Errorf("refusing %s (%s): %w", key, reason, errors.Join(why, err))
		// The error concerns this value alone, which stays where it is.
		if !errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrUnusable, err)
		}
		return err
	}

	e.log.Error("a value of the storage is refused, and set aside: somebody else has written it, or it is damaged",
		"key", key, "reason", reason, "set_aside", aside, "remedy", "find out who can write to the storage; what is missing now is made anew")
	return &fs.PathError{Op: "loading", Path: key, Err: fs.ErrNotExist}
}

// In the names of what was quarantined, so fine that two of one name do not meet.
const quarantineTime = "20060102T150405.000000"

// quarantiner is a Store in which something can stand in a value's place that cannot even be read, and that can move it
// away.
type quarantiner interface {
	// quarantine moves away what is at a key, if it is no value at all, and says to where: nowhere, if it is a value after
	// all.
	quarantine(ctx context.Context, key string) (place string, err error)
}

// quarantine reports whether what stood in a value's place, and could not be read for the reason given, is out of the
// way.
func quarantine(ctx context.Context, store Store, key string, why error, log *slog.Logger) bool {
	s, ok := store.(quarantiner)
	if !ok {
		return false
	}
	place, err := s.quarantine(ctx, key)
	switch {
	case err != nil:
		log.Error("something that is no value cannot be set aside", "key", key, "reason", why, "error", err)
		return false
	case place != "":
		log.Error("a value of the storage is refused, and set aside: somebody else has written it",
			"key", key, "reason", why, "set_aside", place, "remedy", "find out who can write to the storage; what is missing now is made anew")
	}

	return place != ""
}

// fetch is the backend's Load, and quarantines what cannot be a value.
func fetch(ctx context.Context, store Store, key string, log *slog.Logger) ([]byte, error) {
	value, err := store.Load(ctx, key)
	if errors.Is(err, ErrUnusable) && quarantine(ctx, store, key, err, log) {
		return nil, &fs.PathError{Op: "loading", Path: key, Err: fs.ErrNotExist}
	}
	return value, err
}

// Stat implements certmagic.Storage. The size is that of the value, as it was before it was encrypted.
func (e *encrypted) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	info, err := e.backend.Stat(ctx, key)
	if info.IsTerminal {
		info.Size = max(0, info.Size-int64(len(encryptedPrefix)+e.aead.NonceSize()+e.aead.Overhead()))
	}
	return info, err
}

// Encrypt encrypts what a storage holds that was used without a storage_key before, or with one by a version that
// left some values in the clear. It takes those for genuine, so only a person may ask for it. It counts the values
// that it has changed, and all.
func Encrypt(ctx context.Context, store Store) (changed, all int, err error) {
	e, ok := store.(*encrypted)
	if !ok {
		return 0, 0, errors.New("there is no storage_key to encrypt with")
	}
	err = e.each(ctx, func(key string, raw []byte, wrong error) error {
		if wrong != nil {
			if quarantine(ctx, e.backend, key, wrong, e.log) {
				return nil
			}
			return wrong
		}

		all++
		_, err := e.open(key, raw)
		switch {
		case errors.Is(err, ErrPlain):
			changed++
			value, err := e.encrypt(key, raw)
			if err != nil {
				return err
			}
			return e.backend.Store(ctx, key, value)
		case err != nil && !strings.HasPrefix(key, quarantineArea+"/"):
			return fmt.Errorf("%s: %w", key, err)
		}

		return nil
	})
	if err == nil {
		err = e.mark(ctx)
	}
	return changed, all, err
}

// Check reports why a storage would refuse to be read: ErrPlain or ErrEncrypted. It changes nothing.
func Check(ctx context.Context, store Store) error {
	switch s := store.(type) {
	case *encrypted:
		_, err := s.inspect(ctx)
		return err
	case *plain:
		return s.ensure(ctx)
	}
	return nil
}

// plain is a Store without a key, which refuses to read and write where others encrypt.
type plain struct {
	backend
	log *slog.Logger

	mu    sync.Mutex
	ready bool // there is no marker
}

func (p *plain) ensure(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready {
		return nil
	}

	_, err := p.backend.Load(ctx, marker)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.ready = true
		return nil
	case err == nil:
		return fmt.Errorf("%s: %w", marker, ErrEncrypted)
	}

	return err
}

// Store implements certmagic.Storage.
func (p *plain) Store(ctx context.Context, key string, value []byte) error {
	if err := p.prepare(ctx, "storing", key); err != nil {
		return err
	}
	return p.backend.Store(ctx, key, value)
}

// StoreFenced implements Store.
func (p *plain) StoreFenced(ctx context.Context, lock, key string, value []byte) error {
	if err := p.prepare(ctx, "storing", key); err != nil {
		return err
	}
	return p.backend.StoreFenced(ctx, lock, key, value)
}

// Load implements certmagic.Storage.
func (p *plain) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := fetch(ctx, p.backend, key, p.log)
	if err != nil {
		return nil, err
	}
	return value, p.prepare(ctx, "reading", key)
}

func (p *plain) prepare(ctx context.Context, action, key string) error {
	err := errors.Join(ValidKey(key), ctx.Err())
	if err == nil {
		err = p.ensure(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", action, key, err)
	}
	return nil
}

// Encrypted reports whether a loaded value is still encrypted, as it is when the store was opened without a key.
func Encrypted(value []byte) bool { return bytes.HasPrefix(value, encryptedPrefix) }

const maxKeyFile = 4 << 10 // bytes

// ParseKey reads a storage key: 32 bytes in hexadecimal or base64, or file: and the path of a file that holds them so.
func ParseKey(text string) ([]byte, error) {
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		data, err := regular.Named(path, maxKeyFile)
		if err != nil {
			return nil, err
		}
		text = string(data)
	}

	text = strings.TrimSpace(text)
	if key, err := hex.DecodeString(text); err == nil && len(key) == 32 {
		return key, nil
	}

	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(text); err == nil && len(key) == 32 {
			return key, nil
		}
	}

	return nil, errors.New("must be 32 bytes in base64 or hexadecimal, such as openssl rand -base64 32 prints, or file:PATH")
}
