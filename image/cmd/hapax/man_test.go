package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update", false, "write the man pages instead of comparing them")

// The man pages of hapax and its commands are what their help texts say, and that of hapax.toml is its document. `make man`
// writes them.
func TestManPages(t *testing.T) {
	t.Parallel()
	const dir = "../../../man"
	want := map[string]bool{}
	root := newRoot()
	root.InitDefaultCompletionCmd()
	pages := map[string][]byte{"hapax.toml.5": settingsPage(t)}
	for _, cmd := range allCommands(root) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		want[name] = true
		pages[name] = manPage(t, cmd)
	}
	for name, page := range pages {
		file := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(file, page, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v: run make man", err)
		} else if diff := cmp.Diff(string(have), string(page)); diff != "" {
			t.Errorf("%s is not what the command says: run make man (-man +command):\n%s", file, diff)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "hapax*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if !want[filepath.Base(file)] {
			t.Errorf("%s is about no command: remove it", file)
		}
	}
}

// allCommands returns the command and those below it that are for people.
func allCommands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Parent().Name() != "completion" {
			all = append(all, allCommands(c)...)
		}
	}
	return all
}

func manPage(t *testing.T, cmd *cobra.Command) []byte {
	t.Helper()
	cmd.DisableAutoGenTag = true
	cmd.InitDefaultHelpFlag()
	release := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	header := &doc.GenManHeader{
		Title: strings.ToUpper(strings.ReplaceAll(cmd.CommandPath(), " ", "-")), Section: "1", Date: &release, Source: "hapax", Manual: "hapax",
	}
	var page bytes.Buffer
	if err := doc.GenMan(cmd, header, &page); err != nil {
		t.Fatal(err)
	}
	return page.Bytes()
}

// settingsPage returns the man page of hapax.toml, made of docs/hapax.toml.md.
func settingsPage(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../../docs/hapax.toml.md")
	if err != nil {
		t.Fatal(err)
	}
	const title = "# hapax.toml\n"
	body, ok := strings.CutPrefix(string(text), title)
	if !ok {
		t.Fatalf("docs/hapax.toml.md does not begin with %q", title)
	}
	body = regexp.MustCompile(`\[([^]]+)\]\([^)]+\)`).ReplaceAllString(body, "$1") // a link of a page leads nowhere
	body = regexp.MustCompile(`(?m)^##+ `).ReplaceAllString(body, "# ")
	const head = "% \"HAPAX.TOML\" \"5\" \"Nov 2026\" \"hapax\" \"hapax\"\n\n# NAME\n\nhapax.toml - settings for hapax build\n\n# DESCRIPTION\n"
	return md2man.Render([]byte(head + untabled(body)))
}

// untabled turns tables, which no terminal is wide enough for, into lists: the first cell, the others but the last behind it in
// parentheses, and the last as the text.
func untabled(text string) string {
	lines := strings.Split(text, "\n")
	var out []string
	for i, line := range lines {
		ruled := func(i int) bool { return i < len(lines) && strings.HasPrefix(lines[i], "|---") }
		if !strings.HasPrefix(line, "|") {
			out = append(out, line)
			continue
		}
		if ruled(i) || ruled(i+1) { // the names of the columns
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		term := "**" + strings.Trim(cells[0], "`") + "**"
		if len(cells) > 2 {
			term += " (" + strings.Join(cells[1:len(cells)-1], ", ") + ")"
		}
		out = append(out, term, ":   "+strings.ReplaceAll(cells[len(cells)-1], `\|`, "|"), "")
	}
	return strings.Join(out, "\n")
}

// Every key that /init takes is in its man page.
func TestInitPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../man/hapax-init.8")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("../../../init/internal/cmdline/hint.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(code), "func ownKeys")
	list, _, _ = strings.Cut(list, "}\n")
	keys := regexp.MustCompile(`"([a-z]+)"`).FindAllStringSubmatch(list, -1)
	if len(keys) < 5 {
		t.Errorf("only %d keys found", len(keys))
	}
	for _, key := range keys {
		if !strings.Contains(string(page), "hapax."+key[1]) {
			t.Errorf("man/hapax-init.8 has no line about hapax.%s", key[1])
		}
	}
}
