package storage

// StopRenewing lets a lease of a service run out, as it does for a process that is frozen.
func StopRenewing(s Store, name string) {
	var l *leases
	switch s := Raw(s).(type) {
	case *redisStore:
		l = s.leases
	case *postgresStore:
		l = s.leases
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name].stop()
}

// Raw is what lies below the encryption, as whoever can write to the place has it.
func Raw(s Store) Store {
	switch s := s.(type) {
	case *encrypted:
		return s.backend
	case *plain:
		return s.backend
	}
	return s
}
