package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"padlock/internal/phc"
	"padlock/internal/regular"
)

func (v *validator) basicAuth(path string, b *BasicAuth) {
	if b.Realm == "" {
		b.Realm = "padlock"
	} else if !validValue(b.Realm) || strings.ContainsAny(b.Realm, `"\`) {
		v.fail(path+".realm", "%q holds a quote or control characters", b.Realm)
	}

	for _, name := range slices.Sorted(maps.Keys(b.Users)) {
		if err := validUser(name, b.Users[name]); err != nil {
			v.fail(path+".users."+name, "%v", err)
		}
	}
	if b.UsersFile == "" {
		if len(b.Users) == 0 {
			v.fail(path, "needs users or users_file: nobody could come in")
		}
		return
	}

	users, err := ReadUsers(b.UsersFile)
	if err != nil {
		v.fail(path+".users_file", "%v", v.inDirectory(b.UsersFile, err))
	}
	for _, name := range slices.Sorted(maps.Keys(users)) {
		// Of two passwords, the one that was to be taken away might be the one that still holds.
		if other, twice := b.Users[name]; twice && other != users[name] {
			v.fail(path+".users_file", "%s:%s stands in users too, with another password: keep one", b.UsersFile, name)
		}
	}
}

// With are the users of the configuration and those of its file. A name that stands in both has the hash of the
// configuration.
func (b *BasicAuth) With(file map[string]string) map[string]string {
	all := maps.Clone(file)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b.Users)
	return all
}

// validUser says what is wrong with a name and a hash. It does not repeat the hash: where one belongs, people also
// write the password.
func validUser(name, hash string) error {
	if name == "" || strings.ContainsRune(name, ':') {
		return errors.New("a name is not empty and has no colon (RFC 7617 section 2)")
	}
	if strings.HasPrefix(hash, phc.Prefix) {
		_, err := phc.Parse(hash)
		return err
	}
	switch cost, err := bcrypt.Cost([]byte(hash)); {
	case err != nil:
		return fmt.Errorf("is not a bcrypt hash, such as htpasswd -nB %s prints, or one of Argon2id ($argon2id$…)", name)
	case cost > 14:
		return fmt.Errorf("a bcrypt cost of %d takes longer than a second for each guess: at most 14", cost)
	}
	return nil
}

// ReadUsers reads the names and hashes of a file, as htpasswd -B writes it.
func ReadUsers(file string) (map[string]string, error) {
	data, err := regular.Named(file, maxFile)
	if err != nil {
		return nil, err
	}

	users := map[string]string{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}

		user, hash, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%s:%d: must be name:hash", file, number)
		}
		if _, twice := users[user]; twice {
			return nil, fmt.Errorf("%s:%d: %s is named a second time: keep the line whose password holds", file, number, user)
		}
		if err := validUser(user, hash); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", file, number, user, err)
		}

		users[user] = hash
	}

	if len(users) == 0 {
		return nil, fmt.Errorf("%s names nobody", file)
	}
	return users, nil
}
