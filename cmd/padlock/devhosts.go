package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/dev"
)

// devHosts keeps lines in the hosts file for the names of apps, while the apps run: for names that this system does not
// resolve by itself, and where padlock may write the file, as root in a container can.
type devHosts struct {
	file string
	log  *slog.Logger
}

// follow keeps the lines until ctx ends, and then removes them.
func (h *devHosts) follow(ctx context.Context, hub *dev.Hub) {
	if writable(h.file) != nil {
		return
	}
	hub.Follow(ctx, func(names []string) { h.keep(ctx, names) })
	h.keep(context.WithoutCancel(ctx), nil)
}

// keep makes the lines of this process those of names.
func (h *devHosts) keep(ctx context.Context, names []string) {
	changed, err := changeHosts(h.file, func(before []byte) []byte {
		after := withoutDevLines(before, names)
		missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return hasHostLine(after, "127.0.0.1", name) || resolvesHere(ctx, name)
		})
		return appendHostLines(after, missing, devMark+strconv.Itoa(os.Getpid()))
	})
	if err != nil {
		h.log.Warn("names of apps get no lines in the hosts file", "file", h.file, "error", err)
	}
	for _, line := range changed {
		h.log.Info("the hosts file has changed", "file", h.file, "line", line)
	}
}

// devMark ends a line of a proxy of padlock dev, together with the id of its process.
const devMark = " # padlock dev "

// withoutDevLines leaves out the lines of this process that are for none of names, and those of processes that have
// ended: a proxy that is killed leaves its lines behind.
func withoutDevLines(text []byte, names []string) []byte {
	var kept []byte
	for line := range bytes.Lines(text) {
		entry, owner, own := strings.Cut(strings.TrimRight(string(line), "\r\n"), devMark)
		fields := strings.Fields(entry)
		pid, err := strconv.Atoi(owner)
		stale := own && err == nil && len(fields) == 2
		if stale && pid == os.Getpid() {
			stale = !slices.Contains(names, fields[1])
		} else if stale {
			stale = !processRuns(pid)
		}
		if !stale {
			kept = append(kept, line...)
		}
	}
	return kept
}

// resolvesHere reports whether programs on this machine find a name, and find this machine by it.
func resolvesHere(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	return err == nil && slices.ContainsFunc(addresses, netip.Addr.IsLoopback)
}
