// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each blob that the index refers to exists, with its digest and size. The layer has the files
// of the directory, which belong to root.
func TestArchive(t *testing.T) {
	root := t.TempDir()
	program := filepath.Join(root, "usr", "sbin", "program")
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(os.MkdirAll(filepath.Dir(program), 0o755))
	ok(os.WriteFile(program, []byte("a program"), 0o755))
	ok(os.Chown(program, 1000, 1000))
	ok(os.Symlink("program", filepath.Join(root, "usr", "sbin", "link")))
	o := options{
		name: "program:1", entrypoint: "/usr/sbin/program", time: time.Unix(1e9, 0).UTC(),
		roots:  map[string]string{"arm64": root, "amd64": root},
		labels: map[string]string{"org.opencontainers.image.version": "1"},
	}
	var first, second bytes.Buffer
	ok(write(&first, o))
	ok(os.Chtimes(program, time.Now(), time.Unix(1, 0)))
	ok(write(&second, o))
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of the same directory differ")
	}

	files := make(map[string][]byte)
	each(t, &first, func(h *tar.Header, b []byte) { files[h.Name] = b })
	read := func(d descriptor, v any) []byte {
		t.Helper()
		b := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
		if digest(b) != d.Digest || len(b) != d.Size {
			t.Fatalf("%+v: the blob has %d octets and the digest %s", d, len(b), digest(b))
		}
		if v != nil {
			ok(json.Unmarshal(b, v))
		}
		return b
	}
	var top, images index
	ok(json.Unmarshal(files["index.json"], &top))
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != o.name {
		t.Fatalf("the index has %+v, want one entry with the name, for podman load", top.Manifests)
	}
	read(top.Manifests[0], &images)
	var archs []string
	for _, d := range images.Manifests {
		archs = append(archs, d.Platform.Architecture)
	}
	if got := strings.Join(archs, " "); got != "amd64 arm64" {
		t.Fatalf("images for %s", got)
	}
	var m manifest
	read(images.Manifests[1], &m)
	var c configuration
	read(m.Config, &c)
	if c.Architecture != "arm64" || c.Config.Labels["org.opencontainers.image.version"] != "1" || c.Config.Entrypoint[0] != o.entrypoint {
		t.Errorf("configuration %+v", c)
	}
	z, err := gzip.NewReader(bytes.NewReader(read(m.Layers[0], nil)))
	ok(err)
	plain, err := io.ReadAll(z)
	ok(err)
	if digest(plain) != c.RootFS.DiffIDs[0] {
		t.Error("the digest of the layer isn't the one in the configuration")
	}
	var names []string
	each(t, bytes.NewReader(plain), func(h *tar.Header, b []byte) {
		names = append(names, h.Name)
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(o.time) {
			t.Errorf("%s belongs to %d:%d and is of %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		if h.Name == "usr/sbin/program" && (string(b) != "a program" || h.Mode != 0o755) {
			t.Errorf("the program has %q and mode %o", b, h.Mode)
		}
	})
	if got := strings.Join(names, " "); got != "usr/ usr/sbin/ usr/sbin/link usr/sbin/program" {
		t.Errorf("the layer has %s", got)
	}
}

func each(t *testing.T, r io.Reader, f func(*tar.Header, []byte)) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		f(h, b)
	}
}
