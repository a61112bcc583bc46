package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"padlock/internal/access"
	"padlock/internal/regular"
)

// APIKey is who has a key, and the SHA-256 hash of the key.
type APIKey struct {
	Name string
	Hash [sha256.Size]byte

	readable bool // it stands in the file as it is
}

const (
	keyHash   = "sha256:"
	minAPIKey = 16  // characters: as keys are chosen by programs, there is no reason for shorter ones
	maxAPIKey = 512 // which clients send with each request
	maxClient = 128 // bytes of a client's name
)

// ReadAPIKeys reads the keys of a file, each of which stands there once. A client may have several, so that they can be
// changed while it is served.
func ReadAPIKeys(file string) ([]APIKey, error) {
	data, err := regular.Named(file, maxFile)
	if err != nil {
		return nil, err
	}

	var keys []APIKey
	lines := map[[sha256.Size]byte]int{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}

		key, err := parseAPIKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		// The name would depend on which of both is found.
		if first, twice := lines[key.Hash]; twice {
			return nil, fmt.Errorf("%s:%d: has the key of line %d: give each client a key of its own", file, number, first)
		}
		lines[key.Hash] = number
		keys = append(keys, key)
	}

	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key: nobody could come in", file)
	}
	return keys, nil
}

// parseAPIKey reads a line. Its errors do not repeat what may be a key.
func parseAPIKey(line string) (key APIKey, err error) {
	name, secret, ok := strings.Cut(line, ":")
	name, secret = strings.TrimSpace(name), strings.TrimSpace(secret)
	if !ok {
		return key, fmt.Errorf("must be NAME:KEY or NAME:%sHASH", keyHash)
	}
	if name == "" || len(name) > maxClient || !printable(name) {
		return key, fmt.Errorf("a name is 1 to %d bytes, without control characters", maxClient)
	}

	key.Name = name
	if text, hashed := strings.CutPrefix(secret, keyHash); hashed {
		hash, err := hex.DecodeString(text)
		if err != nil || len(hash) != sha256.Size {
			return key, fmt.Errorf("the hash of %s is not 64 hexadecimal digits, as printf %%s KEY | sha256sum prints them", name)
		}
		copy(key.Hash[:], hash)
		return key, nil
	}

	// A hash without its prefix would be taken for a key that nobody has, or the other way round.
	if hash, err := hex.DecodeString(secret); err == nil && len(hash) == sha256.Size {
		return key, fmt.Errorf("%s has 64 hexadecimal digits, which may be a key or the hash of one: write %s:%sHASH, with the hash of the key if they are the key", name, name, keyHash)
	}
	if len(secret) < minAPIKey || len(secret) > maxAPIKey || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return key, fmt.Errorf("the key of %s is not %d to %d characters of ASCII without blanks, such as openssl rand -base64 32 prints", name, minAPIKey, maxAPIKey)
	}
	key.Hash, key.readable = sha256.Sum256([]byte(secret)), true
	return key, nil
}

// printable reports whether a text can stand in a header field.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}

func (v *validator) apiKeys(path string, k *APIKeys) {
	if k.File == "" {
		v.fail(path+".file", "is missing: the file with a line NAME:KEY or NAME:%sHASH for each client", keyHash)
	} else if _, err := ReadAPIKeys(k.File); err != nil {
		v.fail(path+".file", "%v", v.inDirectory(k.File, err))
	}

	standard(&k.Header, "X-API-Key")
	v.readName(path+".header", "header", k.Header)
	if strings.EqualFold(k.Header, "Cookie") {
		v.fail(path+".header", "Cookie holds many values: choose another header")
	}
	if k.Copy != "" {
		v.fieldName(path+".copy", k.Copy)
	}
}

// exposed is what is wrong with a file that holds keys as they are, and that others may read; "" for nothing.
func (k *APIKeys) exposed() string {
	info, err := regular.Stat(k.File)
	if err != nil || access.Others(info)&access.Read == 0 || access.Modeless(k.File) {
		return ""
	}
	keys, _ := ReadAPIKeys(k.File)
	for _, key := range keys {
		if key.readable {
			return fmt.Sprintf("%s holds keys as they are, and others on this machine can read it: chmod 600 it, or write hashes (NAME:%sHASH)", k.File, keyHash)
		}
	}
	return ""
}
