// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// pipeTime is how long whoever writes a file that is a pipe may take.
const pipeTime = 2 * time.Second

// ReadFile reads a file that is to be a configuration. It doesn't wait for the
// writer of a FIFO, opens no device, and reads at most 8 MiB. The error is of type
// *Mistakes if the file is there and isn't one that can be a configuration.
func ReadFile(path string) ([]byte, error) {
	refused := func(format string, args ...any) error {
		r := newReader(path, "")
		r.flaw(&r.mistakes.parts[0], &flaw{text: fmt.Sprintf(format, args...), whole: true})
		return &r.mistakes
	}
	// A device may do something when it is opened.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeNamedPipe {
		return nil, refused("it is not a file: %s", kinds(kind))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	if info.Mode().Type() == fs.ModeNamedPipe {
		if err := f.SetReadDeadline(time.Now().Add(pipeTime)); err != nil {
			return nil, refused("it is a FIFO that can't be read: %s", err)
		}
	}
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), maxOctets)) + bytes.MinRead)
	_, err = b.ReadFrom(io.LimitReader(f, maxOctets+1))
	content := b.Bytes()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refused("it is a FIFO whose writer takes longer than %v: name a file", pipeTime)
	case err != nil:
		return nil, err
	case len(content) > maxOctets:
		return nil, refused("%s", tooLong(len(content)).text)
	}
	return content, nil
}

// kinds says what something is that isn't a file.
func kinds(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeDir != 0:
		return "it is a directory; name a file in it"
	case mode&fs.ModeDevice != 0:
		return "it is a device"
	}
	return "it is a socket"
}

// unreadable is why a content is no text: it has another encoding, or there are
// characters in it that have no place in a file.
func unreadable(content string) *flaw {
	if name := encoding(content); name != "" {
		return &flaw{text: "the file is " + name + ": save it as UTF-8", whole: true}
	}
	if len(content) > maxOctets {
		return tooLong(len(content))
	}
	if binary(content) {
		return &flaw{text: "it is a binary file, not text: name the configuration file", whole: true}
	}
	for i, c := range content {
		switch {
		case c == utf8.RuneError && !strings.HasPrefix(content[i:], string(utf8.RuneError)):
			return &flaw{at: i, text: fmt.Sprintf("the octet 0x%02x is not UTF-8", content[i]), hint: "save the file as UTF-8"}
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0x7f:
			return &flaw{at: i, text: fmt.Sprintf("the control character 0x%02x is not text", content[i]), hint: "remove it"}
		}
	}
	return nil
}

// binary reports whether a content begins with several octets that are in no text: more
// than a slip.
func binary(content string) bool {
	const begin, several = 1024, 8
	odd := 0
	for i, c := range content[:min(len(content), begin)] {
		if c == utf8.RuneError && !strings.HasPrefix(content[i:], string(utf8.RuneError)) || c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			odd++
		}
	}
	return odd >= several
}

// tooLong refuses a file by its length in octets.
func tooLong(octets int) *flaw {
	return &flaw{text: fmt.Sprintf("it has %d octets or more, and at most %d are read: remove what isn't needed", octets, maxOctets), whole: true}
}

// encoding names the encoding of a content that isn't UTF-8, if that shows: by a
// byte order mark, or by how the zeros are in its first characters, which are in
// ASCII.
func encoding(content string) string {
	zeros := ""
	for i := range min(len(content), 4) {
		zeros += map[bool]string{true: "0", false: "x"}[content[i] == 0]
	}
	begin := content[:min(len(content), 4)]
	switch {
	case begin == "\x00\x00\xfe\xff", begin == "\xff\xfe\x00\x00", zeros == "000x", zeros == "x000":
		return "UTF-32"
	case strings.HasPrefix(begin, "\xfe\xff"), strings.HasPrefix(begin, "\xff\xfe"), zeros == "0x0x", zeros == "x0x0":
		return "UTF-16"
	}
	return ""
}
