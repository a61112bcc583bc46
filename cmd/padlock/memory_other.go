//go:build !unix

package main

func keepMemory() {}
