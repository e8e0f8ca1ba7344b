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

// ErrNoRoom is returned when a journal can't be written because its file system is
// full.
var ErrNoRoom = errors.New("no room to write down what is changed on this host")

// The file of a journal has two slots of the same size. A write goes to the one that
// is older, in place, so that it needs no room that isn't there already and leaves the
// other one as it was if it is cut short. The newer slot counts:
//
//	sequence, length and checksum in hexadecimal, a line's end, the content
const (
	slotUnit   = 4096 // the size of a slot is a multiple of a page's
	slotHeader = "%016x %08x %08x\n"
	slotPrefix = 16 + 1 + 8 + 1 + 8 + 1
	slotTries  = 10 // to make a file that another run's Recover takes for a dead one's
)

func appendSlot(b []byte, sequence uint64, content []byte) []byte {
	b = fmt.Appendf(b, slotHeader, sequence, len(content), slotSum(sequence, content))
	return append(b, content...)
}

func slotSum(sequence uint64, content []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(strconv.AppendUint(nil, sequence, 16)), crc32.IEEETable, content)
}

// newestSlot returns the content of a journal's file.
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

// put makes the content the file's, in place if there is room for it.
func (j *Journal) put(content []byte) error {
	if j.file == nil || slotPrefix+len(content) > j.slot {
		return j.replace(content)
	}
	offset := int64(j.sequence % 2 * uint64(j.slot))
	if _, err := j.file.WriteAt(appendSlot(nil, j.sequence, content), offset); err != nil {
		return err
	}
	j.sequence++
	return nil
}

// replace puts a new file in place of the one that is too small: with room for twice the
// content if there is some.
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
			j.file, j.slot, j.sequence = file, slot, 1
			return err
		}
	}
	return err
}

// createLocked makes a file, or replaces it, that is locked before it is visible.
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
		_ = os.Remove(temporary) // what is left of it is removed by Recover
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
