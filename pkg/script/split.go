// SPDX-License-Identifier: Apache-2.0

package script

import (
	"errors"
	"fmt"
	"strings"
)

// Split splits a command line into words as a shell does: at blanks, except where quotes and
// backslashes protect them. Other shell syntax without quotes is an error, because commands run
// without a shell.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun := false
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		switch c := runes[i]; {
		case c == ' ' || c == '\t' || c == '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		case c == '\'' || c == '"':
			n, err := quoted(runes[i+1:], c, &word)
			if err != nil {
				return nil, err
			}
			begun, i = true, i+n
		case c == '\\':
			if i++; i == len(runes) {
				return nil, errors.New("the command ends with a backslash")
			}
			word.WriteRune(runes[i])
			begun = true
		case strings.ContainsRune("|&;<>()$`", c), c == '#' && !begun:
			return nil, fmt.Errorf("%q is shell syntax, but the command runs without a shell: put it in quotes, or use /bin/sh -c", string(c))
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// quoted adds the text up to the closing quote to a word, and returns its length with that
// quote.
func quoted(runes []rune, quote rune, word *strings.Builder) (int, error) {
	for i := 0; i < len(runes); i++ {
		switch c := runes[i]; {
		case c == quote:
			return i + 1, nil
		case c == '\\' && quote == '"' && i+1 < len(runes) && strings.ContainsRune("\\\"$`", runes[i+1]):
			i++
			word.WriteRune(runes[i])
		case quote == '"' && (c == '$' || c == '`'):
			return 0, fmt.Errorf("%q is shell syntax, but the command runs without a shell: put it in single quotes, or use /bin/sh -c", string(c))
		default:
			word.WriteRune(c)
		}
	}
	return 0, fmt.Errorf("the quote %c isn't closed", quote)
}

// Join is the reverse of Split: it returns a line that Split splits into the words.
func Join(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\|&;<>()$`#") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
