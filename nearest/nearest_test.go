package nearest

import (
	"slices"
	"testing"
)

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b        string
		limit, want int
	}{
		{"", "", 9, 0}, {"a", "", 9, 1}, {"kitten", "sitting", 9, 3}, {"abc", "acb", 9, 2}, {"abc", "xyz", 2, 2}, {"a", "abcdef", 3, 3},
	} {
		if got := distance(tt.a, tt.b, tt.limit); got != tt.want {
			t.Errorf("distance(%q, %q, %d) = %d, want %d", tt.a, tt.b, tt.limit, got, tt.want)
		}
		if got := distance(tt.b, tt.a, tt.limit); got != tt.want {
			t.Errorf("distance(%q, %q, %d) = %d, want %d", tt.b, tt.a, tt.limit, got, tt.want)
		}
	}
}

func TestWord(t *testing.T) {
	t.Parallel()
	known := []string{"modules", "modules-dir", "mode"}
	for query, want := range map[string]string{"moduls": "modules", "modes": "mode", "module-dir": "modules-dir", "zzz": "", "": ""} {
		if got := Word(query, slices.Values(known)); got != want {
			t.Errorf("Word(%q) = %q, want %q", query, got, want)
		}
	}
}
