//go:build !unix

package regular

import "os"

// checkLinks has nothing to do where making a link is a privilege.
func checkLinks(string, *os.File) error { return nil }

// CheckWritten has nothing to do here.
func CheckWritten(string, *os.File) error { return nil }

// CheckPlace has nothing to do here.
func CheckPlace(string) error { return nil }

// CheckLink has nothing to do here.
func CheckLink(string) error { return nil }
