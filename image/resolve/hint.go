package resolve

import (
	"strings"

	"hapax/modload/modindex"
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
	best, least := "", max(len(query)/3, 1)+1
	for m := range x.All() {
		if d := distance(query, m.Name, least); d < least {
			best, least = m.Name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance returns the number of single-byte insertions, deletions and replacements that turn a into b, or limit if it
// takes that many or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1) // row[j]: distance of the part of a that was read so far and b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
