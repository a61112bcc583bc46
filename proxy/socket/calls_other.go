//go:build unix && !linux

package socket

import (
	"syscall"
	"unsafe"
)

func receive(fd uintptr, p unsafe.Pointer, size int) (uintptr, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(p), uintptr(size))
	return n, errno
}

func send(fd uintptr, p unsafe.Pointer, size int) (uintptr, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(p), uintptr(size))
	return n, errno
}
