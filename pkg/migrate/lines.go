// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// pattern returns a regular expression, which is compiled at its first use, because a start
// with a file of failoverd's own needs none of them.
func pattern(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// line is one line of a keepalived configuration, after includes, comments,
// conditions and variables.
type line struct {
	path   string
	number int
	order  int
	text   string
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

// preprocessor does what keepalived does before it reads directives: includes,
// comments, conditions (@host), variables ($NAME), sequences (~SEQ) and lists (~LST).
type preprocessor struct {
	Options
	open      func(string) ([]byte, error)
	glob      func(string) ([]string, error)
	vars      map[string]string
	named     map[string]bool // the config-ids of conditions
	fits      bool            // whether one of them is this host's
	skipped   *line           // the first line that another host has
	including []string
	lines     []line
	work      int
	findings  *collector
}

var (
	definition = pattern(`^\$([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)
	use        = pattern(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*)(\s|$))`)
	ofProcess  = pattern(`\$\{_ENV\s+([A-Za-z_][A-Za-z0-9_]*)\s*\}`)
	random     = pattern(`\$\{_RANDOM(?:\s+(\d+))?(?:\s+\d+)?\s*\}`)
	includes   = pattern(`^include[rmwba]?$`)
	sequence   = pattern(`^~(SEQx?|LST)\(([^()]*)\)\s*(.*)$`)
	braced     = pattern(`\{[^{}]*\}`)
)

func (p *preprocessor) file(path string, content []byte) error {
	p.including = append(p.including, path)
	defer func() { p.including = p.including[:len(p.including)-1] }()
	text := strings.ReplaceAll(strings.TrimPrefix(string(content), "\ufeff"), "\r\n", "\n")
	var value strings.Builder
	name, since := "", 0 // of a definition of several lines
	number := 0
	for raw := range strings.Lines(text) {
		number++
		s := strings.TrimSpace(uncomment(strings.TrimSuffix(raw, "\n")))
		if name != "" {
			rest, more := strings.CutSuffix(s, `\`)
			value.WriteString(strings.TrimSpace(rest) + "\n")
			if !more && s != "" {
				if name != skippedName {
					p.vars[name] = value.String()
				}
				name = ""
			}
			continue
		}
		if s == "" {
			continue
		}
		if first := strings.Fields(s)[0]; includes().MatchString(first) {
			pattern := strings.Trim(strings.TrimSpace(s[len(first):]), `"'`)
			if err := p.include(line{path: path, number: number}, first, pattern); err != nil {
				return err
			}
			continue
		}
		l := line{path: path, number: number, text: s}
		condition, rest := cutCondition(s)
		if m := definition().FindStringSubmatch(rest); m != nil && strings.TrimSpace(m[2]) == `\` {
			name, since = m[1], number
			if !p.ours(l, condition) {
				name = skippedName
			}
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

// skippedName stands for the name of a definition that another host has.
const skippedName = "@"

// ours reports whether the condition of a line, the word behind its @, is this
// host's. It notes a line that another host has.
func (p *preprocessor) ours(l line, condition string) bool {
	if condition == "" {
		return true
	}
	id, not := strings.CutPrefix(condition, "^")
	p.named[id] = true
	p.fits = p.fits || id == p.ConfigID
	if (id == p.ConfigID) != not {
		return true
	}
	if p.skipped == nil {
		l.order = len(p.lines)
		p.skipped = &l
	}
	// The line may be a secret, so only its condition is shown.
	p.find(l, cut("@"+condition), Unneeded, "the line is for "+hosts(condition))
	return false
}

// checkConditions finds a file whose conditions name other hosts only: then it is
// probably read with the wrong config-id.
func (p *preprocessor) checkConditions() {
	if p.fits || p.skipped == nil {
		return
	}
	const most = 5
	ids := slices.Sorted(maps.Keys(p.named))
	for i := range ids {
		ids[i] = strconv.Quote(cut(ids[i]))
	}
	if len(ids) > most {
		ids = append(ids[:most], "...")
	}
	p.findings.add(p.skipped.order, Finding{p.skipped.path, p.skipped.number, "@", Changed, fmt.Sprintf("no line with @ is for this host, which is called %q: if it has another name in keepalived (--config-id), give it: %s", cut(p.ConfigID), strings.Join(ids, ", "))}, nil)
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

// process expands a line, and keeps the lines that it becomes.
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
	if !p.ours(l, condition) || s == "" {
		return nil
	}
	l.text = s
	if m := definition().FindStringSubmatch(s); m != nil {
		p.vars[m[1]] = m[2]
		return nil
	}
	if m := sequence().FindStringSubmatch(s); m != nil {
		return p.repeat(l, depth, m[1], m[2], m[3])
	}
	replaced, size := false, 0
	s = use().ReplaceAllStringFunc(s, func(s string) string {
		m := use().FindStringSubmatch(s)
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
		s = strings.NewReplacer("${_HASH}", "#", "${_BANG}", "!").Replace(s)
		p.lines = append(p.lines, line{l.path, l.number, len(p.lines), p.chance(l, p.environment(l, s))})
		return nil
	}
	for part := range strings.SplitSeq(s, "\n") {
		part := line{path: l.path, number: l.number, text: part}
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
	switch name {
	case "_PWD":
		return filepath.Dir(l.path), true
	case "_INSTANCE":
		return p.ConfigID, true
	}
	value, ok := p.vars[name]
	return value, ok
}

// environment replaces ${_ENV NAME}. systemd sets the directory of credentials anew
// for each unit, so its name stays in the line.
func (p *preprocessor) environment(l line, s string) string {
	return ofProcess().ReplaceAllStringFunc(s, func(s string) string {
		name := ofProcess().FindStringSubmatch(s)[1]
		if name == credentials {
			return "$" + name
		}
		if p.Getenv != nil {
			if value, there := p.Getenv(name); there {
				return value
			}
		}
		p.find(l, "${_ENV "+cut(name)+"}", Changed, "the variable isn't in the environment here, so it is empty: set it, or write its value into the file")
		return ""
	})
}

// chance replaces ${_RANDOM MIN MAX} by the least value.
func (p *preprocessor) chance(l line, s string) string {
	return random().ReplaceAllStringFunc(s, func(s string) string {
		least := cmp.Or(random().FindStringSubmatch(s)[1], "0")
		p.find(l, cut(s), Changed, fmt.Sprintf("keepalived draws a number each time it reads the file; here it is %s", least))
		return least
	})
}

// repeat expands ~SEQ and ~LST.
func (p *preprocessor) repeat(l line, depth int, kind, arguments, rest string) error {
	var names []string
	var values [][]string
	var ok bool
	if kind == "LST" {
		names, values, ok = tuples(arguments)
	} else {
		args := fields(arguments)
		names = args[:1]
		var all []string
		all, ok = steps(args[1:], kind == "SEQx")
		for _, v := range all {
			values = append(values, []string{v})
		}
	}
	if !ok {
		p.find(l, "~"+kind, Unknown, "this list isn't understood: write its lines out")
		return nil
	}
	before := make(map[string]string)
	for _, name := range names {
		if v, known := p.vars[name]; known {
			before[name] = v
		}
	}
	for _, tuple := range values {
		for i, name := range names {
			p.vars[name] = tuple[i]
		}
		l.text = rest
		if err := p.process(l, depth+1); err != nil {
			return err
		}
	}
	for _, name := range names {
		delete(p.vars, name)
	}
	maps.Copy(p.vars, before)
	return nil
}

// fields are the words between commas.
func fields(s string) []string {
	all := strings.Split(s, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// tuples reads the arguments of ~LST: a name and its values, or groups of them in
// braces, the names first.
func tuples(s string) (names []string, values [][]string, ok bool) {
	if !strings.ContainsAny(s, "{}") {
		all := fields(s)
		for _, v := range all[1:] {
			values = append(values, []string{v})
		}
		return all[:1], values, len(values) > 0
	}
	if strings.Trim(braced().ReplaceAllString(s, ""), ", \t") != "" {
		return nil, nil, false
	}
	for _, group := range braced().FindAllString(s, -1) {
		values = append(values, fields(group[1:len(group)-1]))
	}
	names, values = values[0], values[1:]
	return names, values, len(values) > 0 && !slices.ContainsFunc(values, func(v []string) bool { return len(v) != len(names) })
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

// include reads the files that a pattern names. Like keepalived it skips a file that
// it can't read, unless the word is includer or includea.
func (p *preprocessor) include(l line, word, pattern string) error {
	where := fmt.Sprintf("%s:%d: %s %.200s", l.path, l.number, word, pattern)
	if pattern == "" {
		return fmt.Errorf("%s:%d: include without a file: name one, or remove the line", l.path, l.number)
	}
	patterns, ok := expand(pattern)
	if !ok {
		return fmt.Errorf("%s: its braces aren't closed, or name too many files: write an include for each file", where)
	}
	strict := word == "includer" || word == "includea"
	for _, pattern := range patterns {
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
				p.find(l, word, Unneeded, "no file matches "+pattern)
			}
			slices.Sort(paths)
		}
		for _, path := range paths {
			if err := p.includeFile(l, where, path, strict); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *preprocessor) includeFile(l line, where, path string, strict bool) error {
	if slices.Contains(p.including, path) {
		return fmt.Errorf("%s: %s is being read already, so it would never end: remove this line", where, path)
	}
	if len(p.including) >= maxDepth {
		return fmt.Errorf("%s: %d files include each other: remove some", where, maxDepth)
	}
	content, err := p.open(path)
	switch {
	case err != nil && (strict || p.StrictIncludes):
		return fmt.Errorf("%s: %w: make the file readable, or remove the line", where, err)
	case err != nil:
		p.find(l, "include", Doubtful, fmt.Sprintf("it is skipped, because it can't be read: %.300s", err))
		return nil
	}
	if p.work += len(content) + openWork; p.work > maxWork {
		return tooMuch(l)
	}
	return p.file(path, content)
}

// expand expands the braces of a pattern as csh does: a{b,c{d,e}} is ab, acd, ace.
func expand(pattern string) (all []string, ok bool) {
	const most, longest = 1000, 4096
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return []string{pattern}, !strings.Contains(pattern, "}")
	}
	if len(pattern) > longest {
		return nil, false
	}
	depth, start := 0, open+1
	var choices []string
	end := -1
	for i := open; i < len(pattern) && end < 0; i++ {
		switch c := pattern[i]; {
		case c == '{':
			depth++
		case c == '}' && depth == 1:
			choices, end = append(choices, pattern[start:i]), i
		case c == '}':
			depth--
		case c == ',' && depth == 1:
			choices, start = append(choices, pattern[start:i]), i+1
		}
	}
	if end < 0 || len(choices) > most {
		return nil, false
	}
	for _, choice := range choices {
		one, ok := expand(pattern[:open] + choice + pattern[end+1:])
		if all = append(all, one...); !ok || len(all) > most {
			return nil, false
		}
	}
	return all, true
}

func (p *preprocessor) find(l line, directive string, kind Kind, text string) {
	p.findings.add(len(p.lines), Finding{l.path, l.number, directive, kind, text}, nil)
}

// hosts says which hosts a condition means.
func hosts(only string) string {
	if name, not := strings.CutPrefix(only, "^"); not {
		return fmt.Sprintf("all hosts but %q", cut(name))
	}
	return fmt.Sprintf("hosts called %q", cut(only))
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
