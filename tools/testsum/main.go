// SPDX-License-Identifier: Apache-2.0

// Command testsum reads the output of go test -json from standard input. It prints one line for
// each package, the output of failed tests, and at the end the numbers of passed, failed and
// skipped tests. The exit code is 1 if a test or build failed or no test ran, and with -strict
// also if a test was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

func main() {
	strict := flag.Bool("strict", false, "count a skipped test as a failure")
	flag.Parse()
	ok, err := summarise(os.Stdin, os.Stdout, *strict)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

func summarise(in io.Reader, out io.Writer, strict bool) (ok bool, err error) {
	var passed, failed, skipped int
	broken := false
	var names []string // of the failed and skipped tests
	output := make(map[string]*strings.Builder)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text()) // the go command's own message
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if e.Action == "build-output" {
				fmt.Fprint(out, e.Output)
				continue
			}
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			output[key].WriteString(e.Output)
		case "pass", "fail", "skip":
			text := ""
			if b := output[key]; b != nil {
				text = b.String()
			}
			delete(output, key)
			switch {
			case e.Test == "" && e.Action == "fail":
				broken = true
				fmt.Fprintf(out, "FAIL %s (%.1fs)\n%s", e.Package, e.Elapsed, text)
			case e.Test == "" && e.Action == "pass":
				fmt.Fprintf(out, "ok   %s (%.1fs)\n", e.Package, e.Elapsed)
			case e.Test == "": // a package without tests
			case e.Action == "pass":
				passed++
			case e.Action == "fail":
				failed++
				names = append(names, "failed: "+key)
				fmt.Fprint(out, text)
			case e.Action == "skip":
				skipped++
				names = append(names, "skipped: "+key)
				fmt.Fprint(out, text)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("read test events: %w", err)
	}
	for _, name := range names {
		fmt.Fprintln(out, name)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return failed == 0 && !broken && passed > 0 && (!strict || skipped == 0), nil
}
