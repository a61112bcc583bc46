package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// endRounds bounds how often processes are looked for that are started while others are ended.
const endRounds = 10

// endMarked ends what a client has started outside its process group, as a daemon is: whose environment has the mark.
func endMarked(mark string) {
	for range endRounds {
		environments, _ := filepath.Glob("/proc/[0-9]*/environ")
		ended := false
		for _, name := range environments {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err == nil && endIfMarked(pid, name, mark) {
				ended = true
			}
		}
		if !ended {
			return
		}
	}
}

func endIfMarked(pid int, environment, mark string) bool {
	// It is found before its environment is read, so that it cannot be another one with the same number that is ended.
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }()

	// That of a process that has ended, or is somebody else's, cannot be read or is empty.
	text, err := os.ReadFile(environment)
	return err == nil && bytes.Contains(text, []byte(mark)) && process.Kill() == nil
}
