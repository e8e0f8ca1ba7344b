// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"fmt"
	"strings"
)

// ping sends an echo request to each target, and waits until enough have answered.
func (l *looks) ping(ctx context.Context, t Targets) outcome {
	asked := make([]func(context.Context) error, len(t.Addresses))
	for i, a := range t.Addresses {
		e, err := l.Ping(a, t.Interface)
		if err != nil {
			asked[i] = func(context.Context) error { return err }
			continue
		}
		defer e.Close()
		asked[i] = e.Wait
	}
	return t.gather(ctx, asked)
}

// gather waits for the answers of the targets, and ends when enough have answered. asked has a
// function for each target, which returns nil when the target has answered.
func (t Targets) gather(ctx context.Context, asked []func(context.Context) error) outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		target int
		err    error
	}
	answers := make(chan answer, len(asked))
	for i, wait := range asked {
		go func() { answers <- answer{i, wait(ctx)} }()
	}
	errs := make([]error, len(asked))
	answered := make([]bool, len(asked))
	count := 0
	for range asked {
		a := <-answers
		errs[a.target] = a.err
		// An answer that comes after enough others is ignored, but its goroutine is
		// awaited, because it uses a socket.
		if a.err == nil && count < t.AtLeast {
			answered[a.target] = true
			if count++; count == t.AtLeast {
				cancel()
			}
		}
	}
	var yes, no []string
	for i, a := range t.Addresses {
		if answered[i] {
			yes = append(yes, a.String())
		} else if errs[i] != nil {
			no = append(no, a.String()+": "+reason(errs[i]))
		}
	}
	if count >= t.AtLeast {
		return good("%s answered", strings.Join(yes, ", "))
	}
	text := strings.Join(no, "; ")
	if count > 0 {
		text = fmt.Sprintf("%d of %d answered, and at least %d must: %s", count, len(asked), t.AtLeast, text)
	}
	return outcome{text: text}
}
