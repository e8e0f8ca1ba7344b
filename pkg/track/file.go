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
	// numberSize is the number of bytes that are read of a file.
	numberSize = 128
	// An empty file is read again, because another program may be writing it.
	emptyTries = 3
	emptyTime  = 5 * time.Millisecond
)

// readStart reads the start of a small file. As in keepalived, a missing file counts as empty.
// It doesn't block on a FIFO.
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
		return "", errors.New(path + " isn't a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, numberSize))
	return strings.TrimSpace(string(b)), err
}

// readNumber reads the number in a file. A missing or empty file counts as 0.
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
		return bad("%q isn't a number", s)
	}
	return outcome{good: true, value: n, text: "the number is " + strconv.Itoa(n)}
}
