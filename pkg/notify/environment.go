// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/script"
)

// prefix is that of the names of variables.
const prefix = "FAILOVERD_"

// document is what a hook is told in JSON: what describes its subject, and the
// event itself.
func document(e *Event, skipped int) (map[string]json.RawMessage, error) {
	all := make(map[string]json.RawMessage)
	if e.Describe != nil {
		b, err := json.Marshal(e.Describe())
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, &all); err != nil {
			return nil, err
		}
	}
	for name, v := range map[string]any{
		"kind": e.Kind, "name": e.Name, "notify": e.State, "priority": e.Priority, "cause": e.Cause,
		"time": e.Time.Format(time.RFC3339Nano), "skipped": skipped,
	} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		all[name] = b
	}
	return all, nil
}

// environment is a document as variables: FAILOVERD_ and the key in capitals, and
// FAILOVERD_JSON with all of it. A list of words has blanks between them; what is
// more than that is JSON.
func environment(all map[string]json.RawMessage) (env []string, document []byte, err error) {
	if document, err = json.Marshal(all); err != nil {
		return nil, nil, err
	}
	env = []string{"PATH=" + script.DefaultPath, prefix + "JSON=" + string(document)}
	for name, value := range all {
		v := strings.ReplaceAll(plain(value), "\x00", "")
		env = append(env, prefix+strings.ToUpper(name)+"="+v)
	}
	slices.Sort(env)
	return env, document, nil
}

// plain writes a value as a shell has it.
func plain(value json.RawMessage) string {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber() // as it is written
	var v any
	if decoder.Decode(&v) != nil {
		return string(value)
	}
	if s, ok := word(v); ok {
		return s
	}
	if list, ok := v.([]any); ok {
		words := make([]string, len(list))
		for i := range list {
			if words[i], ok = word(list[i]); !ok {
				return string(value)
			}
		}
		return strings.Join(words, " ")
	}
	return string(value)
}

func word(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}
