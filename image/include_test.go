package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIncludes(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "tree/sub/file"), "content", 0o640)
	writeFile(t, filepath.Join(dir, "key"), "secret", 0o600)
	for _, err := range []error{
		os.Symlink("sub/file", filepath.Join(dir, "tree/link")),
		os.Symlink("key", filepath.Join(dir, "keylink")),
		os.Chmod(filepath.Join(dir, "tree/sub"), 0o750),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{
		dir + "/tree:/etc/tree", dir + "/keylink:etc/keys/", dir + "/key", dir + "/tree/sub:/", "/dev/null:/dev/zero2",
	} {
		in, err := ParseInclude(text)
		if err != nil {
			t.Fatal(err)
		}
		spec.Includes = append(spec.Includes, in)
	}
	if _, err := Build(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	list := listing(t, spec.Output)
	for _, want := range []string{
		"drwxr-x---  0:0     0 etc/tree/sub\n", "-rw-r-----  0:0     7 etc/tree/sub/file\n",
		"Lrwxrwxrwx  0:0     0 etc/tree/link -> sub/file\n", "-rw-------  0:0     6 etc/keys/keylink\n",
		"-rw-------  0:0     6 " + strings.TrimPrefix(dir, "/") + "/key\n", "-rw-r-----  0:0     7 file\n",
		"Dcrw-rw-rw- 0:0     0 dev/zero2 1,3\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("the image lacks %q:\n%s", want, list)
		}
	}
	if info, err := os.Stat(spec.Output); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("an image with a secret has mode %v, %v; want 0600", info.Mode(), err)
	}
	for _, text := range []string{"", ":/x", "a:", "a:../x", "a:/etc/../../x"} {
		if in, err := ParseInclude(text); err == nil {
			t.Errorf("ParseInclude(%q) = %v, want an error", text, in)
		}
	}
}

func TestURootLayout(t *testing.T) {
	t.Parallel()
	b := newBuilder(Spec{}, nil)
	if err := b.addURoot([]byte("\x7fELF"), []string{"gosh", "ls"}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range b.tree.Entries() {
		got = append(got, strings.TrimSpace(e.Mode.String()+" "+e.Name+" "+e.Link))
	}
	want := []string{
		"drwxr-xr-x bbin", "-rwxr-xr-x bbin/bb", "Lrwxrwxrwx bbin/gosh bb", "Lrwxrwxrwx bbin/ls bb",
		"drwxr-xr-x bin", "Lrwxrwxrwx bin/sh ../bbin/gosh",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}
}
