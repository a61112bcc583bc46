package proxy

import "time"

// SetLate makes a server tell of late answers earlier, for tests.
func (s *Server) SetLate(after time.Duration) { s.late.after, s.late.every = after, time.Nanosecond }
