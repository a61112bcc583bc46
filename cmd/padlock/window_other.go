//go:build !unix

package main

import "os"

// windowWidth is how many columns a terminal has; 0: nobody knows.
func windowWidth(*os.File) int { return 0 }
