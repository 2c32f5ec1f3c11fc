package elfdeps

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

// programs is how many binaries are compared with ldd.
const programs = 200

// The closure of 200 dynamic programs of this system is what ldd lists for them: the same files under the same names.
func TestClosureLikeLdd(t *testing.T) {
	t.Parallel()
	need.Tools(t, "ldd")
	r, err := New("/")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, file := range binaries(t) {
		if compared == programs {
			break
		}
		files, err := r.Closure(file)
		if errors.Is(err, ErrNotELF) || err == nil && len(files) == 1 {
			continue // a script, or static
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		want, ok := ldd(t, file)
		if !ok {
			continue // not for this machine
		}
		var got []string
		for _, f := range files[1:] {
			if !f.Open {
				got = append(got, f.Real)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-ldd +hapax):\n%s", file, diff)
		}
		compared++
	}
	t.Logf("%d programs compared", compared)
	if compared < programs/2 {
		t.Errorf("only %d programs to compare: not a test", compared)
	}
}

// binaries returns the executables of this system, those with the longest list of libraries, which lie in sbin, first.
func binaries(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"/usr/sbin/*", "/usr/bin/*", "/usr/lib/git-core/*", "/usr/libexec/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(files, func(file string) bool {
		real, err := filepath.EvalSymlinks(file)
		info, statErr := os.Stat(file)
		if err != nil || statErr != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || seen[real] {
			return true
		}
		seen[real] = true
		return false
	})
}

// ldd returns the files that ldd lists, without links, sorted.
func ldd(t *testing.T, file string) (files []string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ldd", file)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		return nil, false
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		var name string
		switch {
		case len(words) >= 3 && words[1] == "=>":
			name = words[2]
		case len(words) >= 1 && strings.HasPrefix(words[0], "/"):
			name = words[0]
		default:
			continue // the vdso
		}
		real, err := filepath.EvalSymlinks(name)
		if err != nil {
			return nil, false
		}
		files = append(files, real)
	}
	slices.Sort(files)
	return slices.Compact(files), true
}
