package modfile

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/modload/modindex"
	"hapax/tests/need"
)

// The same values as modinfo(8) finds, on some of the modules of each tree that HAPAX_TEST_MODULES names, on all of them
// with HAPAX_TEST_FULL.
func TestInfoLikeModinfo(t *testing.T) {
	trees := need.Trees(t)
	every := 401
	if need.Full() {
		every = 1
	}
	for _, dir := range trees {
		x, err := modindex.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		all := slices.Collect(x.All())
		compared := 0
		for i := 0; i < len(all); i += every {
			file := filepath.Join(dir, all[i].Path)
			info, err := Info(file)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, key := range []string{"firmware", "license", "alias"} {
				out, err := exec.CommandContext(t.Context(), "modinfo", "-F", key, file).Output()
				if err != nil {
					t.Fatal(err)
				}
				want := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
				got := Values(info, key)
				if len(got) == 0 {
					got = []string{""}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s of %s (-modinfo +hapax):\n%s", key, file, diff)
				}
				compared++
			}
		}
		if compared == 0 {
			t.Errorf("%s has no modules to compare", dir)
		}
	}
}
