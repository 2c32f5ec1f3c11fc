package resolve

import (
	"strings"

	"hapax/modload/modindex"
	"hapax/nearest"
)

// hint returns "; did you mean NAME?" for the known module name nearest to query, or "" if none is near. What has a
// colon is the alias of a device, which nobody types.
func hint(x *modindex.Index, query string) string {
	if strings.Contains(query, ":") {
		return ""
	}
	query = modindex.Normalize(query)
	if cut, _, ok := strings.Cut(query, ".ko"); ok {
		query = cut
	}
	best := nearest.Word(query, func(yield func(string) bool) {
		for m := range x.All() {
			if !yield(m.Name) {
				return
			}
		}
	})
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}
