package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"padlock/certs"
	"padlock/certs/acme/dns"
	"padlock/certs/localca"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/hint"
	"padlock/internal/netname"
	"padlock/internal/regular"
	"padlock/internal/text"
	"padlock/proxy/socket"
)

// PreflightOptions of Preflight.
type PreflightOptions struct {
	FileOnly bool // nothing is looked at that is another machine's, or another user's
	Runs     bool // a padlock with the same admin endpoint runs, and has its ports
	Log      *slog.Logger
}

// Preflight finds what Run would refuse beyond the file itself, in the order in which it would: listeners, the user,
// the local CA and certificates, logs, the storage, the admin endpoint. It changes nothing. What would be served with
// a warning goes to the log; unused are certificates of files that no site can show.
func Preflight(ctx context.Context, cfg *config.Config, o PreflightOptions) (unused config.Errors, err error) {
	s, err := preflightAll(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	return s.unusedFiles(), nil
}

func preflightAll(ctx context.Context, cfg *config.Config, o PreflightOptions) (*snapshot, error) {
	if o.FileOnly {
		return preflightCertificates(cfg, o)
	}
	// Ports before the user, as ports below 1024 are for root, and the user is what root becomes.
	found := []error{ofMachine(preflightListeners(cfg, o.Runs)), ofMachine(preflightUser(cfg))}
	s, err := preflightCertificates(cfg, o)
	found = append(found, err, ofMachine(preflightLogs(cfg)))
	if s != nil {
		found = append(found, ofMachine(preflightStorage(ctx, s, o.Log)))
	}
	found = append(found, ofMachine(preflightOverrides(cfg, o.Log)), ofMachine(config.At("admin", preflightAdmin(cfg, o.Runs))))
	return s, all(found)
}

// ofMachine adds to the hint what to do where the file is for another machine, or another user.
func ofMachine(err error) error {
	if err == nil {
		return nil
	}
	const elsewhere = "for a padlock that another user, or a service, or another machine runs: padlock check --file-only"
	if remedy := hint.Of(err); remedy != "" {
		return hint.Add(err, remedy+"; "+elsewhere)
	}
	return hint.Add(err, elsewhere)
}

// all joins errors, and keeps one as it is, with its hint.
func all(found []error) error {
	found = slices.DeleteFunc(found, func(err error) bool { return err == nil })
	if len(found) == 1 {
		return found[0]
	}
	return errors.Join(found...)
}

// preflightOverrides shows what commands have changed beside the configuration.
func preflightOverrides(cfg *config.Config, log *slog.Logger) error {
	o, err := LoadOverrides(cfg)
	if err != nil {
		return err
	}
	for _, line := range o.InWords(cfg) {
		log.Warn(line)
	}
	return nil
}

// preflightListeners opens every listener, all at once, as they may be in each other's way, and closes them again.
func preflightListeners(cfg *config.Config, runs bool) error {
	var found []error
	var open []net.Listener
	for _, w := range listenerSpecs(cfg) {
		l, err := socket.Listen(w.address)
		switch {
		case err == nil:
			open = append(open, l)
		case errors.Is(err, syscall.EADDRINUSE) && runs: // by that padlock
		// A machine without IPv6.
		case errors.Is(err, syscall.EADDRNOTAVAIL) && strings.HasPrefix(w.address, "[::1]") && len(open) > 0:
		default:
			found = append(found, listenError(cfg, listenFailed{err, w}))
		}
	}

	for _, l := range open {
		l.Close()
	}
	return all(found)
}

// preflightUser becomes the user that the configuration names, as padlock run does: what follows is found as that user.
func preflightUser(cfg *config.Config) error {
	if cfg.User == "" {
		return nil
	}
	return becomeAccount(cfg)
}

// preflightCertificates finds what is wrong with the local CA, files of certificates, names and the settings of a DNS
// provider.
func preflightCertificates(cfg *config.Config, o PreflightOptions) (*snapshot, error) {
	local, err := localca.Peek(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if o.FileOnly && errors.Is(err, fs.ErrPermission) {
		// The padlock that runs may be another user's, and so is its local CA.
		local, err = localca.Peek("", localca.Options{})
	}
	if err != nil {
		return nil, forOwner(cfg, err)
	}

	s, err := newSnapshot(cfg, local, nil, o.Log)
	if err != nil {
		return nil, err
	}

	found := []error{s.unusableFiles()}
	if _, err := storageKey(cfg); err != nil && !(o.FileOnly && errors.Is(err, fs.ErrPermission)) {
		found = append(found, err)
	}
	// Containers may bring more names, so nothing is called unused.
	if cfg.Docker == nil {
		found = append(found, s.checkCoverage())
	}

	if d := cfg.Certificates.DNS; d.Provider != "" && s.manages() {
		_, err := dns.New(dns.Options{Provider: d.Provider, Resolvers: d.Resolvers, Timeout: d.Timeout, Log: o.Log})
		found = append(found, dnsHint(err))
	}

	return s, all(found)
}

// FurtherErrors are those of files of certificates, beside what is wrong with a configuration itself, so that all is
// reported at once. The configuration is nil where nothing of it was understood.
func FurtherErrors(cfg *config.Config, wrong config.Errors) (further config.Errors) {
	if cfg == nil {
		return nil
	}
	_, err := certs.NewFiles(cfg.Certificates.Files, slog.New(slog.DiscardHandler))
	_ = errors.As(err, &further)
	return slices.DeleteFunc(further, func(e config.Error) bool {
		return slices.ContainsFunc(wrong, func(known config.Error) bool { return strings.HasPrefix(known.Path, e.Path) })
	})
}

// unusableFiles is an error where a directory has files that cannot be used, though padlock run serves the others.
func (s *snapshot) unusableFiles() error {
	var errs []error
	for _, u := range s.files.Unusable() {
		errs = append(errs, u.Reason)
	}
	if len(errs) == 0 {
		return nil
	}
	return hint.Add(fmt.Errorf("loading certificates: %w", errors.Join(errs...)), "correct these files, or remove them: padlock run serves the rest of their directory, and warns")
}

// unusedFiles are certificates of files that no site can show, which is a slip more often than not.
func (s *snapshot) unusedFiles() (unused config.Errors) {
	cfg, serves := s.cfg, serves(s.cfg)
	for i, f := range cfg.Certificates.Files {
		if f.Directory != "" || cfg.Docker != nil || cfg.Certificates.OnDemand != nil {
			// The directory may hold certificates for other programs.
			continue
		}

		var names []string
		used := false

		for _, pair := range s.files.Entry(i) {
			names = append(names, pair.Leaf.DNSNames...)
			for _, ip := range pair.Leaf.IPAddresses {
				names = append(names, ip.String())
			}
		}

		for _, name := range names {
			name = strings.ToLower(name)
			used = used || serves(name) || slices.ContainsFunc(cfg.Sites, func(site config.Site) bool {
				return slices.ContainsFunc(site.Hosts, func(host string) bool { return netname.Match(name, host) })
			})
		}

		// A certificate without names was reported when it was loaded.
		if !used && len(names) > 0 {
			unused = append(unused, config.Error{
				Path:    fmt.Sprintf("certificates.files[%d]", i),
				Message: fmt.Sprintf("no site shows this certificate, which is for %s: add the name to hosts of a site, or leave the entry out", text.Summary(names)),
			})
		}
	}
	return unused
}

// preflightLogs finds logs and captures that cannot be opened.
func preflightLogs(cfg *config.Config) error {
	var found []error
	h := cfg.Handshakes
	if h.Show != "off" {
		found = append(found, forUser(cfg, fileError("handshakes.output", preflightLog(h.Output))))
		if h.Capture != "" {
			found = append(found, forUser(cfg, fileError("handshakes.capture", preflightCapture(h.Capture))))
		}
	}
	if cfg.AccessLog.Format != "off" {
		found = append(found, forUser(cfg, fileError("access_log.output", preflightLog(cfg.AccessLog.Output))))
	}
	return all(found)
}

// fileError is an error of opening a file to write to, with its key and what to do about it.
func fileError(key string, err error) error {
	if err == nil {
		return nil
	}
	remedy := ""
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.As(err, &path):
		remedy = "make its directory (mkdir -p " + filepath.Dir(path.Path) + "), or name another file"
	case errors.Is(err, fs.ErrPermission):
		remedy = "let padlock's user write there, or name another file"
	case errors.Is(err, syscall.EISDIR):
		remedy = "name a file in it"
	}
	placed := config.At(key, err)
	if remedy == "" {
		return placed
	}
	return hint.Add(placed, remedy)
}

func preflightLog(name string) error {
	if name == "" || name == "stderr" || name == "stdout" {
		return nil
	}

	info, err := regular.Stat(name)
	var failed *fs.PathError
	if errors.As(err, &failed) {
		failed.Op = "open"
	}

	switch {
	case err == nil && !info.Mode().IsRegular() && !info.IsDir():
		if err = regular.CheckPlace(name); !errors.Is(err, regular.ErrPlanted) {
			return nil
		}
	case err == nil:
		err = appendable(name, info)
	case errors.Is(err, fs.ErrNotExist):
		err = enterable(filepath.Dir(name), name)
	}

	if err == nil || regular.Unwritable(err) {
		return nil
	}

	return fmt.Errorf("opening the log: %w", err)
}

// appendable opens a log that is there for a moment, and sees whether appendPrivate could keep it from others.
func appendable(name string, info fs.FileInfo) error {
	f, err := os.OpenFile(name, appending, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := regular.CheckWritten(name, f); err != nil {
		return err
	}
	// The file's owner and root can take the permissions away, and Run does so itself.
	if info.Mode().Perm()&0o027 != 0 && !ours(info) && os.Geteuid() != 0 {
		return fmt.Errorf("%s can be read by everybody: chmod o-rwx,g-w it", name)
	}
	return nil
}

func preflightCapture(name string) error {
	info, err := creatable(name)
	if err == nil && info == nil {
		err = enterable(filepath.Dir(name), name)
	}
	if err == nil || regular.Unwritable(err) {
		return nil
	}
	return fmt.Errorf("opening the capture: %w", err)
}

// enterable is the error of making a file in a directory.
func enterable(dir, name string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	if err == nil {
		err = mayWrite(dir)
	}
	var failed *fs.PathError
	if errors.As(err, &failed) {
		failed.Op, failed.Path = "open", name
	}
	return err
}

// creatableDirectory is the error of making a directory with all that it lies in, or a file in one that is there.
func creatableDirectory(dir string) error {
	missing := ""
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			// The topmost directory that is missing is the one whose making fails.
			missing = at
			continue
		case err == nil && !info.IsDir():
			err = &fs.PathError{Op: "mkdir", Path: at, Err: syscall.ENOTDIR}
		case err == nil:
			err = mayWrite(at)
		}

		var failed *fs.PathError
		if errors.As(err, &failed) && missing != "" {
			failed.Op, failed.Path = "mkdir", missing
		}
		return err
	}
}

// preflightStorage finds a storage that cannot be used, or that does not agree with storage_key. A directory that is
// not there is not made.
func preflightStorage(ctx context.Context, s *snapshot, log *slog.Logger) error {
	cfg := s.cfg
	if err := s.preflightDirectory(); err != nil {
		return err
	}
	// To open the storage is to make its directory, and a check changes nothing.
	if _, err := os.ReadDir(cfg.Storage); !storage.IsRemote(cfg.Storage) && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	store, err := OpenStore(ctx, cfg, log)
	if err != nil {
		return forUser(cfg, err)
	}
	return all([]error{CheckStore(ctx, cfg, store), store.Close()})
}

// preflightDirectory finds a directory for the local CA, or for what else belongs to this machine, that cannot be
// written to.
func (s *snapshot) preflightDirectory() error {
	cfg := s.cfg
	dir := cfg.StateDirectory()
	if cfg.User != "" {
		if err := creatableDirectory(dir); err != nil && !regular.Unwritable(err) {
			return forUser(cfg, fmt.Errorf("user %s cannot use the storage directory %s: %w", cfg.User, dir, err))
		}
	}

	switch unstored, _ := s.local.Unstored(); {
	case s.needsLocal() && unstored:
		if err := creatableDirectory(filepath.Join(dir, "localca")); err != nil && !regular.Unwritable(err) {
			return forUser(cfg, forOwner(cfg, fmt.Errorf("making the directory of the local CA: %w", err)))
		}
	case !s.needsLocal() && !storage.IsRemote(cfg.Storage):
		if err := creatableDirectory(dir); errors.Is(err, fs.ErrPermission) {
			return forUser(cfg, forOwner(cfg, fmt.Errorf("the storage cannot be written to: %w", err)))
		}
	}

	return nil
}

// preflightAdmin finds an admin endpoint that cannot be opened.
func preflightAdmin(cfg *config.Config, runs bool) error {
	if cfg.Admin.Off() || runs {
		return nil
	}

	var found []error
	if socket := cfg.AdminSocket(); cfg.Admin.Address == "unix:"+socket {
		found = append(found, preflightSocket(cfg, socket))
	}

	if address := cfg.Admin.TCP(); address != "" {
		l, err := net.Listen("tcp", address)
		if err == nil {
			l.Close()
		} else {
			found = append(found, hint.Add(fmt.Errorf("opening the admin endpoint: %w", err), "choose another --admin address, or off"))
		}
	}

	return all(found)
}

// preflightSocket is the error of opening a socket that was named. What cannot be written now is tried again by
// padlock run.
func preflightSocket(cfg *config.Config, path string) error {
	dir := filepath.Dir(path)
	why := enterable(dir, path)
	if errors.Is(why, fs.ErrNotExist) && dir == filepath.Clean(cfg.StateDirectory()) {
		why = nil // it is made
	}

	// What was left is not removed.
	if info, err := os.Lstat(path); err == nil && (why != nil || info.Mode()&fs.ModeSocket == 0) {
		why = syscall.EADDRINUSE
	}
	// Nothing is bound here, so that the kernel cannot say so.
	if len(path) >= maxSocketPath {
		why = syscall.EINVAL
	}

	var number syscall.Errno
	if !errors.As(why, &number) || regular.Unwritable(why) {
		return nil
	}
	failed := &net.OpError{Op: "listen", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"}, Err: os.NewSyscallError("bind", number)}
	return hint.Add(fmt.Errorf("opening the admin endpoint: %w", failed), "choose another --admin address, or off")
}

// maxSocketPath is the size of sun_path, which holds a zero byte besides (unix(7)).
const maxSocketPath = 108
