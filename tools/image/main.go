// SPDX-License-Identifier: Apache-2.0

// Command image makes a container image from directories, one for each architecture. The image
// is an OCI archive for podman and skopeo. image needs no container daemon. The same
// directories and time give the same archive.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	o := options{labels: make(map[string]string), roots: make(map[string]string)}
	var epoch int64
	flag.StringVar(&o.out, "out", "", "`path` of the archive")
	flag.StringVar(&o.name, "name", "", "`name:tag` of the image")
	flag.StringVar(&o.entrypoint, "entrypoint", "", "`program` that the image runs")
	flag.Int64Var(&epoch, "epoch", 0, "`seconds` since 1970; all times in the image are this one")
	flag.Func("label", "a label, `key=value`; repeat it for more", func(s string) error { return pair(s, o.labels) })
	flag.Func("root", "a directory that becomes the image's root, `architecture=directory`; repeat it for more", func(s string) error { return pair(s, o.roots) })
	flag.Parse()
	o.time = time.Unix(epoch, 0).UTC()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

type options struct {
	out, name, entrypoint string
	time                  time.Time
	labels                map[string]string
	roots                 map[string]string // by architecture
}

// pair adds key=value.
func pair(s string, to map[string]string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return errors.New("want key=value")
	}
	to[key] = value
	return nil
}

func run(o options) (err error) {
	if len(o.roots) == 0 || o.out == "" || o.entrypoint == "" || flag.NArg() > 0 {
		return errors.New("--root, --out and --entrypoint are needed; make image sets them")
	}
	f, err := os.Create(o.out)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(o.out) // it is incomplete
		}
	}()
	return write(f, o)
}
