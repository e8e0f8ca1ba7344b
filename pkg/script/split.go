// SPDX-License-Identifier: Apache-2.0

package script

import (
	"errors"
	"fmt"
	"strings"
)

// Split splits a command line into words as a shell does it: blanks separate
// them, quotes and backslashes keep what they hold together. What else a shell
// would obey, without quotes, is an error: there is none.
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
				return nil, errors.New("it ends with a backslash")
			}
			word.WriteRune(runes[i])
			begun = true
		case strings.ContainsRune("|&;<>()$`", c), c == '#' && !begun:
			return nil, fmt.Errorf("%q means something to a shell, but there is none: put it in quotes, or ask for a shell", string(c))
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

// quoted adds what is in quotes to a word, and returns how long that is with the
// closing quote.
func quoted(runes []rune, quote rune, word *strings.Builder) (int, error) {
	for i := 0; i < len(runes); i++ {
		switch c := runes[i]; {
		case c == quote:
			return i + 1, nil
		case c == '\\' && quote == '"' && i+1 < len(runes) && strings.ContainsRune("\\\"$`", runes[i+1]):
			i++
			word.WriteRune(runes[i])
		case quote == '"' && (c == '$' || c == '`'):
			return 0, fmt.Errorf("%q means something to a shell, but there is none: put it in single quotes, or ask for a shell", string(c))
		default:
			word.WriteRune(c)
		}
	}
	return 0, fmt.Errorf("a quote %c is not closed", quote)
}

// Join is the reverse of Split: a line that Split makes the words of.
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
