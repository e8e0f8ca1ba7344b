// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// line is one line of a keepalived configuration, after includes, comments and
// variables.
type line struct {
	path   string
	number int
	order  int
	text   string
	only   string // the host that it is for; with a ^ before: all others
}

// Limits that no configuration for people reaches: they end definitions that
// have themselves in their values.
const (
	maxDepth = 64
	maxWork  = 4 << 20 // bytes looked at: of files, and of lines with their variables replaced
	maxSteps = 100_000 // of one ~SEQ
	maxLines = 150_000 // thousands of instances have fewer
	maxWords = 500_000
	// maxInBlock is how many directives a block can have.
	maxInBlock = 20_000
	maxLine    = 64 << 10 // bytes
	openWork   = 64       // what opening a file counts as
	maxWilds   = 3        // directories of an include that are patterns
)

// preprocessor does what keepalived does before it looks at the directives.
type preprocessor struct {
	open      func(string) ([]byte, error)
	glob      func(string) ([]string, error)
	vars      map[string]string
	including []string
	lines     []line
	work      int
	findings  *collector
}

var (
	definition = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)
	use        = regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*)(\s|$))`)
	ofProcess  = regexp.MustCompile(`\$\{_ENV\s+([A-Za-z_][A-Za-z0-9_]*)\s*\}`) // its environment isn't known here
	includes   = regexp.MustCompile(`^include[rmwba]?$`)
	sequence   = regexp.MustCompile(`^~(SEQx?|LST)\(([^()]*)\)\s*(.*)$`)
)

func (p *preprocessor) file(path string, content []byte) error {
	p.including = append(p.including, path)
	defer func() { p.including = p.including[:len(p.including)-1] }()
	text := strings.ReplaceAll(strings.TrimPrefix(string(content), "\ufeff"), "\r\n", "\n")
	var value strings.Builder
	name, since, only := "", 0, "" // of a definition of several lines
	number := 0
	for raw := range strings.Lines(text) {
		number++
		s := strings.TrimSpace(uncomment(strings.TrimSuffix(raw, "\n")))
		if name != "" {
			rest, more := strings.CutSuffix(s, `\`)
			value.WriteString(strings.TrimSpace(rest) + "\n")
			if !more && s != "" {
				p.define(line{path: path, number: since, only: only}, name, value.String())
				name = ""
			}
			continue
		}
		if s == "" {
			continue
		}
		if first := strings.Fields(s)[0]; includes.MatchString(first) {
			pattern := strings.Trim(strings.TrimSpace(s[len(first):]), `"'`)
			if err := p.include(line{path: path, number: number}, pattern); err != nil {
				return err
			}
			continue
		}
		l := line{path: path, number: number, text: s}
		condition, rest := cutCondition(s)
		if m := definition.FindStringSubmatch(rest); m != nil && strings.TrimSpace(m[2]) == `\` {
			name, since, only = m[1], number, condition
			value.Reset()
			continue
		}
		if err := p.process(l, 0); err != nil {
			return err
		}
	}
	if name != "" {
		return fmt.Errorf(`%s:%d: the definition of $%s ends with the file: its last line has a \ at its end, remove that`, path, since, name)
	}
	return nil
}

// cutCondition cuts "@host" off a line.
func cutCondition(s string) (condition, rest string) {
	if !strings.HasPrefix(s, "@") {
		return "", s
	}
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s[1:], ""
	}
	return s[1:i], strings.TrimSpace(s[i:])
}

// process replaces what stands for something else in a line, and keeps what is
// left.
func (p *preprocessor) process(l line, depth int) error {
	if p.work += len(l.text) + 1; p.work > maxWork {
		return tooMuch(l)
	}
	if len(l.text) > maxLine && depth > 0 {
		return tooMuch(l)
	}
	if len(l.text) > maxLine {
		return fmt.Errorf("%s:%d: a line of more than %d kB: is it text at all?", l.path, l.number, maxLine>>10)
	}
	if depth > maxDepth {
		return fmt.Errorf("%s:%d: the variables of this line have each other in their values: break the circle", l.path, l.number)
	}
	condition, s := cutCondition(strings.TrimSpace(l.text))
	if condition != "" {
		l.only = condition
	}
	if l.text = s; s == "" {
		return nil
	}
	if m := definition.FindStringSubmatch(s); m != nil {
		p.define(l, m[1], m[2])
		return nil
	}
	if m := sequence.FindStringSubmatch(s); m != nil {
		return p.repeat(l, depth, m[1], m[2], m[3])
	}
	replaced, size := false, 0
	s = use.ReplaceAllStringFunc(s, func(s string) string {
		m := use.FindStringSubmatch(s)
		value, ok := p.value(l, m[1]+m[2])
		if !ok {
			return s
		}
		replaced = true
		if size += len(value); p.work+size > maxWork {
			return ""
		}
		return strings.TrimSuffix(value, "\n") + m[3]
	})
	if p.work+size > maxWork {
		return tooMuch(l)
	}
	if !replaced {
		if len(p.lines) == maxLines {
			return fmt.Errorf("%s:%d: more than %d lines with what variables and includes stand for: split it up", l.path, l.number, maxLines)
		}
		s = ofProcess.ReplaceAllString(strings.NewReplacer("${_HASH}", "#", "${_BANG}", "!").Replace(s), "$$$1")
		p.lines = append(p.lines, line{l.path, l.number, len(p.lines), s, l.only})
		return nil
	}
	for part := range strings.SplitSeq(s, "\n") {
		part := line{path: l.path, number: l.number, text: part, only: l.only}
		if err := p.process(part, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func tooMuch(l line) error {
	return fmt.Errorf("%s:%d: too much with its variables replaced and its files included: does one have itself in it?", l.path, l.number)
}

func (p *preprocessor) value(l line, name string) (string, bool) {
	if name == "_PWD" {
		return filepath.Dir(l.path), true
	}
	value, ok := p.vars[name]
	return value, ok
}

func (p *preprocessor) define(l line, name, value string) {
	if l.only != "" {
		_, known := p.vars[name]
		text := fmt.Sprintf("in keepalived %s have this value; here it is taken for this host: correct the result where that is wrong", hosts(l.only))
		if known {
			text = fmt.Sprintf("in keepalived %s have this value; here the one before it is taken: correct the result where that is wrong", hosts(l.only))
		}
		p.find(l, "$"+name, Changed, text)
		if known {
			return
		}
	}
	p.vars[name] = value
}

// repeat expands ~SEQ and ~LST.
func (p *preprocessor) repeat(l line, depth int, kind, arguments, rest string) error {
	args := strings.Split(arguments, ",")
	for i := range args {
		args[i] = strings.TrimSpace(args[i])
	}
	values, ok := args[1:], kind == "LST" && len(args) > 1 && !strings.ContainsAny(arguments, "{}")
	if kind != "LST" {
		values, ok = steps(args[1:], kind == "SEQx")
	}
	if !ok {
		p.find(l, "~"+kind, Unknown, "this list isn't understood: write its lines out")
		return nil
	}
	name := args[0]
	before, known := p.vars[name]
	for _, v := range values {
		p.vars[name] = v
		l.text = rest
		if err := p.process(l, depth+1); err != nil {
			return err
		}
	}
	if delete(p.vars, name); known {
		p.vars[name] = before
	}
	return nil
}

// steps are the values of a ~SEQ: [start, [step,]] end.
func steps(args []string, hex bool) (all []string, ok bool) {
	if len(args) < 1 || len(args) > 3 {
		return nil, false
	}
	var n []int
	for _, a := range args {
		v, err := strconv.ParseInt(a, 0, 32)
		if err != nil {
			return nil, false
		}
		n = append(n, int(v))
	}
	end := n[len(n)-1]
	start, step := 1, 1
	if end < 0 {
		start = -1
	}
	if len(n) > 1 {
		start = n[0]
	}
	if end < start {
		step = -1
	}
	if len(n) > 2 {
		step = n[1]
	}
	if step == 0 || (end-start)/step < 0 || (end-start)/step > maxSteps {
		return nil, false
	}
	for v := start; step > 0 && v <= end || step < 0 && v >= end; v += step {
		if hex {
			all = append(all, strconv.FormatInt(int64(v), 16))
		} else {
			all = append(all, strconv.Itoa(v))
		}
	}
	return all, true
}

func (p *preprocessor) include(l line, pattern string) error {
	where := fmt.Sprintf("%s:%d: include %.200s", l.path, l.number, pattern)
	if pattern == "" {
		return fmt.Errorf("%s:%d: include without a file: name one, or remove the line", l.path, l.number)
	}
	if strings.ContainsAny(pattern, "{}") {
		return fmt.Errorf("%s: braces and variables in it aren't understood: write an include for each file", where)
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(l.path), pattern)
	}
	paths := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if wild := strings.FieldsFunc(filepath.Dir(pattern), func(c rune) bool { return c == '/' }); len(slices.DeleteFunc(wild, func(s string) bool { return !strings.ContainsAny(s, "*?[") })) > maxWilds {
			return fmt.Errorf("%s: more than %d of its directories are patterns: name them", where, maxWilds)
		}
		if paths, err = p.glob(pattern); err != nil {
			return fmt.Errorf("%s: %w: correct the pattern", where, err)
		}
		if len(paths) == 0 {
			p.find(l, "include", Unneeded, "no file matches "+pattern)
		}
		slices.Sort(paths)
	}
	for _, path := range paths {
		if slices.Contains(p.including, path) {
			return fmt.Errorf("%s: %s is being read already, so it would never end: remove this line", where, path)
		}
		if len(p.including) >= maxDepth {
			return fmt.Errorf("%s: %d files include each other: remove some", where, maxDepth)
		}
		content, err := p.open(path)
		if err != nil {
			return fmt.Errorf("%s: %w: have the file readable, or remove the line", where, err)
		}
		if p.work += len(content) + openWork; p.work > maxWork {
			return tooMuch(l)
		}
		if err := p.file(path, content); err != nil {
			return err
		}
	}
	return nil
}

func (p *preprocessor) find(l line, directive string, kind Kind, text string) {
	p.findings.add(len(p.lines), Finding{l.path, l.number, directive, kind, text}, nil)
}

// hosts says whom a condition means.
func hosts(only string) string {
	if name, not := strings.CutPrefix(only, "^"); not {
		return fmt.Sprintf("all hosts but %q", cut(name))
	}
	return fmt.Sprintf("hosts called %q alone", cut(only))
}

// uncomment cuts a comment off a line: it begins with # or ! outside of quotes.
func uncomment(s string) string {
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#' || c == '!':
			return s[:i]
		}
	}
	return s
}
