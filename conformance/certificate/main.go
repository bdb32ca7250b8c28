// Certificate makes a certificate for 127.0.0.1 and puts it into FILE, with its key, for the
// conformance tests. It prints what a client has to trust.
//
//	certificate FILE
package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/larderhq/larder/bench/rig"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "certificate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: certificate FILE")
	}
	c, err := rig.NewCertificate(args[0])
	if err != nil {
		return err
	}
	return pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
