//go:build !unix

package http1

import "padlock/proxy/message"

type phase int

func (b *backend) exchange(r *message.Request) error { return b.exchangePlainly(r) }

func (b *backend) onReady(uintptr) bool { return true }

func peek(uintptr) (ended, spoke bool) { return false, false }
