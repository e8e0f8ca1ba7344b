// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
)

func TestSync(t *testing.T) {
	const page = "# a(7)\n\n<!-- x: begin -->\n<!-- x: end -->\n\ntext\n\n<!-- y: begin -->\n\nold\n\n<!-- y: end -->\n"
	path := filepath.Join(t.TempDir(), "a.7.md")
	if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	regions := map[string]string{"x": "- new\n", "y": "old"}
	err := Sync(path, false, regions)
	if err == nil || !strings.Contains(err.Error(), `"x"`) || strings.Contains(err.Error(), `"y"`) {
		t.Errorf("a stale region: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != page {
		t.Errorf("it was changed without being asked for: %s", b)
	}
	if err := Sync(path, true, regions); err != nil {
		t.Error(err)
	}
	if err := Sync(path, false, regions); err != nil {
		t.Errorf("an updated page: %v", err)
	}
	want := strings.Replace(page, "begin -->\n<!-- x: end", "begin -->\n\n- new\n\n<!-- x: end", 1)
	if b, _ := os.ReadFile(path); string(b) != want {
		t.Errorf("%s, want %s", b, want)
	}
	if err := Sync(path, true, map[string]string{"z": ""}); err == nil {
		t.Error("a region that isn't there is no error")
	}
}

func TestCommands(t *testing.T) {
	root := &cobra.Command{Use: "tool"}
	run := func(*cobra.Command, []string) {}
	sub := &cobra.Command{
		Use: "sub [NAME]...", Short: "Do one thing", Run: run,
		Long:    "sub does <it> *now*, to _a_b.\n\n  ONE   the first\n  TWO   the second",
		Example: "  tool sub 'a' \\\n      -x",
	}
	sub.Flags().StringP("file", "f", "-", "take this `path`")
	sub.Flags().Bool("all", false, "also `what` isn't asked for")
	sub.Flags().Bool("secret", false, "nobody knows")
	if err := sub.Flags().MarkHidden("secret"); err != nil {
		t.Fatal(err)
	}
	root.AddCommand(sub, &cobra.Command{Use: "hidden", Short: "Do another", Hidden: true, Run: run})
	const want = "### `tool sub [NAME]...`\n\nDo one thing.\n\n" +
		"sub does \\<it> \\*now\\*, to _a_b.\n\n```\nONE   the first\nTWO   the second\n```\n\n" +
		"- `--all` *WHAT*: Also what isn't asked for.\n- `-f`, `--file` *PATH*: Take this path. Default: `-`.\n\n" +
		"For example:\n\n```\ntool sub 'a' \\\n    -x\n```\n\n"
	if got := Commands(root); got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestKeys(t *testing.T) {
	got := Keys([]config.Doc{{Name: "top", Text: "About.", Keys: []config.Doc{
		{Name: "a", Text: "First, `[x]` or [y].", Required: true, Values: "1 to 2"},
		{Name: "b", Text: "Second.", Default: "off", Keys: []config.Doc{{Name: "c", Text: "Below."}}},
	}}})
	const want = "### `top`\n\nAbout.\n\n- `a` (required): First, `[x]` or \\[y\\]. Values: 1 to 2.\n- `b`: Second. Default: `off`.\n    - `c`: Below.\n\n"
	if got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestExits(t *testing.T) {
	all := []Exit{{0, "done"}, {3, "it isn't there"}}
	if got := ExitHelp(all); got != "Exit codes: 0 done, 3 it isn't there." {
		t.Error(got)
	}
	if got := Exits(all); got != "- **0**: Done.\n- **3**: It isn't there.\n" {
		t.Error(got)
	}
}

// The examples of files are good files.
func TestExamples(t *testing.T) {
	content, err := os.ReadFile("failoverd.yaml.5.md")
	if err != nil {
		t.Fatal(err)
	}
	const fence = "```yaml\n"
	blocks := strings.Split(string(content), fence)[1:]
	if len(blocks) == 0 {
		t.Error("no example")
	}
	for _, b := range blocks {
		b, _, _ = strings.Cut(b, "```\n")
		if _, err := config.Parse("example", []byte(b)); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
	}
}
