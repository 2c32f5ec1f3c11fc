// Package resolve decides which kernel modules an image holds: it turns rules such as "nvme,-drbd,kernel/fs/" into a set
// that is closed under hard dependencies and softdeps.
//
// It reads a module tree and never the running kernel, so the tree may belong to another machine or release.
package resolve

import (
	"fmt"
	"strings"

	"hapax/modload/modindex"
)

// A Rule adds modules to a selection or takes some away. Later rules win over earlier ones.
//
// A name or alias stands for what modprobe would load for it. Taking away a name bans that module together with every
// module that cannot live without it; only a rule that names such a module and is not optional then fails. Taking away a folder
// merely no longer asks for its modules: they still come as dependencies of others.
type Rule struct {
	Name     string // module name or alias; "" for a folder
	Folder   string // "kernel/fs/", below the modules folder; "" stands for the whole tree if Name is "" as well
	Remove   bool
	Optional bool // no error if nothing matches; for built-in lists that serve every kernel

	From string // where the rule was written, for explanations: "universal.txt", "--modules"
}

// ParseRules reads a list of rules, separated by commas or white space: "NAME" adds a module, "FOLDER/" the modules of
// a folder and its subfolders, and a leading '-' takes away. An empty list gives no rules.
func ParseRules(list string) ([]Rule, error) {
	words := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
	rules := make([]Rule, 0, len(words))
	for _, word := range words {
		rule, err := parseRule(word)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseRule(word string) (Rule, error) {
	name, remove := strings.CutPrefix(word, "-")
	rule := Rule{Remove: remove}
	switch {
	case name == "":
		return Rule{}, fmt.Errorf("%q names no module to remove", word)
	case strings.HasPrefix(name, "/"):
		return Rule{}, fmt.Errorf("%q is absolute: folders are named below the modules folder, like kernel/fs/", word)
	case strings.HasSuffix(name, "/"):
		rule.Folder = name
	default:
		rule.Name = name
	}
	return rule, nil
}

// UnmarshalText reads one rule as ParseRules does.
func (r *Rule) UnmarshalText(text []byte) error {
	rules, err := ParseRules(string(text))
	if err != nil {
		return err
	}
	if len(rules) != 1 {
		return fmt.Errorf("%q is %d rules, not one", text, len(rules))
	}
	*r = rules[0]
	return nil
}

// why says that the rule asks for a module.
func (r Rule) why() string {
	switch {
	case r.From == "":
		return "asked for by " + r.String()
	case r.Name == "" && r.Folder == "":
		return r.From
	}
	return r.From + ": " + r.String()
}

// String returns the form that ParseRules reads.
func (r Rule) String() string {
	sign := ""
	if r.Remove {
		sign = "-"
	}
	return sign + r.Name + r.Folder
}

// covers reports whether a folder rule speaks of m.
func (r Rule) covers(m modindex.Module) bool {
	return r.Name == "" && strings.HasPrefix(m.Path, r.Folder)
}
