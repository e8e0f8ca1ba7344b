// SPDX-License-Identifier: Apache-2.0

// Command image packs a directory as a container image: an OCI archive of one
// layer, that podman, docker and skopeo load. It needs no daemon. The same
// directory and time make the same archive.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

func main() {
	var o options
	var epoch int64
	flag.StringVar(&o.root, "root", "", "`directory` that becomes the image's root")
	flag.StringVar(&o.out, "out", "", "`path` of the archive")
	flag.StringVar(&o.name, "name", "", "`name:tag` of the image")
	flag.StringVar(&o.arch, "arch", runtime.GOARCH, "`architecture` of the programs in it")
	flag.StringVar(&o.entrypoint, "entrypoint", "", "`program` that it runs")
	flag.Int64Var(&epoch, "epoch", 0, "`seconds` since 1970 that all times in it are")
	flag.Parse()
	o.time = time.Unix(epoch, 0).UTC()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

type options struct {
	root, out, name, arch, entrypoint string
	time                              time.Time
}

func run(o options) (err error) {
	if o.root == "" || o.out == "" || o.entrypoint == "" || flag.NArg() > 0 {
		return errors.New("--root, --out and --entrypoint are needed; make image gives them")
	}
	f, err := os.Create(o.out)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(o.out) // half an archive is of no use
		}
	}()
	return write(f, o)
}
