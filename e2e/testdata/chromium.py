#!/usr/bin/python3
"""Runs Chromium with the arguments given, where it hears of no change of the network.

Chromium gives up its connections with ERR_NETWORK_CHANGED whenever an interface appears or goes, as with every
container that another test, or anybody else on this machine, starts. Here the kernel gives it no socket of
NETLINK_ROUTE, and it takes the network for one that does not change.
"""
import ctypes
import os
import platform
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
AF_NETLINK, NETLINK_ROUTE, EAFNOSUPPORT = 16, 0, 97
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD, UNLESS, RETURN = 0x20, 0x15, 0x06
NUMBER, DOMAIN, PROTOCOL = 0, 16, 32  # offsets in struct seccomp_data: seccomp(2)
ERRNO, ALLOW = 0x00050000, 0x7FFF0000

instructions = [
    (LOAD, 0, 0, NUMBER), (UNLESS, 0, 5, SOCKET),  # the third figure is how many are skipped unless it is equal
    (LOAD, 0, 0, DOMAIN), (UNLESS, 0, 3, AF_NETLINK),
    (LOAD, 0, 0, PROTOCOL), (UNLESS, 0, 1, NETLINK_ROUTE),
    (RETURN, 0, 0, ERRNO | EAFNOSUPPORT),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in instructions))
program = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(code)))

prctl = ctypes.CDLL(None, use_errno=True).prctl
zero = ctypes.c_ulong(0)
if prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) or prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), program, zero, zero):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execvp("chromium", ["chromium"] + sys.argv[1:])
