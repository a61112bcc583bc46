package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// processors is how much the processors of this machine have done, in ticks of the kernel's clock.
type processors struct{ busy, all int }

// processorsNow is zero where that cannot be known.
func processorsNow() (p processors) {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n") // proc_stat(5): of all processors
	for i, field := range strings.Fields(line) {
		n, err := strconv.Atoi(field)
		if i == 0 || i > 8 || err != nil { // time of guests counts as the user's, too
			continue
		}
		p.all += n
		if i != 4 && i != 5 { // idle, and waiting for disks
			p.busy += n
		}
	}
	return p
}

// since tells how busy the processors were, on the average, since an earlier look.
func (p processors) since(before processors) string {
	all := p.all - before.all
	if all <= 0 {
		return ""
	}
	return fmt.Sprintf(", processors %d %% busy", 100*(p.busy-before.busy)/all)
}
