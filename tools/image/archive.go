// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The types below are a part of the OCI image specification, version 1.0.

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []descriptor      `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type configuration struct {
	platform
	Created time.Time     `json:"created"`
	Config  configured    `json:"config"`
	RootFS  layers        `json:"rootfs"`
	History []createdWith `json:"history"`
}

type configured struct {
	Entrypoint []string          `json:"Entrypoint"`
	Env        []string          `json:"Env"`
	Labels     map[string]string `json:"Labels,omitempty"`
	StopSignal string            `json:"StopSignal"`
}

type layers struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type createdWith struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

const (
	media      = "application/vnd.oci.image."
	version    = "1.0.0"
	searchPath = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
)

// write writes the archive. Its index has a single entry, another index with an image for each
// architecture, because podman load refuses an archive whose index has more entries.
func write(w io.Writer, o options) error {
	a := &archive{tar: tar.NewWriter(w), time: o.time}
	images := index{SchemaVersion: 2, MediaType: media + "index.v1+json", Annotations: o.labels}
	for _, arch := range slices.Sorted(maps.Keys(o.roots)) {
		image, err := a.image(arch, o)
		if err != nil {
			return err
		}
		images.Manifests = append(images.Manifests, image)
	}
	entry := a.json(images.MediaType, images)
	if o.name != "" {
		entry.Annotations = map[string]string{"org.opencontainers.image.ref.name": o.name}
	}
	a.file("index.json", marshal(index{SchemaVersion: 2, MediaType: images.MediaType, Manifests: []descriptor{entry}}))
	a.file("oci-layout", marshal(map[string]string{"imageLayoutVersion": version}))
	return errors.Join(a.err, a.tar.Close())
}

// image writes the image of an architecture.
func (a *archive) image(arch string, o options) (descriptor, error) {
	plain, packed, err := layer(o.roots[arch], o.time)
	if err != nil {
		return descriptor{}, err
	}
	runs := platform{Architecture: arch, OS: "linux"}
	config := a.json(media+"config.v1+json", configuration{
		platform: runs,
		Created:  o.time,
		Config:   configured{Entrypoint: []string{o.entrypoint}, Env: []string{searchPath}, Labels: o.labels, StopSignal: "SIGTERM"},
		RootFS:   layers{Type: "layers", DiffIDs: []string{digest(plain)}},
		History:  []createdWith{{Created: o.time, CreatedBy: "make image"}},
	})
	d := a.json(media+"manifest.v1+json", manifest{
		SchemaVersion: 2,
		MediaType:     media + "manifest.v1+json",
		Config:        config,
		Layers:        []descriptor{a.blob(media+"layer.v1.tar+gzip", packed)},
		Annotations:   o.labels,
	})
	d.Platform = &runs
	return d, nil
}

// archive writes the files of an image. It keeps its first error and then writes nothing more.
type archive struct {
	tar  *tar.Writer
	time time.Time
	err  error
}

func (a *archive) file(name string, content []byte) {
	if a.err != nil {
		return
	}
	a.err = a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: a.time})
	if a.err == nil {
		_, a.err = a.tar.Write(content)
	}
}

// blob writes a file whose name is its digest.
func (a *archive) blob(mediaType string, content []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digest(content), Size: len(content)}
	a.file("blobs/"+strings.Replace(d.Digest, ":", "/", 1), content)
	return d
}

func (a *archive) json(mediaType string, v any) descriptor { return a.blob(mediaType, marshal(v)) }

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // none of the types here can fail
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// layer packs a directory. All files belong to root.
func layer(root string, at time.Time) (plain, packed []byte, err error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		if h.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		if d.IsDir() {
			h.Name += "/"
		}
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		h.ModTime, h.AccessTime, h.ChangeTime, h.Format = at, time.Time{}, time.Time{}, tar.FormatPAX
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, nil, err
	}
	var z bytes.Buffer
	zip := gzip.NewWriter(&z)
	_, err = zip.Write(b.Bytes())
	err = errors.Join(err, zip.Close())
	return b.Bytes(), z.Bytes(), err
}
