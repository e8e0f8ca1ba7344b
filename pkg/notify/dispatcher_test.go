// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/script"
)

// fake is a Runner that runs no program. A run that hangs waits for a value from answers.
type fake struct {
	mu       sync.Mutex
	commands []script.Command
	now, max int
	hang     func(script.Command) bool
	answers  chan script.Result
}

func (f *fake) Run(ctx context.Context, c script.Command) script.Result {
	f.mu.Lock()
	f.commands = append(f.commands, c)
	f.now++
	f.max = max(f.max, f.now)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.now--
		f.mu.Unlock()
	}()
	if f.hang == nil || !f.hang(c) {
		return script.Result{Started: time.Now()}
	}
	select {
	case r := <-f.answers:
		return r
	case <-ctx.Done():
		return script.Result{Status: -1, Err: ctx.Err()}
	case <-time.After(c.Timeout):
		return script.Result{Status: -1, TimedOut: true, Signal: syscall.SIGKILL, Took: c.Timeout}
	}
}

func (f *fake) lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, c := range f.commands {
		all = append(all, strings.Join(c.Args, " "))
	}
	return all
}

func always(script.Command) bool { return true }

var (
	web  = Subject{Instance, "web"}
	pair = Subject{Group, "pair"}
)

func event(s Subject, state State, priority int) Event {
	return Event{Subject: s, State: state, Priority: priority, Cause: "a reason", Time: time.Unix(1, 0)}
}

// dispatcher returns a Dispatcher that accepts all programs, and a function that returns its
// reports.
func dispatcher(f *fake, c Config) (d *Dispatcher, reported func() []Run) {
	var mu sync.Mutex
	var runs []Run
	d = New(f, func(r Run) {
		mu.Lock()
		defer mu.Unlock()
		runs = append(runs, r)
	})
	d.check = func(path string, _ *script.Credential) error {
		switch path {
		case "/missing":
			return errors.New("there is no /missing")
		case "/open":
			return fmt.Errorf("%w: all users", script.ErrInsecure)
		}
		return nil
	}
	d.Configure(c)
	return d, func() []Run {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(runs)
	}
}

func hook(setting string, command ...string) Hook {
	return Hook{Setting: setting, Command: command, Timeout: 30 * time.Second}
}

// A hook for one state gets only its own arguments, and a hook for all states also those of
// keepalived. The hooks of a router run before the common ones.
func TestArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		active := hook("notify_active", "/active", "own")
		active.On = Master
		f := &fake{}
		d, _ := dispatcher(f, Config{
			Hooks:  map[Subject][]Hook{web: {active, hook("notify", "/any", "own")}, pair: {hook("notify", "/pair")}},
			Common: []Hook{hook("global notify", "/all")},
		})
		for _, e := range []Event{event(web, Backup, 100), event(web, Master, 100), event(pair, Fault, 0), event(web, Stop, 90)} {
			d.Notify(e)
			synctest.Wait()
		}
		want := []string{
			"/any own INSTANCE web BACKUP 100", "/all INSTANCE web BACKUP 100",
			"/active own", "/any own INSTANCE web MASTER 100", "/all INSTANCE web MASTER 100",
			"/pair GROUP pair FAULT 0", "/all GROUP pair FAULT 0",
			"/any own INSTANCE web STOP 90", "/all INSTANCE web STOP 90",
		}
		if diff := cmp.Diff(want, f.lines()); diff != "" {
			t.Error(diff)
		}
		d.Close(time.Second, nil)
	})
}

// While a hook runs, only the latest state waits, and skipped states are counted. Notify never
// blocks.
func TestLatestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: always, answers: make(chan script.Result)}
		d, reported := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {hook("notify", "/any")}}})
		began := time.Now()
		for i := range 1000 {
			d.Notify(event(web, []State{Master, Backup}[i%2], 100))
			if i == 0 {
				synctest.Wait() // the hook runs now
			}
		}
		d.Notify(event(web, Fault, 100))
		if took := time.Since(began); took != 0 {
			t.Errorf("notifying took %v", took)
		}
		r := d.Report(web)
		if r.Skipped != 999 || r.Hooks[0].Running != Master || r.Hooks[0].Last != nil {
			t.Errorf("%+v", r)
		}
		f.answers <- script.Result{}
		f.answers <- script.Result{Status: 3, Output: []byte("no\n")}
		synctest.Wait()
		if diff := cmp.Diff([]string{"/any INSTANCE web MASTER 100", "/any INSTANCE web FAULT 100"}, f.lines()); diff != "" {
			t.Error(diff)
		}
		runs := reported()
		if len(runs) != 2 || runs[0].Outcome != OK || runs[0].Skipped != 0 || runs[1].Outcome != Failed || runs[1].Skipped != 999 || runs[1].Text != "exit status 3" || runs[1].Output != "no\n" {
			t.Errorf("%+v", runs)
		}
		r = d.Report(web)
		if diff := cmp.Diff(map[Outcome]uint64{OK: 1, Failed: 1}, r.Runs); diff != "" || r.Hooks[0].Running != "" || r.Hooks[0].Last.State != Fault {
			t.Errorf("%+v", r)
		}
		d.Close(time.Second, nil)
	})
}

// An event that changes no state runs only its own hook, and doesn't replace a change of state
// that waits.
func TestLowerPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lower := hook("notify_lower_priority", "/lower")
		lower.On = LowerPriority
		f := &fake{hang: always, answers: make(chan script.Result)}
		d, reported := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {hook("notify", "/any"), lower}}})
		for _, state := range []State{Master, LowerPriority, LowerPriority, Backup, LowerPriority, MasterPriority, BackupPriority} {
			d.Notify(event(web, state, 100))
			synctest.Wait()
		}
		f.answers <- script.Result{}
		f.answers <- script.Result{}
		synctest.Wait()
		d.Notify(event(web, LowerPriority, 100))
		f.answers <- script.Result{}
		synctest.Wait()
		if diff := cmp.Diff([]string{"/any INSTANCE web MASTER 100", "/any INSTANCE web BACKUP 100", "/lower"}, f.lines()); diff != "" {
			t.Error(diff)
		}
		for _, run := range reported() {
			if run.Skipped != 0 {
				t.Errorf("a change of state was skipped: %+v", run)
			}
		}
		d.Close(time.Second, nil)
	})
}

// An event without a hook doesn't replace one that has a hook.
func TestNoHookForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		active, backup := hook("notify_active", "/active"), hook("notify_backup", "/backup")
		active.On, backup.On = Master, Backup
		f := &fake{hang: always, answers: make(chan script.Result)}
		d, _ := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {active, backup}}})
		d.Notify(event(web, Master, 1))
		synctest.Wait()
		d.Notify(event(web, Backup, 1))
		d.Notify(event(web, Fault, 1))
		f.answers <- script.Result{}
		f.answers <- script.Result{}
		synctest.Wait()
		if diff := cmp.Diff([]string{"/active", "/backup"}, f.lines()); diff != "" {
			t.Error(diff)
		}
		d.Close(time.Second, nil)
	})
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		path     string
		insecure bool
		result   script.Result
		want     Outcome
		text     string
	}{
		{"/good", false, script.Result{}, OK, "exit status 0"},
		{"/good", false, script.Result{Status: 1}, Failed, "exit status 1"},
		{"/good", false, script.Result{Status: -1, Signal: syscall.SIGSEGV}, Failed, "ended by signal segmentation fault"},
		{"/good", false, script.Result{Status: -1, TimedOut: true, Took: time.Second}, Timeout, "killed at its time limit, after 1s"},
		{"/good", false, script.Result{Status: -1, Err: errors.New("start /good: exec format error")}, Failed, "start /good: exec format error"},
		{"/good", false, script.Result{Status: -1, Err: context.Canceled}, Stopped, "stopped"},
		{"/missing", true, script.Result{}, Failed, "there is no /missing"},
		{"/open", false, script.Result{}, Refused, "others may change it: all users"},
		{"/open", true, script.Result{}, OK, "exit status 0"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{hang: always, answers: make(chan script.Result, 1)}
			f.answers <- c.result
			d, reported := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {hook("notify", c.path)}}, Insecure: c.insecure})
			if problem := d.Report(web).Hooks[0].Problem; (problem != "") != (c.want == Refused || c.path == "/missing") {
				t.Errorf("%s: the problem is %q", c.path, problem)
			}
			d.Notify(event(web, Master, 1))
			synctest.Wait()
			if runs := reported(); len(runs) != 1 || runs[0].Outcome != c.want || runs[0].Text != c.text {
				t.Errorf("%s, %v: %+v", c.path, c.result, runs)
			}
			d.Close(time.Second, nil)
		})
	}
}

// Hooks of many routers run at the same time, up to a limit.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: always, answers: make(chan script.Result)}
		d, reported := dispatcher(f, Config{Common: []Hook{hook("global notify", "/all")}})
		const routers = 3 * maxPrograms
		for i := range routers {
			d.Notify(event(Subject{Instance, fmt.Sprint(i)}, Master, 1))
		}
		synctest.Wait()
		if n := len(f.lines()); n != maxPrograms {
			t.Errorf("%d run", n)
		}
		for range routers {
			f.answers <- script.Result{}
		}
		synctest.Wait()
		if n := len(reported()); n != routers || f.max != maxPrograms {
			t.Errorf("%d have run, %d at once", n, f.max)
		}
		if n := len(d.queues); n != 0 {
			t.Errorf("%d routers that aren't configured are kept", n)
		}
		d.Close(time.Second, nil)
	})
}

// Close kills a hook that hangs early enough that the hook for the state STOP can run, and
// kills that one at the limit.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: always}
		d, reported := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {hook("notify", "/any"), hook("more", "/more")}}})
		d.Notify(event(web, Master, 1))
		synctest.Wait()
		d.Notify(event(web, Stop, 1))
		began := time.Now()
		d.Close(10*time.Second, nil)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		d.Notify(event(web, Master, 1)) // too late
		if diff := cmp.Diff([]string{"/any INSTANCE web MASTER 1", "/any INSTANCE web STOP 1"}, f.lines()); diff != "" {
			t.Error(diff)
		}
		runs := reported()
		for i, r := range runs {
			if r.Outcome != Stopped {
				t.Errorf("%d: %+v", i, r)
			}
		}
		if len(runs) != 3 || !strings.HasPrefix(runs[2].Text, "not started") {
			t.Errorf("%+v", runs)
		}
	})
}

// Closing hurry kills all hooks at once.
func TestCloseInAHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: always}
		d, reported := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {hook("notify", "/any")}}})
		d.Notify(event(web, Master, 1))
		synctest.Wait()
		d.Notify(event(web, Stop, 1))
		began, hurry := time.Now(), make(chan struct{})
		time.AfterFunc(time.Second, func() { close(hurry) })
		d.Close(10*time.Second, hurry)
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		for _, r := range reported() {
			if r.Outcome != Stopped {
				t.Errorf("%+v", r)
			}
		}
	})
}

// The environment and the JSON that a hook gets.
func TestEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		d, _ := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {hook("notify", "/any")}}})
		e := event(web, Master, 200)
		e.Describe = func() any {
			return map[string]any{
				"state": "Active", "priority": 7, "addresses": []string{"192.0.2.1/24", "2001:db8::1/64"}, "preempt": true,
				"interval": 0.1, "big": uint64(1) << 60, "nothing": nil, "odd": "a\x00b\nc", "inner": []any{map[string]int{"x": 1}},
			}
		}
		d.Notify(e)
		synctest.Wait()
		c := f.commands[0]
		var document map[string]any
		if err := json.Unmarshal(c.Stdin, &document); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]string)
		for _, v := range c.Env {
			name, value, _ := strings.Cut(v, "=")
			got[name] = value
		}
		if got["FAILOVERD_JSON"]+"\n" != string(c.Stdin) {
			t.Errorf("%q and %q", got["FAILOVERD_JSON"], c.Stdin)
		}
		for key := range document {
			if _, there := got["FAILOVERD_"+strings.ToUpper(key)]; !there {
				t.Errorf("no variable for %s", key)
			}
		}
		delete(got, "FAILOVERD_JSON")
		want := map[string]string{
			"PATH": script.DefaultPath, "FAILOVERD_KIND": "INSTANCE", "FAILOVERD_NAME": "web", "FAILOVERD_NOTIFY": "MASTER",
			"FAILOVERD_STATE": "Active", "FAILOVERD_PRIORITY": "200", "FAILOVERD_CAUSE": "a reason", "FAILOVERD_SKIPPED": "0",
			"FAILOVERD_TIME": time.Unix(1, 0).Format(time.RFC3339Nano), "FAILOVERD_ADDRESSES": "192.0.2.1/24 2001:db8::1/64",
			"FAILOVERD_PREEMPT": "true", "FAILOVERD_INTERVAL": "0.1", "FAILOVERD_BIG": "1152921504606846976", "FAILOVERD_NOTHING": "",
			"FAILOVERD_ODD": "ab\nc", "FAILOVERD_INNER": `[{"x":1}]`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		d.Close(time.Second, nil)
	})
}

// Configure affects later events. An event that waits keeps its hooks.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: always, answers: make(chan script.Result)}
		d, _ := dispatcher(f, Config{Hooks: map[Subject][]Hook{web: {hook("notify", "/old")}}})
		d.Notify(event(web, Master, 1))
		synctest.Wait()
		d.Notify(event(web, Stop, 1))
		if wrong := d.Configure(Config{Hooks: map[Subject][]Hook{pair: {hook("notify", "/new")}, web: {hook("notify", "/missing"), hook("more", "/missing")}}}); len(wrong) != 1 {
			t.Errorf("wrong: %v", wrong)
		}
		d.Configure(Config{Hooks: map[Subject][]Hook{pair: {hook("notify", "/new")}}})
		d.Notify(event(web, Master, 1))
		d.Notify(event(pair, Master, 0))
		for range 3 {
			f.answers <- script.Result{}
		}
		synctest.Wait()
		got := f.lines()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"/new GROUP pair MASTER 0", "/old INSTANCE web MASTER 1", "/old INSTANCE web STOP 1"}, got); diff != "" {
			t.Error(diff)
		}
		if r := d.Report(web); len(r.Hooks) > 0 || r.Runs != nil {
			t.Errorf("%+v", r)
		}
		d.Close(time.Second, nil)
	})
}
