package tests

import "testing"

// pairwise returns rows of numbers, the i-th of which is below sizes[i], so that each two numbers that stand beside each
// other in any allowed row stand so in one of those returned. It always takes the row that brings the most new pairs, the
// first of equals.
func pairwise(sizes []int, allowed func(row []int) bool) [][]int {
	var candidates [][]int
	row := make([]int, len(sizes))
	var fill func(column int)
	fill = func(column int) {
		if column == len(sizes) {
			if allowed(row) {
				candidates = append(candidates, append([]int(nil), row...))
			}
			return
		}
		for row[column] = range sizes[column] {
			fill(column + 1)
		}
	}
	fill(0)

	var chosen [][]int
	covered := map[pair]bool{}
	for {
		best, most := -1, 0
		for i, row := range candidates {
			fresh := 0
			for _, p := range pairsOf(row) {
				if !covered[p] {
					fresh++
				}
			}
			if fresh > most {
				best, most = i, fresh
			}
		}
		if best < 0 {
			return chosen
		}
		chosen = append(chosen, candidates[best])
		for _, p := range pairsOf(candidates[best]) {
			covered[p] = true
		}
	}
}

// A pair is two columns of a row with their values.
type pair struct{ i, a, j, b int }

func pairsOf(row []int) []pair {
	var pairs []pair
	for j, b := range row {
		for i, a := range row[:j] {
			pairs = append(pairs, pair{i, a, j, b})
		}
	}
	return pairs
}

func TestPairwise(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		sizes   []int
		allowed func([]int) bool
		most    int // rows
	}{
		{"nothing", nil, func([]int) bool { return true }, 0},
		{"one column", []int{5}, func([]int) bool { return true }, 0},
		{"two columns are their product", []int{3, 4}, func([]int) bool { return true }, 12},
		{"four of three", []int{3, 3, 3, 3}, func([]int) bool { return true }, 12},
		{"a forbidden pair", []int{2, 3, 4}, func(row []int) bool { return row[0] != 1 || row[2] != 3 }, 14},
		{"nothing allowed", []int{2, 2}, func([]int) bool { return false }, 0},
	} {
		chosen := pairwise(tt.sizes, tt.allowed)
		if len(chosen) > tt.most {
			t.Errorf("%s: %d rows, want at most %d", tt.name, len(chosen), tt.most)
		}
		checkPairs(t, tt.name, tt.sizes, tt.allowed, chosen)
	}
	sizes, allowed := debianDimensions()
	chosen := pairwise(sizes, allowed)
	checkPairs(t, "Debian", sizes, allowed, chosen)
	t.Logf("%d boots of Debian", len(chosen))
	if most := 100; len(chosen) == 0 || len(chosen) > most {
		t.Errorf("%d boots of Debian, want 1 to %d", len(chosen), most)
	}
}

// checkPairs counts through all rows, and looks for the pairs of each that is allowed among those chosen.
func checkPairs(t *testing.T, name string, sizes []int, allowed func([]int) bool, chosen [][]int) {
	t.Helper()
	has := map[pair]bool{}
	for _, row := range chosen {
		if !allowed(row) {
			t.Errorf("%s: %v is not allowed", name, row)
		}
		for _, p := range pairsOf(row) {
			has[p] = true
		}
	}
	all := 1
	for _, size := range sizes {
		all *= size
	}
	row := make([]int, len(sizes))
	for n := range all {
		for i, size := range sizes {
			row[i], n = n%size, n/size
		}
		if !allowed(row) {
			continue
		}
		for _, p := range pairsOf(row) {
			if !has[p] {
				t.Fatalf("%s: %+v of %v is in no row", name, p, row)
			}
		}
	}
}
