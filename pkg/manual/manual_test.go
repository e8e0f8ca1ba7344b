// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
)

// checkRoff finds what no page may have.
func checkRoff(t *testing.T, text string) {
	inList := false
	t.Helper()
	verbatim := false
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		macro, _, _ := strings.Cut(line, " ")
		switch macro {
		case ".EX", ".EE":
			verbatim = macro == ".EX"
		case ".IP", ".RE", ".RS", ".TP":
			inList = true
		case ".PP", ".SH", ".SS":
			inList = false
		case ".nr", ".TH", ".ad", ".ss", ".BR":
		default:
			if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
				t.Errorf("line %d would be a request: %s", n+1, line)
			}
		}
		if line == "" && !verbatim {
			t.Errorf("line %d is empty", n+1)
		}
		plain := strings.NewReplacer(`\e`, "x", `\-`, "-", `\(aq`, "x", `\(ga`, "x", `\(ha`, "x", `\(ti`, "x", `\(dq`, "x", `\&`, "", `\fB`, "", `\fI`, "", `\fR`, "").Replace(line)
		if strings.Contains(plain, `\`) {
			t.Errorf("line %d has an unknown escape: %s", n+1, line)
		}
		if width := map[bool]int{false: 72, true: 65}[inList]; verbatim && len(plain) > width {
			t.Errorf("line %d doesn't fit 80 columns: %s", n+1, line)
		}
	}
	if verbatim {
		t.Error("an example that doesn't end")
	}
	if strings.Count(text, ".RS\n") != strings.Count(text, ".RE\n") {
		t.Error("an indentation that doesn't end")
	}
}

// The page has every key that the file has, below where it belongs.
func TestFile(t *testing.T) {
	var b bytes.Buffer
	if err := File(&b, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	checkRoff(t, b.String())
	var root schema
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	for top, s := range root.Properties {
		_, body, found := strings.Cut(b.String(), ".SH \""+escape(strings.ToUpper(top))+"\"\n")
		if !found {
			t.Errorf("no section for %s", top)
		}
		body, _, _ = strings.Cut(body, "\n.SH")
		var check func(path string, s *schema)
		check = func(path string, s *schema) {
			for name, below := range s.keys() {
				if !strings.Contains(body, "\n.TP\n"+bold(name)) {
					t.Errorf("%s.%s is not there", path, name)
				}
				check(path+"."+name, below)
			}
		}
		check(top, s)
	}
	for _, want := range []string{
		".TP\n\\fBvrid\\fR (required)\nThe VRID, 1 to 255",
		".TP\n\\fBxdp_mode\\fR: \\fIauto\\fR\nWhere to receive: by XDP in the network",
		"Durations have a unit",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("not there: %s", want)
		}
	}
}

func TestParseReference(t *testing.T) {
	about, root := parseReference(`# About.

# The things.
things:
  # Its name.
  - name: a
    # More.
    #
    #     more:
    #       # Deeper.
    #       deeper: 1
    #
    # And more.
    more:
      # Deep.
      deep: 1
    # a comment about nothing

    list:
      - 2001:db8::1/64
  - name: b
    # Only here.
    other: 2
`)
	if strings.Join(about, " ") != "About." || len(root.keys) != 1 || root.keys[0].text[0] != "The things." {
		t.Fatalf("%q, %+v", about, root.keys)
	}
	var said []string
	for _, e := range root.keys[0].keys {
		said = append(said, e.name+"="+strings.Join(e.text, " "))
	}
	if got := strings.Join(said, "; "); got != "name=Its name.; more=More.   And more.; list=; other=Only here." {
		t.Error(got)
	}
	if more := root.keys[0].keys[1]; len(more.keys) != 2 || more.keys[0].name != "deeper" || more.keys[0].text[0] != "Deeper." || more.keys[1].name != "deep" {
		t.Errorf("%+v", more.keys)
	}
}

func TestCommand(t *testing.T) {
	root := &cobra.Command{
		Use: "tool", Short: "Do things", Run: func(*cobra.Command, []string) {},
		Long:    "tool does things.\n\n  ONE TWO   the first\n            and more\n  THREE     the third\n\nExit codes: 0 it did, 1 it didn't.",
		Example: "  tool --all 'a' \\\n    -x\n\n  .hidden",
	}
	root.Flags().StringP("file", "f", "-", "take this `path`")
	root.Flags().Bool("all", false, "also `what` isn't asked for")
	root.AddCommand(
		&cobra.Command{Use: "sub [NAME]...", Short: "Do one thing", Run: root.Run},
		&cobra.Command{Use: "secret", Short: "Do another", Hidden: true, Run: root.Run},
	)
	var b bytes.Buffer
	err := Command(&b, root, Page{Section: 1, Version: "1.2.3", SeeAlso: []string{"other(8)"}, Sections: []Section{{"FILES", "  /a/b   the file"}}})
	if err != nil {
		t.Fatal(err)
	}
	checkRoff(t, b.String())
	for _, want := range []string{
		`.TH "TOOL" 1 "" "failoverd 1.2.3" "failoverd"`, "tool \\- do things\n",
		".TP\n\\fBONE TWO\\fR\nthe first\nand more\n.TP\n\\fBTHREE\\fR\nthe third\n",
		".TP\n\\fB\\-f\\fR, \\fB\\-\\-file\\fR \\fIPATH\\fR\nTake this path. Default: \\-.\n",
		".SS \"tool sub [NAME]...\"\nDo one thing.\n",
		".SH \"EXIT STATUS\"\n.PP\n0 it did, 1 it didn\\(aqt.\n",
		".SH \"FILES\"\n.TP\n\\fB/a/b\\fR\nthe file\n",
		".EX\ntool \\-\\-all \\(aqa\\(aq \\e\n  \\-x\n.EE\n", "\n\\&.hidden\n",
		".BR other (8)\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("not there: %s", want)
		}
	}
	if strings.Contains(b.String(), "secret") || strings.Contains(b.String(), "help") {
		t.Error("it tells what is hidden")
	}
	if t.Failed() {
		t.Log(b.String())
	}
}
