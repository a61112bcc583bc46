package main

import (
	"os"
	"strings"

	"rsc.io/qr"

	"padlock/internal/terminal"
)

// qrQuiet is the margin that readers need (ISO/IEC 18004 section 9.1), in modules.
const qrQuiet = 4

// qrCode draws text for a terminal, two modules in a character. Its colours are given, as a theme's may be any.
func qrCode(text string) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", err
	}

	var b strings.Builder
	for y := -qrQuiet; y < code.Size+qrQuiet; y += 2 {
		// Black on white, in the part of the palette that terminal themes leave alone.
		b.WriteString("\x1b[38;5;16;48;5;231m")
		for x := -qrQuiet; x < code.Size+qrQuiet; x++ {
			b.WriteString(halves[code.Black(x, y)][code.Black(x, y+1)])
		}
		b.WriteString("\x1b[0m\n")
	}

	return b.String(), nil
}

// halves are by whether the upper and the lower one is black.
var halves = map[bool]map[bool]string{false: {false: " ", true: "▄"}, true: {false: "▀", true: "█"}}

// drawsBlocks reports whether w is a terminal that shows colours and UTF-8.
func drawsBlocks(w any) bool {
	// The first variable that is set counts (POSIX, section 8.2).
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(os.Getenv(name)); locale != "" {
			return terminal.Colour(w) && (strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8"))
		}
	}
	return terminal.Colour(w)
}
