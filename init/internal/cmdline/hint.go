package cmdline

import (
	"slices"

	"hapax/nearest"
)

// ownKeys returns the keys behind the prefix "hapax.".
func ownKeys() []string {
	return []string{"deny", "drain", "exitrd", "hostname", "log", "mode", "report", "seed", "timeout", "trace", "watchdog", "workers"}
}

// unknown warns of a key with our prefix that does not exist, and names the one that was probably meant.
func (r *reader) unknown(key string) {
	best := nearest.Word(key, slices.Values(ownKeys()))
	if best == "" {
		r.warn("%q: unknown key, ignored", "hapax."+key)
		return
	}
	r.warn("%q: unknown key, ignored; did you mean %q?", "hapax."+key, "hapax."+best)
}
