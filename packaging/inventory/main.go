// Command inventory lists what a binary is linked of, from what the linker has noted in it: a bill of materials, and
// the licences with their texts. It fails where a licence is not known to be permissive.
//
//	go run ./packaging/inventory -version 1.2.3 -sbom padlock.cdx.json -licences THIRD-PARTY.txt padlock
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "inventory:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer, epoch string) error {
	flags := flag.NewFlagSet("inventory", flag.ContinueOnError)
	sbom := flags.String("sbom", "", "`FILE` for a bill of materials, CycloneDX 1.6 in JSON")
	texts := flags.String("licences", "", "`FILE` for the texts of all licences")
	version := flags.String("version", "dev", "of the program, which the linker does not note")
	if err := flags.Parse(args); err != nil {
		return err
	}

	if flags.NArg() != 1 {
		return errors.New("one binary is needed")
	}

	b, err := read(flags.Arg(0))
	if err != nil {
		return err
	}

	b.version = *version
	if err := b.findLicences(); err != nil {
		return err
	}

	if *sbom != "" {
		data, err := b.cycloneDX(epoch)
		if err == nil {
			err = os.WriteFile(*sbom, data, 0o644) // for everybody
		}
		if err != nil {
			return err
		}
	}

	if *texts != "" {
		return os.WriteFile(*texts, b.thirdParty(), 0o644) // for everybody
	}

	if *sbom == "" {
		for _, m := range b.modules {
			fmt.Fprintln(stdout, m.Path, m.Version, strings.Join(m.ids, " "))
		}
	}

	return nil
}
