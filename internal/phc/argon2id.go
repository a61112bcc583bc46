// Package phc compares passwords with hashes in the PHC string format: those of Argon2id (RFC 9106).
//
//	hash, err := phc.Parse("$argon2id$v=19$m=65536,t=3,p=1$…$…")
//	right := hash.Matches(password)
//
// Errors never hold a hash: where one belongs, people also write the password.
package phc

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Prefix begins every hash of Argon2id.
const Prefix = "$argon2id$"

// What a hash may cost, and what it must: whoever guesses passwords makes padlock work.
const (
	MaxMemory = 64 << 10      // KiB
	minMemory = 4 << 10       // KiB
	maxWork   = 4 * MaxMemory // KiB times passes: half a second of a processor
	maxLanes  = 4
	minSalt   = 8  // bytes
	minHash   = 16 // bytes
	maxBytes  = 64
)

// Hash is of a password.
type Hash struct {
	memory, passes uint32
	lanes          uint8
	salt, hash     []byte
}

// Parse reads a hash.
func Parse(text string) (*Hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return nil, errors.New("is not a hash such as $argon2id$v=19$m=65536,t=3,p=1$SALT$HASH")
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return nil, fmt.Errorf("is not of version %d of Argon2", argon2.Version)
	}

	h := &Hash{}
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return nil, errors.New("does not have the parameters m, t and p, in this order")
	}
	var values [3]uint32
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(numbers[i], name)
		value, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			return nil, errors.New("does not have the parameters m, t and p, in this order")
		}
		values[i] = uint32(value)
	}
	if err := h.cost(values[0], values[1], values[2]); err != nil {
		return nil, err
	}

	var err error
	if h.salt, err = bytesOf(parts[4], minSalt); err == nil {
		h.hash, err = bytesOf(parts[5], minHash)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// cost notes the parameters, if they are neither too little nor too much.
func (h *Hash) cost(memory, passes, lanes uint32) error {
	switch {
	case memory < minMemory || memory > MaxMemory:
		return fmt.Errorf("takes m=%d KiB of memory: it must be from %d to %d", memory, minMemory, MaxMemory)
	case passes < 1 || uint64(memory)*uint64(passes) > maxWork:
		return fmt.Errorf("takes t=%d passes through m=%d KiB: m times t must be at most %d", passes, memory, maxWork)
	case lanes < 1 || lanes > maxLanes:
		return fmt.Errorf("takes p=%d lanes: it must be from 1 to %d", lanes, maxLanes)
	}
	h.memory, h.passes, h.lanes = memory, passes, uint8(lanes)
	return nil
}

func bytesOf(text string, least int) ([]byte, error) {
	data, err := base64.RawStdEncoding.Strict().DecodeString(text)
	// Go's base64 passes over the ends of lines.
	if err != nil || strings.ContainsAny(text, "\r\n") || len(data) < least || len(data) > maxBytes {
		return nil, fmt.Errorf("has a salt of less than %d bytes, a hash of less than %d, or one that is not in base64 without padding", minSalt, minHash)
	}
	return data, nil
}

// Matches reports whether a password is the one of the hash. It takes as much time and memory as the hash says.
func (h *Hash) Matches(password string) bool {
	got := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.hash)))
	return subtle.ConstantTimeCompare(got, h.hash) == 1
}
