package storage

// StopRenewing lets a lease of a service run out, as it does for a process that is frozen.
func StopRenewing(s Store, name string) {
	var l *leases
	switch s := s.(type) {
	case *redisStore:
		l = s.leases
	case *postgresStore:
		l = s.leases
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name].stop()
}
