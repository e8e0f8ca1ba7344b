// SPDX-License-Identifier: Apache-2.0

package script

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// adopting returns a Runner that runs Adopt.
func adopting(t *testing.T) *Runner {
	t.Helper()
	r := NewRunner()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.Adopt(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
	for !r.adopted.Load() {
		time.Sleep(time.Millisecond)
	}
	return r
}

func sh(line string) Command {
	return Command{Args: []string{"/bin/sh", "-c", line}, Timeout: patience, Sole: true}
}

func TestRun(t *testing.T) {
	r := NewRunner()
	for name, c := range map[string]struct {
		command Command
		text    string
		output  string
	}{
		"succeeds":        {sh("echo fine"), "exit status 0", "fine\n"},
		"fails":           {sh("echo bad >&2; exit 3"), "exit status 3", "bad\n"},
		"signal":          {sh("kill -TERM $$"), "ended by signal terminated", ""},
		"reads":           {Command{Args: []string{"/bin/cat"}, Stdin: []byte("hello")}, "exit status 0", "hello"},
		"without input":   {Command{Args: []string{"/bin/cat"}}, "exit status 0", ""},
		"environment":     {Command{Args: []string{"/bin/sh", "-c", "echo $A $PATH"}, Env: []string{"A=b"}}, "exit status 0", "b"},
		"directory":       {Command{Args: []string{"/bin/pwd"}}, "exit status 0", "/\n"},
		"missing":         {Command{Args: []string{"/nonexistent/check"}}, "start /nonexistent/check: no such file or directory", ""},
		"not absolute":    {Command{Args: []string{"true"}}, `run ["true"]: the program's path must be absolute`, ""},
		"nothing":         {Command{}, "run []: the program's path must be absolute", ""},
		"background left": {sh("sleep 1000 & echo left"), "exit status 0", "left\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.Run(t.Context(), c.command)
			if got.String() != c.text || !strings.HasPrefix(string(got.Output), c.output) || got.Written != int64(len(got.Output)) {
				t.Errorf("%s, output %q of %d octets; want %s, output %q", got, got.Output, got.Written, c.text, c.output)
			}
			if got.OK() != (c.text == "exit status 0") {
				t.Errorf("%s is OK: %t", got, got.OK())
			}
		})
	}
	if len(r.children) != 0 {
		t.Errorf("%d processes are still waited for", len(r.children))
	}
}

func TestOutputIsBounded(t *testing.T) {
	c := sh("head -c 1000000000 /dev/zero; echo; echo the end")
	c.Keep = 10
	got := NewRunner().Run(t.Context(), c)
	if !got.OK() || got.Written != 1_000_000_009 || string(got.Output) != "\n\nthe end\n"[1:] && string(got.Output) != "\x00\nthe end\n" {
		t.Errorf("%s: %d octets, the last are %q", got, got.Written, got.Output)
	}
	if got.LastLine() != "the end" {
		t.Errorf("the last line is %q", got.LastLine())
	}
}

// pids waits until a file has n process IDs, and returns them.
func pids(t *testing.T, path string, n int) []int {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(string(b))
		if len(words) < n || !strings.HasSuffix(string(b), "\n") {
			continue
		}
		var all []int
		for _, w := range words {
			pid, err := strconv.Atoi(w)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pid)
		}
		return all
	}
	t.Fatalf("%s hasn't %d processes", path, n)
	return nil
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}

// At the time limit all processes of a program are killed, whatever it does to hide them.
func TestTimeLimit(t *testing.T) { timeLimit(t, nil) }

// The same with a program of another user, and with the few capabilities of the service.
func TestTimeLimitOfOtherUser(t *testing.T) {
	const bounded = "FAILOVERD_TEST_BOUNDED"
	if os.Getenv(bounded) != "" {
		nobody, err := Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		timeLimit(t, nobody)
		return
	}
	cmd := exec.Command("setpriv", "--bounding-set=-all,+setuid,+setgid,+kill", os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), bounded+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func timeLimit(t *testing.T, user *Credential) {
	r := adopting(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "pids")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	// The user must be able to write to it, whatever the umask.
	if err := errors.Join(os.Chmod(file, 0o666), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	c := sh(`
trap '' TERM HUP INT
echo $$ >>` + file + `
sleep 1000 & echo $! >>` + file + `
setsid sh -c 'echo $$ >>` + file + `; exec sleep 1000' &
(setsid sh -c '(trap "" TERM; echo $(exec sh -c "echo \$PPID") >>` + file + `; exec sleep 1000 </dev/null >/dev/null 2>&1) & exit') &
while :; do sleep 1000; done`)
	c.Timeout = 2 * time.Second
	c.User = user
	got := r.Run(t.Context(), c)
	if !got.TimedOut || got.OK() || got.Signal != syscall.SIGKILL || got.Killed < 3 {
		t.Errorf("%+v (%s)", got, got)
	}
	for _, pid := range pids(t, file, 4) {
		gone(t, pid)
	}
}

// A program with Sole leaves no process behind, even if it ends in time.
func TestNothingIsLeft(t *testing.T) {
	r := adopting(t)
	file := filepath.Join(t.TempDir(), "pids")
	c := sh(`(setsid sh -c '(echo $(exec sh -c "echo \$PPID") >>` + file + `; exec sleep 1000 </dev/null >/dev/null 2>&1) & exit') & first=$!; sleep 1000 & echo $! >>` + file + `; wait $first`)
	if got := r.Run(t.Context(), c); got.TimedOut {
		t.Fatal(got)
	}
	for _, pid := range pids(t, file, 2) {
		gone(t, pid)
	}
	// A program without Sole may leave one behind.
	c.Sole = false
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := r.Run(t.Context(), c); got.TimedOut {
		t.Fatal(got)
	}
	left := pids(t, file, 2)
	r.sweep()
	for _, pid := range left {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Errorf("process %d was not left: %v", pid, err)
		}
		gone(t, pid)
	}
	r.reapAdopted()
	for _, pid := range left {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("process %d was not reaped: %v", pid, err)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	file := filepath.Join(t.TempDir(), "pids")
	result := make(chan Result, 1)
	go func() { result <- NewRunner().Run(ctx, sh("echo $$ >"+file+"; exec sleep 1000")) }()
	pid := pids(t, file, 1)[0]
	cancel()
	got := <-result
	if !errors.Is(got.Err, context.Canceled) || got.TimedOut || got.String() != "stopped" {
		t.Errorf("%+v (%s)", got, got)
	}
	gone(t, pid)
}

func TestUser(t *testing.T) {
	nobody, err := Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	if nobody.UID != 65534 {
		t.Fatalf("nobody is %+v", nobody)
	}
	got := NewRunner().Run(t.Context(), Command{Args: []string{"/usr/bin/id"}, User: nobody})
	if !got.OK() || !strings.HasPrefix(string(got.Output), "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)") {
		t.Errorf("%s: %s", got, got.Output)
	}
	c, err := Lookup("0:daemon")
	if err != nil || c.UID != 0 || c.GID != 1 || len(c.Groups) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"", "nobody-here", "root:nobody-here"} {
		if _, err := Lookup(bad); err == nil {
			t.Errorf("%q is a user", bad)
		}
	}
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"":                           nil,
		" /bin/check  -x\ty ":        {"/bin/check", "-x", "y"},
		`a 'b c' "d 'e'" f\ g`:       {"a", "b c", "d 'e'", "f g"},
		`a '' "" x"y"'z'`:            {"a", "", "", "xyz"},
		`"a\"b\\c\d" 'e\f' '$HOME|'`: {`a"b\c\d`, `e\f`, "$HOME|"},
		`a #b`:                       nil,
		`a#b`:                        {"a#b"},
		`a | b`:                      nil,
		`a; b`:                       nil,
		`a $HOME`:                    nil,
		`a "$HOME"`:                  nil,
		`a 'b`:                       nil,
		`a "b`:                       nil,
		`a \`:                        nil,
	} {
		got, err := Split(line)
		if !slices.Equal(got, want) || (err == nil) != (want != nil || line == "") {
			t.Errorf("%q: %q, %v", line, got, err)
		}
		if again, err := Split(Join(got)); err != nil || !slices.Equal(again, got) {
			t.Errorf("%q: joined again it is %q, %v", line, again, err)
		}
	}
}
