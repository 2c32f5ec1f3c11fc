package switchroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// plant makes the files of a root: "path" for a directory, "path -> target" for a link, anything else is
// the contents of an executable file. A path that ends in "!" is not executable.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, contents := range files {
		mode := os.FileMode(0o755)
		if p, ok := strings.CutSuffix(path, "!"); ok {
			path, mode = p, 0o644
		}
		full := filepath.Join(root, path)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		target, isLink := strings.CutPrefix(contents, "-> ")
		switch {
		case isLink:
			must(t, os.Symlink(target, full))
		case contents == "dir":
			must(t, os.MkdirAll(full, 0o755))
		case contents == "pipe":
			must(t, unix.Mkfifo(full, 0o755))
		default:
			must(t, os.WriteFile(full, []byte(contents), mode))
		}
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"}, Candidates("")); diff != "" {
		t.Errorf("without init=: differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/x"}, Candidates("/x")); diff != "" {
		t.Errorf("with init=: differs (-want +got):\n%s", diff)
	}
}

func TestCheckFinds(t *testing.T) {
	t.Parallel()
	static := string(elfFile(native(), 2, ""))
	dynamic := string(elfFile(native(), 3, "/lib/ld.so"))
	for _, tt := range []struct {
		name, init, want string
		files            map[string]string
	}{
		{"static", "", "/sbin/init", map[string]string{"sbin/init": static}},
		{"dynamic", "", "/sbin/init", map[string]string{"sbin/init": dynamic, "lib/ld.so": static}},
		{"merged /usr with absolute links", "", "/sbin/init", map[string]string{
			"sbin": "-> /usr/sbin", "lib": "-> usr/lib", "usr/sbin/init": "-> /lib/systemd/systemd", "usr/lib/systemd/systemd": dynamic, "usr/lib/ld.so": static,
		}},
		{"dotdot stops at the root", "", "/sbin/init", map[string]string{"sbin/init": "-> ../../../../bin/real", "bin/real": static}},
		{"script", "", "/sbin/init", map[string]string{"sbin/init": "#!/bin/sh\n", "bin/sh": dynamic, "lib/ld.so": static}},
		{"script of a script", "", "/sbin/init", map[string]string{"sbin/init": "#!/bin/a\n", "bin/a": "#!/bin/sh\n", "bin/sh": static}},
		{"script with a relative interpreter", "", "/sbin/init", map[string]string{"sbin/init": "#!bin/sh\n", "bin/sh": static}},
		{"second candidate", "", "/etc/init", map[string]string{"sbin/init!": static, "etc/init": static}},
		{"last candidate", "", "/bin/sh", map[string]string{"sbin/init": "dir", "etc/init": "-> nowhere", "bin/sh": static}},
		{"init=", "/opt/init", "/opt/init", map[string]string{"opt/init": static, "sbin/init": static}},
		{"init= relative", "opt/init", "/opt/init", map[string]string{"opt/init": static}},
		{"init= that climbs", "../../opt/init", "/../../opt/init", map[string]string{"opt/init": static}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := plant(t, tt.files)
			got, err := Check(root, tt.init)
			if err != nil {
				t.Fatal(err)
			}
			if got.Root != root || got.Init != tt.want {
				t.Errorf("Check = %+v, want init %s in %s", got, tt.want, root)
			}
		})
	}
}

// TestCheckRefuses holds the eight bad images of I1 in the fault catalogue, and their relatives.
func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	static := string(elfFile(native(), 2, ""))
	dynamic := string(elfFile(native(), 3, "/lib/ld.so"))
	foreign := string(elfFile(machine{22, 64}, 2, ""))
	outside := plant(t, map[string]string{"init": static})
	for _, tt := range []struct {
		name, want string // of the candidate /sbin/init
		files      map[string]string
		is         error
	}{
		{"missing", "no such file or directory", nil, unix.ENOENT},
		{"not executable", "not executable (mode 0644)", map[string]string{"sbin/init!": static}, nil},
		{"wrong architecture", "for another architecture", map[string]string{"sbin/init": foreign}, nil},
		{"dangling link", "no such file or directory", map[string]string{"sbin/init": "-> /lib/systemd/systemd"}, unix.ENOENT},
		{"link out of the root", "no such file or directory", map[string]string{"sbin/init": "-> " + outside + "/init"}, unix.ENOENT},
		{"climbing link out of the root", "no such file or directory",
			map[string]string{"sbin/init": "-> " + strings.Repeat("../", 40) + outside + "/init"}, unix.ENOENT},
		{"script without its interpreter", "interpreter /bin/sh: no such file or directory", map[string]string{"sbin/init": "#!/bin/sh\n"}, unix.ENOENT},
		{"directory", "is a directory", map[string]string{"sbin/init": "dir"}, unix.EISDIR},
		{"program without its loader", "interpreter /lib/ld.so: no such file or directory", map[string]string{"sbin/init": dynamic}, unix.ENOENT},

		{"loader not executable", "interpreter /lib/ld.so: not executable (mode 0644)", map[string]string{"sbin/init": dynamic, "lib/ld.so!": static}, nil},
		{"loader is a script", "interpreter /lib/ld.so: not for the same machine", map[string]string{"sbin/init": dynamic, "lib/ld.so": "#!/x\n"}, nil},
		{"loader is foreign", "interpreter /lib/ld.so: for another architecture", map[string]string{"sbin/init": dynamic, "lib/ld.so": foreign}, nil},
		{"loader is damaged", "interpreter /lib/ld.so: damaged ELF file", map[string]string{"sbin/init": dynamic, "lib/ld.so": static[:63]}, nil},
		{"interpreter's loader is missing", "interpreter /bin/sh: interpreter /lib/ld.so: no such file", map[string]string{"sbin/init": "#!/bin/sh\n", "bin/sh": dynamic}, unix.ENOENT},
		{"DOS line end", `interpreter "/bin/sh\r": no such file`, map[string]string{"sbin/init": "#!/bin/sh\r\n", "bin/sh!": static}, unix.ENOENT},
		{"script that is its own interpreter", "too many levels", map[string]string{"sbin/init": "#!/sbin/init\n"}, unix.ELOOP},
		{"links in a circle", "too many levels", map[string]string{"sbin/init": "-> ../bin/a", "bin/a": "-> ../sbin/init"}, unix.ELOOP},
		{"pipe", "not a regular file", map[string]string{"sbin/init": "pipe"}, nil},
		{"file in the place of a directory", "not a directory", map[string]string{"sbin": static}, unix.ENOTDIR},
		{"empty", "the file is empty", map[string]string{"sbin/init": ""}, nil},
		{"text", "neither an ELF program nor a script", map[string]string{"sbin/init": "exec /bin/sh\n"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := plant(t, tt.files)
			_, err := Check(root, "")
			var failed *CheckError
			if !errors.As(err, &failed) || len(failed.Candidates) != 4 {
				t.Fatalf("error %v, want a *CheckError with 4 candidates", err)
			}
			first := failed.Candidates[0]
			if first.Path != "/sbin/init" || !strings.Contains(first.Err.Error(), tt.want) {
				t.Errorf("cause %v, want %s", first, tt.want)
			}
			if tt.is != nil && !errors.Is(first, tt.is) {
				t.Errorf("cause %v is not %v", first, tt.is)
			}
		})
	}
}

func TestCheckErrorText(t *testing.T) {
	t.Parallel()
	root := plant(t, map[string]string{"sbin/init": "dir", "bin/sh!": "x"})
	_, err := Check(root, "")
	want := "no init that can be executed in " + root + ": /sbin/init: is a directory; /etc/init: no such file or directory; " +
		"/bin/init: no such file or directory; /bin/sh: not executable (mode 0644)"
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v, want\n%s", err, want)
	}
	if _, err = Check(root, "/a\nb\x00"); err == nil || !strings.Contains(err.Error(), `: "/a\nb\x00": invalid argument`) {
		t.Errorf("hostile init=: %v", err)
	}
	if _, err = Check(root+"/none", ""); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no root: %v, want ENOENT", err)
	}
}

// TestOpenInRoot runs one table through openat2 and through the walk for kernels without it.
func TestOpenInRoot(t *testing.T) {
	t.Parallel()
	root := plant(t, map[string]string{
		"a/b/file": "x", "top": "x",
		"rel": "-> a/b", "abs": "-> /a/b", "up": "-> ../../top", "a/up": "-> ../../../top", "a/abs": "-> /top",
		"self": "-> self", "x": "-> y", "y": "-> x", "dangling": "-> none", "slash": "-> a/b/", "todir": "-> /",
		"fileslash": "-> top/", "chain0": "-> top",
	})
	for i := 1; i <= 45; i++ {
		must(t, os.Symlink(fmt.Sprintf("chain%d", i-1), fmt.Sprintf("%s/chain%d", root, i)))
	}
	kernel, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.close()
	if fd, err := unix.Openat2(kernel.fd, ".", &unix.OpenHow{Flags: unix.O_PATH}); errors.Is(err, unix.ENOSYS) {
		t.Log("this kernel has no openat2: only the walk is tested")
		kernel.openat2 = false
	} else {
		unix.Close(fd)
	}
	for path, want := range map[string]string{ // the file it leads to, or the errno
		"top": "top", "/top": "top", "//top": "top", "./top": "top", "../top": "top", "/../../top": "top", "a/../top": "top",
		"rel/file": "a/b/file", "abs/file": "a/b/file", "/abs/../../top": "top", "up": "top", "a/up": "top", "a/abs": "top",
		"slash/file": "a/b/file", "todir/top": "top", "a/b/": "a/b", ".": ".", "/": ".", "/..": ".", "a/..": ".", "todir": ".", "rel": "a/b",
		"self": "ELOOP", "x": "ELOOP", "dangling": "ENOENT", "none": "ENOENT", "a/none/b": "ENOENT",
		"top/x": "ENOTDIR", "top/": "ENOTDIR", "top/.": "ENOTDIR", "top/..": "ENOTDIR", "fileslash": "ENOTDIR",
		"chain39": "top", "chain40": "ELOOP", "chain45": "ELOOP",
	} {
		for _, tree := range []*tree{kernel, {fd: kernel.fd}} {
			fd, err := tree.open(path, unix.O_PATH|unix.O_CLOEXEC)
			got := ""
			var errno unix.Errno
			switch {
			case err == nil:
				link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
				must(t, err)
				got, err = filepath.Rel(root, link)
				must(t, err)
				unix.Close(fd)
			case errors.As(err, &errno):
				got = unix.ErrnoName(errno)
			}
			if got != want {
				t.Errorf("open(%q), openat2 %v: %s (%v), want %s", path, tree.openat2, got, err, want)
			}
		}
	}
}

// TestCheckFollowsInit is for who has to know which init it is: links stay below the root.
func TestCheckFollowsInit(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{
		"/lib/systemd/systemd": "/lib/systemd/systemd", "../lib/systemd/systemd": "/lib/systemd/systemd",
		"../../../lib/systemd/systemd": "/lib/systemd/systemd", "/nowhere": "",
	} {
		dir := t.TempDir()
		for _, d := range []string{"sbin", "lib/systemd"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "lib/systemd/systemd"), nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link, filepath.Join(dir, "sbin/init")); err != nil {
			t.Fatal(err)
		}
		tree, err := openTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree.resolve("/sbin/init"); got != want {
			t.Errorf("init -> %s leads to %q, want %q", link, got, want)
		}
		tree.close()
	}
}
