// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// numberSize is how much of a file is read, in octets.
	numberSize = 128
	// An empty file may be one that is just written: it is looked at again.
	emptyTries = 3
	emptyTime  = 5 * time.Millisecond
)

// readStart reads the start of a small file, as keepalived has it: one that isn't
// there is like an empty one. A FIFO isn't waited for.
func readStart(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New(path + " is not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, numberSize))
	return strings.TrimSpace(string(b)), err
}

// readNumber reads the number in a file. One that is missing or empty is 0.
func readNumber(ctx context.Context, path string) outcome {
	s, err := readStart(path)
	for try := 0; err == nil && s == "" && try < emptyTries; try++ {
		select {
		case <-ctx.Done():
		case <-time.After(emptyTime):
		}
		s, err = readStart(path)
	}
	if err != nil {
		return bad("%s", err)
	}
	if s == "" {
		s = "0"
	}
	n, err := strconv.Atoi(strings.Fields(s)[0])
	if err != nil || n < -maxNumber || n > maxNumber {
		return bad("%q is not a number", s)
	}
	return outcome{good: true, value: n, text: "the number is " + strconv.Itoa(n)}
}
