package debian

import (
	"errors"
	"strings"
)

// A control is the paragraph that apt-cache(8) shows for one version of a package.
type control struct {
	name    string
	version string
	depends []string
	text    string // the paragraph itself
}

// parseControl reads the first paragraph of text, in the form that deb-control(5) describes.
// Fields other than those of control are passed over.
func parseControl(text string) (control, error) {
	text, _, _ = strings.Cut(strings.TrimLeft(text, "\n"), "\n\n")
	c := control{text: strings.TrimRight(text, "\n") + "\n"}
	var pre, dep []string
	// A line that begins with white space carries on the field above; only long descriptions do so here.
	for line := range strings.Lines(c.text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, " ") {
			continue
		}
		switch value = strings.TrimSpace(value); key {
		case "Package":
			c.name = value
		case "Version":
			c.version = value
		case "Pre-Depends":
			pre = firstAlternatives(value)
		case "Depends":
			dep = firstAlternatives(value)
		}
	}
	if c.name == "" || c.version == "" {
		return control{}, errors.New("control paragraph without Package or Version")
	}
	// Both become part of a path.
	if strings.Contains(c.name+c.version, "/") {
		return control{}, errors.New("control paragraph with a slash in Package or Version")
	}
	c.depends = append(pre, dep...)
	return c, nil
}

// firstAlternatives returns the package names of a dependency field such as
// "libc6 (>= 2.34), default-mta | mail-transport-agent, perl:any", without versions and architectures.
func firstAlternatives(field string) []string {
	var names []string
	for group := range strings.SplitSeq(field, ",") {
		first, _, _ := strings.Cut(group, "|")
		if name := strings.FieldsFunc(first, func(r rune) bool { return strings.ContainsRune(" (:[", r) }); len(name) > 0 {
			names = append(names, name[0])
		}
	}
	return names
}
