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

// prefix is the prefix of the variables' names.
const prefix = "FAILOVERD_"

// document returns the JSON fields that a hook gets: the description of its subject, and the
// event.
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

// environment turns a document into variables with the names FAILOVERD_ and the key in
// capitals. FAILOVERD_JSON has the whole document. The words of a list are separated by
// blanks, and other lists and objects are JSON.
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

// plain returns a value in a form that suits a shell.
func plain(value json.RawMessage) string {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber() // keeps the digits
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
