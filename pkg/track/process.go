// SPDX-License-Identifier: Apache-2.0

package track

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxWatched is the maximum number of processes of one check that are watched for their end.
// The next run of the check notices the end of others.
const maxWatched = 16

// processes lists the processes of the host for all checks together.
type processes struct {
	deaths *deaths

	mu    sync.Mutex
	at    time.Time
	names map[int]string
	lines map[int][]string // only if a check needs them
}

// count counts the processes of a check.
func (p *processes) count(c Check) outcome {
	// Checks that run within a quarter of the interval share one list.
	found, err := p.find(c.Process, c.Interval/4)
	if err != nil {
		return bad("%s", err)
	}
	for _, pid := range found[:min(len(found), maxWatched)] {
		p.deaths.watch(pid)
	}
	text := fmt.Sprintf("%d processes", len(found))
	switch len(found) {
	case 0:
		text = "no process"
	case 1:
		text = "process " + strconv.Itoa(found[0])
	}
	return result(len(found) >= c.Process.Min && (c.Process.Max < 0 || len(found) <= c.Process.Max), text)
}

// find returns the living processes that match, from a list of at most this age.
func (p *processes) find(want Processes, age time.Duration) ([]int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	withLines := len(want.Arguments) > 0
	if time.Since(p.at) > age || withLines && p.lines == nil {
		if err := p.list(withLines || p.lines != nil); err != nil {
			return nil, err
		}
	}
	var found []int
	for pid, name := range p.names {
		matches := name == want.Name
		if withLines {
			line := p.lines[pid]
			matches = len(line) >= len(want.Arguments) && slices.Equal(line[:len(want.Arguments)], want.Arguments)
		}
		if matches && alive(pid) {
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found, nil
}

func (p *processes) list(withLines bool) error {
	dir, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	p.at, p.names, p.lines = time.Now(), make(map[int]string, len(p.names)), nil
	if withLines {
		p.lines = make(map[int][]string)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e)
		if err != nil {
			continue
		}
		name, err := readProc(pid, "comm")
		if err != nil {
			continue // it has ended
		}
		p.names[pid] = strings.TrimSuffix(string(name), "\n")
		if !withLines {
			continue
		}
		line, err := readProc(pid, "cmdline")
		if err == nil && len(line) > 0 {
			p.lines[pid] = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		}
	}
	return nil
}

func readProc(pid int, name string) ([]byte, error) {
	return os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
}

// alive reports whether a process exists and isn't a zombie.
func alive(pid int) bool {
	b, err := readProc(pid, "stat")
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(b, ')')
	return i >= 0 && i+2 < len(b) && !bytes.ContainsRune([]byte("ZXx"), rune(b[i+2]))
}

// ofPIDFile reports whether the process of a PID file is alive.
func (p *processes) ofPIDFile(path string) outcome {
	s, err := readStart(path)
	if err != nil {
		return bad("%s", err)
	}
	if s == "" {
		return bad("%s is missing or empty", path)
	}
	pid, err := strconv.Atoi(strings.Fields(s)[0])
	if err != nil || pid <= 0 {
		return bad("%q isn't a process ID", s)
	}
	if !alive(pid) {
		return bad("process %d isn't running", pid)
	}
	p.deaths.watch(pid)
	return good("process %d", pid)
}

// forget makes the next check list the processes again.
func (p *processes) forget() {
	p.mu.Lock()
	p.at = time.Time{}
	p.mu.Unlock()
}
