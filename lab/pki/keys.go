package pki

import (
	"crypto/rand"
	"crypto/rsa"
	_ "embed"
	"sync"

	"padlock/internal/pemfile"
)

// Keys of 4,096 and 8,192 bits take seconds and minutes to make, so these two are part of the program, and public. They
// are keys of leaves alone, which only the lab's root vouches for.
var (
	//go:embed rsa-4096-public-knowledge.pem
	pem4096 []byte
	//go:embed rsa-8192-public-knowledge.pem
	pem8192 []byte
)

// keys are RSA keys by size, made at the first wish.
type keys struct {
	mu   sync.Mutex
	made map[int]*rsa.PrivateKey
}

func (k *keys) rsa(bits int) (*rsa.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.made[bits]; key != nil {
		return key, nil
	}

	key, err := newRSA(bits)
	if err != nil {
		return nil, err
	}
	if k.made == nil {
		k.made = map[int]*rsa.PrivateKey{}
	}
	k.made[bits] = key
	return key, nil
}

func newRSA(bits int) (*rsa.PrivateKey, error) {
	switch bits {
	case 4096:
		return embedded(pem4096)
	case 8192:
		return embedded(pem8192)
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

func embedded(data []byte) (*rsa.PrivateKey, error) {
	key, err := pemfile.Key("embedded key", data)
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PrivateKey), nil
}
