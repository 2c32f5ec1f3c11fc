package resolve

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed universal.txt
var universalList string

// All returns the rules that select every module of a tree.
func All() []Rule { return []Rule{{From: "every module of the tree"}} }

// Universal returns the rules for an image that boots any usual machine of its kernel from local storage, as
// universal.txt lists them. All are optional, since no kernel has every one of these modules.
func Universal() ([]Rule, error) {
	var words strings.Builder
	for line := range strings.Lines(universalList) {
		text, _, _ := strings.Cut(line, "#")
		words.WriteString(text + " ")
	}
	rules, err := ParseRules(words.String())
	if err != nil {
		return nil, fmt.Errorf("universal.txt: %w", err)
	}
	for i := range rules {
		rules[i].Optional = true
		rules[i].From = "universal.txt"
	}
	return rules, nil
}
