// Package nearest finds the word that somebody may have meant. The builder and PID 1 share it, and it imports nothing.
package nearest

import "iter"

// Word returns the word of known that is nearest to query, "" if none is near: at most a third of its letters differ.
func Word(query string, known iter.Seq[string]) string {
	best, least := "", max(len(query)/3, 1)+1
	for word := range known {
		if d := distance(query, word, least); d < least {
			best, least = word, d
		}
	}
	return best
}

// distance returns the number of single-byte insertions, deletions and replacements that turn a into b, or limit if it
// takes that many or more. Where the lengths alone say so it costs nothing: a word of the kernel's command line may have 4 KiB.
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
