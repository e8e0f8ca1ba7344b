// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/flock"
)

// ErrNoRoom is returned when a journal can't be written because its file system is full.
var ErrNoRoom = errors.New("no room for the journal of changes to this host")

// The file of a journal has two slots of the same size. A write overwrites the older slot in
// place. So it needs no new space in the file system, and an interrupted write leaves the
// other slot intact. The newest valid slot counts. A slot is a header and the content; the
// header is the sequence number, the length and the checksum in hexadecimal, and a newline.
const (
	slotUnit   = 4096 // the size of a slot is a multiple of this, the page size
	slotHeader = "%016x %08x %08x\n"
	slotPrefix = 16 + 1 + 8 + 1 + 8 + 1 // the length of the header
	slotTries  = 10                     // attempts to create a file, because Recover of another run may remove an unlocked one
)

func appendSlot(b []byte, sequence uint64, content []byte) []byte {
	b = fmt.Appendf(b, slotHeader, sequence, len(content), slotSum(sequence, content))
	return append(b, content...)
}

func slotSum(sequence uint64, content []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(strconv.AppendUint(nil, sequence, 16)), crc32.IEEETable, content)
}

// newestSlot returns the content of the newest valid slot of a journal's file.
func newestSlot(file []byte) (newest []byte, ok bool) {
	var last uint64
	for _, slot := range [][]byte{file[:len(file)/2], file[len(file)/2:]} {
		var sequence uint64
		var length, sum uint32
		if _, err := fmt.Sscanf(string(slot[:min(len(slot), slotPrefix)]), slotHeader, &sequence, &length, &sum); err != nil {
			continue
		}
		if rest := slot[slotPrefix:]; int(length) <= len(rest) && slotSum(sequence, rest[:length]) == sum && (!ok || sequence > last) {
			newest, last, ok = rest[:length], sequence, true
		}
	}
	return newest, ok
}

// put writes the content to the file: in place if it fits into a slot.
func (j *Journal) put(content []byte) error {
	if j.file == nil || slotPrefix+len(content) > j.slotSize {
		return j.replace(content)
	}
	offset := int64(j.sequence % 2 * uint64(j.slotSize))
	if _, err := j.file.WriteAt(appendSlot(nil, j.sequence, content), offset); err != nil {
		return err
	}
	j.sequence++
	return nil
}

// replace replaces the file by a new one whose slots have room for twice the content, or for
// just the content if the file system is too full.
func (j *Journal) replace(content []byte) error {
	var file *os.File
	var err error
	for _, times := range []int{2, 1} {
		slot := (times*(slotPrefix+len(content)) + slotUnit - 1) / slotUnit * slotUnit
		b := appendSlot(make([]byte, 0, 2*slot), 0, content)
		b = append(b, bytes.Repeat([]byte(" "), 2*slot-len(b))...)
		if file, err = createLocked(j.path, b); err == nil {
			if j.file != nil {
				err = j.file.Close()
			}
			j.file, j.slotSize, j.sequence = file, slot, 1
			return err
		}
	}
	return err
}

// createLocked creates or replaces a file. The new file is locked before it appears at its
// path.
func createLocked(path string, content []byte) (file *os.File, err error) {
	for range slotTries {
		file, err = createOnce(path, content)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, flock.ErrHeld) {
			break
		}
	}
	return file, err
}

func createOnce(path string, content []byte) (*os.File, error) {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = flock.ErrHeld
	}
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary) // Recover removes it if this fails
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
