package cmdline

// ownKeys returns the keys behind the prefix "hapax.".
func ownKeys() []string {
	return []string{"deny", "drain", "exitrd", "hostname", "log", "mode", "report", "seed", "timeout", "trace", "watchdog", "workers"}
}

// unknown warns of a key with our prefix that does not exist, and names the one that was probably meant.
func (r *reader) unknown(key string) {
	best, distance := "", 3 // further off it is no slip but another word
	for _, k := range ownKeys() {
		if d := editDistance(key, k, distance); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		r.warn("%q: unknown key, ignored", "hapax."+key)
		return
	}
	r.warn("%q: unknown key, ignored; did you mean %q?", "hapax."+key, "hapax."+best)
}

// editDistance returns how many insertions, deletions and replacements make a into b, or limit when the
// lengths alone say that it is no less. So a hostile word of 4 KiB costs nothing.
func editDistance(a, b string, limit int) int {
	if len(a) >= len(b)+limit || len(b) >= len(a)+limit {
		return limit
	}
	row := make([]int, len(b)+1)
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
	return row[len(b)]
}
