//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// written is all that the padlocks of a run have said, on their terminals and in their logs, and what none of them may ever say.
type written struct {
	mu      sync.Mutex
	said    *os.File
	secrets map[string][]byte // by what they are
}

func newWritten(file string) (*written, error) {
	said, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	return &written{said: said, secrets: map[string][]byte{}}, err
}

// Write takes what a padlock says. What cannot be kept is told when it is searched.
func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(p)
}

// keep notes a secret of at least 8 bytes.
func (w *written) keep(what string, secret []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(secret) >= 8 {
		w.secrets[what+" "+strconv.Itoa(len(w.secrets))] = bytes.Clone(secret)
	}
}

// keepKeys notes every private key in the files below a directory.
func (w *written) keepKeys(dir string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		switch filepath.Ext(path) {
		case ".pem", ".key", ".json":
			if content, err := os.ReadFile(path); err == nil {
				w.keepKey(path, content)
			}
		}
		return nil
	})
}

// keepKey notes the private keys of a text in PEM, also where it stands in JSON.
func (w *written) keepKey(what string, text []byte) {
	text = bytes.ReplaceAll(text, []byte(`\n`), []byte("\n"))
	for begin := 0; begin >= 0; {
		block, rest := pem.Decode(text)
		if block == nil {
			return
		}
		text = rest
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			w.keep("the key in "+what, private(block.Bytes)) // not the rest of it, which is the same in every key
		}
	}
}

// private is what is secret about a key.
func private(der []byte) []byte {
	var key crypto.PrivateKey
	var err error
	for _, parse := range []func([]byte) (crypto.PrivateKey, error){
		func(b []byte) (crypto.PrivateKey, error) { return x509.ParsePKCS8PrivateKey(b) },
		func(b []byte) (crypto.PrivateKey, error) { return x509.ParseECPrivateKey(b) },
		func(b []byte) (crypto.PrivateKey, error) { return x509.ParsePKCS1PrivateKey(b) },
	} {
		if key, err = parse(der); err == nil {
			break
		}
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		number, err := key.Bytes()
		if err == nil {
			return number
		}
	case *rsa.PrivateKey:
		return key.D.Bytes()
	case ed25519.PrivateKey:
		return key.Seed()
	}
	return nil
}

// keepLog notes the traffic secrets in a key log, as clients write it (SSLKEYLOGFILE).
func (w *written) keepLog(file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(content)) {
		if part := strings.Fields(line); len(part) == 3 {
			if secret, err := hex.DecodeString(part[2]); err == nil {
				w.keep(part[0], secret)
			}
		}
	}
}

// forms are the ways in which bytes get into a text. Base64 of bytes in the middle of others depends on where they stand.
func forms(secret []byte) (all []string) {
	lower := hex.EncodeToString(secret)
	spaced := fmt.Sprintf("% x", secret)
	all = append(all, string(secret), lower, strings.ToUpper(lower), spaced, strings.ToUpper(spaced), strings.ReplaceAll(spaced, " ", ":"), strings.ToUpper(strings.ReplaceAll(spaced, " ", ":")),
		strings.Trim(fmt.Sprint(secret), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprint(secret), "[]"), " ", ","), strings.ReplaceAll(strings.Trim(fmt.Sprint(secret), "[]"), " ", ", "),
		strings.Trim(strconv.Quote(string(secret)), `"`), new(big.Int).SetBytes(secret).String())
	for skip := range 3 {
		whole := secret[skip : skip+(len(secret)-skip)/3*3]
		all = append(all, base64.StdEncoding.EncodeToString(whole), base64.URLEncoding.EncodeToString(whole))
	}
	return all
}

const piece = 4 << 20 // of what was said is searched at once

const window = 16 // bytes of a form that are proof of it

// needles are pieces of a form, of which the second is there for the line ends that the first may fall on.
func needles(form string) (all []string) {
	if len(form) < window {
		return []string{form}
	}
	all = append(all, form[:window])
	if len(form) >= 2*window+4 {
		all = append(all, form[window+4:2*window+4])
	}
	return all
}

// never matches what no log has any business with, whosever it is.
var never = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----|(?:CLIENT|SERVER)_(?:HANDSHAKE_|EARLY_|)(?:TRAFFIC_SECRET[_0-9]*|RANDOM) [0-9a-fA-F]{64} [0-9a-fA-F]{64}` +
	`|MHcCAQEEI|MIGHAgEAMBMGByqGSM49|MIG2AgEAMBAGByqGSM49|MII[a-zA-Z0-9+/]{3}IBADANBgkqhkiG|MII[a-zA-Z0-9+/]{3}IBAAKCA|MC4CAQAwBQYDK2Vw` +
	`|(?i:30770201010420|308187020100301306072a8648ce3d|3082[0-9a-f]{4}020100300d06092a864886f7|302e020100300506032b6570)|\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{20}`)

// search finds secrets in a text, and names them.
func (w *written) search(text []byte) (found []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	type piece struct{ what, text string }
	pieces := map[string][]piece{} // by their first 8 bytes
	for what, secret := range w.secrets {
		for _, form := range forms(secret) {
			for _, needle := range needles(form) {
				if len(needle) >= 8 {
					pieces[needle[:8]] = append(pieces[needle[:8]], piece{what, needle})
				}
			}
		}
	}
	seen := map[string]bool{}
	report := func(what string, at int) {
		if !seen[what] {
			seen[what] = true
			start, end := bytes.LastIndexByte(text[:at], '\n')+1, bytes.IndexByte(text[at:], '\n')
			if end < 0 {
				end = len(text) - at
			}
			found = append(found, fmt.Sprintf("%s in the line %.300q", what, text[start:at+end]))
		}
	}
	for i := 0; i+8 <= len(text); i++ {
		for _, p := range pieces[string(text[i:i+8])] {
			if bytes.HasPrefix(text[i:], []byte(p.text)) {
				report(p.what, i)
			}
		}
	}
	for _, at := range never.FindAllIndex(text, -1) {
		report(fmt.Sprintf("something like %.40q", text[at[0]:at[1]]), at[0])
	}
	return found
}

// collect keeps the logs below directories, and notes the keys there.
func (w *written) collect(dirs ...string) {
	for _, dir := range dirs {
		w.keepKeys(dir)
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && filepath.Ext(path) == ".log" {
				if content, err := os.ReadFile(path); err == nil {
					_, _ = w.Write(content)
				}
			}
			return nil
		})
	}
}

// verdict searches all that was said, piece by piece.
func (w *written) verdict() (bytesSaid int64, secrets int, found []string, err error) {
	if _, err = w.said.Seek(0, 0); err != nil {
		return 0, 0, nil, err
	}
	reader := bufio.NewReaderSize(w.said, 1<<20)
	text := make([]byte, 0, piece)
	for {
		n, err := reader.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		bytesSaid += int64(n)
		if full := len(text) == cap(text); full || n == 0 && err != nil {
			found = append(found, w.search(text)...)
			text = append(text[:0], text[max(0, len(text)-1024):]...) // what stands across the border
		}
		if n == 0 && err != nil {
			break
		}
	}
	if bytesSaid == 0 && flag.Lookup("test.run").Value.String() == "" { // some tests run padlock in containers alone
		err = errors.New("nothing was kept of what padlock said")
	}
	return bytesSaid, len(w.secrets), found, err
}
