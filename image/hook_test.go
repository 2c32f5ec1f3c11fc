package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/profile"
)

// kitchen is a hook with every kind of thing in it.
const kitchen = `
name = "kitchen"
modules = ["null_blk", "-fat", "absent_in_this_kernel"]
force-load = ["null-blk"]
firmware = ["hook.bin"]
modprobe = ["options null_blk gb=1", "softdep null_blk pre: virtio"]

[condition]
exists = ["/etc/kitchen.conf"]
modes = ["universal", "custom"]

[[file]]
source = "/etc/kitchen.conf"

[[file]]
source = "/share/tree"
target = "/usr/share/kitchen"

[[file]]
target = "/etc/made"
content = "made\n"
mode = "0600"

[[folder]]
target = "/var/spool"
mode = "1777"

[[link]]
target = "/etc/link"
to = "made"

[[node]]
target = "/dev/special"
type = "block"
major = 7
minor = 300000
mode = "0640"

[[user]]
name = "cook"
uid = 100
gid = 101

[[group]]
name = "kitchen"
gid = 101
members = ["cook", "root"]
`

// hookRoot makes a root with hooks and what they take.
func hookRoot(t *testing.T, hooks map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range hooks {
		writeFile(t, filepath.Join(root, name), text, 0o644)
	}
	writeFile(t, filepath.Join(root, "etc/kitchen.conf"), "conf", 0o640)
	writeFile(t, filepath.Join(root, "share/tree/sub/one"), "one", 0o644)
	writeFile(t, filepath.Join(root, "lib/firmware/hook.bin"), "firmware", 0o644)
	if err := os.Link(filepath.Join(root, "share/tree/sub/one"), filepath.Join(root, "share/tree/two")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestHook(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.Root = hookRoot(t, map[string]string{"usr/lib/hapax/include.d/kitchen.toml": kitchen})
	result, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	list := listing(t, spec.Output)
	for _, want := range []string{
		"-rw-r-----  0:0     4 etc/kitchen.conf\n", "-rw-r--r--  0:0     0 usr/share/kitchen/sub/one\n",
		"-rw-r--r--  0:0     3 usr/share/kitchen/two\n", "-rw-------  0:0     5 etc/made\n", "dtrwxrwxrwx 0:0     0 var/spool\n",
		"Lrwxrwxrwx  0:0     0 etc/link -> made\n", "Drw-r-----  0:0     0 dev/special 7,300000\n",
		"null_blk.ko\n", "lib/firmware/hook.bin\n", "etc/modprobe.d/hapax-kitchen.conf\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("the image lacks %q:\n%s", want, list)
		}
	}
	if strings.Contains(list, "fat.ko") {
		t.Error("the image has a module that the hook takes away")
	}
	image, err := os.ReadFile(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"root:x:0:0:root:/:/bin/sh\ncook:x:100:101::/:/bin/sh\n", "root:x:0:\nkitchen:x:101:cook,root\n",
		"options null_blk gb=1\nsoftdep null_blk pre: virtio\n", "null_blk\n",
	} {
		if !strings.Contains(string(image), want) {
			t.Errorf("no file of the image holds %q", want)
		}
	}
	for end, want := range map[string]string{"null_blk.ko": "hook kitchen: null_blk", "etc/made": "hook kitchen", "hook.bin": "hook kitchen"} {
		if got := why(result, end); got != want {
			t.Errorf("%s is there because %q, want %q", end, got, want)
		}
	}
}

// Links of a foreign root lead to places below it, and hooks may agree on a user.
func TestHookForeignRoot(t *testing.T) {
	t.Parallel()
	const text = `name = "x"
condition = { exists = ["/etc/abs"] }
file = [{ source = "/etc/abs" }, { source = "/etc/up", target = "/in/" }]
user = [{ name = "cook", uid = 100, gid = 101 }]
`
	spec := testSpec(t)
	spec.Root = hookRoot(t, map[string]string{
		"etc/hapax/include.d/x.toml": text, "real/one": "inside",
		"etc/hapax/include.d/y.toml": "name = \"y\"\nuser = [{ name = \"cook\", uid = 100, gid = 101 }]\n",
		"etc/hapax/include.d/z.toml": "name = \"z\"\n[condition]\nexists = [\"/etc/none\"]\n[[link]]\ntarget = \"never\"\nto = \"x\"\n",
	})
	for name, target := range map[string]string{"etc/abs": "/real/one", "etc/up": "../../../../../real/one", "etc/none": "/etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(spec.Root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Build(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	list := listing(t, spec.Output)
	for _, want := range []string{" 6 etc/abs\n", " 6 in/up\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("the image lacks %q:\n%s", want, list)
		}
	}
	if strings.Contains(list, "never") {
		t.Error("a link that leads to nothing below the root is taken for that of the host")
	}
	writeFile(t, filepath.Join(spec.Root, "etc/hapax/include.d/a.toml"), "name = \"a\"\n[[file]]\ntarget = \"/etc/passwd\"\ncontent = \"\"\n", 0o644)
	spec.Force = true
	if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "users and groups of hooks: etc/passwd") {
		t.Errorf("a hook with an /etc/passwd beside those with users = %v", err)
	}
}

// A hook in /etc takes the place of the one of its name in /usr/lib, and an empty one does nothing.
func TestHooksHide(t *testing.T) {
	t.Parallel()
	file := func(name string) string {
		return "name = \"" + name + "\"\n[[file]]\ntarget = \"" + name + "\"\ncontent = \"\"\n"
	}
	spec := testSpec(t)
	spec.Root = hookRoot(t, map[string]string{
		"usr/lib/hapax/include.d/a.toml": file("vendor"), "etc/hapax/include.d/a.toml": file("local"),
		"usr/lib/hapax/include.d/b.toml": file("masked"), "etc/hapax/include.d/b.toml": "\n",
		"usr/lib/hapax/include.d/c.toml": file("kept"), "etc/hapax/include.d/d.conf": "no hook",
	})
	result, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range result.Explain {
		if strings.HasPrefix(e.Why, "hook") {
			got = append(got, e.Name)
		}
	}
	if diff := cmp.Diff([]string{"kept", "local"}, got); diff != "" {
		t.Errorf("files of hooks (-want +got):\n%s", diff)
	}
	spec.Force, spec.HookDirs = true, []string{filepath.Join(spec.Root, "etc/hapax/include.d")}
	if result, err = Build(t.Context(), spec); err != nil || why(result, "local") == "" || why(result, "kept") != "" {
		t.Errorf("with --include-dir: %v, %+v", err, result.Explain)
	}
}

func TestHookConditions(t *testing.T) {
	t.Parallel()
	root := hookRoot(t, nil)
	machine := []profile.Profile{{Needs: []profile.Need{{Module: "dm_crypt"}}}}
	for _, tt := range []struct {
		condition condition
		machines  []profile.Profile
		want      bool
	}{
		{condition{}, nil, true},
		{condition{Exists: []string{"/etc/kitchen.conf", "/lib/firmware"}}, nil, true},
		{condition{Exists: []string{"/etc/kitchen.conf", "/absent"}}, nil, false},
		{condition{Modes: []Mode{Host, Universal}}, nil, true},
		{condition{Modes: []Mode{Host}}, nil, false},
		{condition{Arch: []string{"pdp11"}}, nil, false},
		{condition{Needs: []string{"dm_crypt"}}, nil, true},
		{condition{Needs: []string{"dm_mod", "dm_crypt"}}, machine, true},
		{condition{Needs: []string{"dm_mod"}}, machine, false},
	} {
		b := newBuilder(Spec{Root: root, Mode: Universal}, nil)
		b.machines = tt.machines
		if got, err := b.holds(tt.condition); got != tt.want || err != nil {
			t.Errorf("%+v with %d machines: %v, %v", tt.condition, len(tt.machines), got, err)
		}
	}
}

// A hook with each kind of mistake: the error names file, line, column and what was meant, or the thing that is wrong.
func TestHookMistakes(t *testing.T) {
	t.Parallel()
	const head = "name = \"x\"\n"
	for text, want := range map[string]string{
		head + "module = [\"a\"]\n":                                   "x.toml:2:1: unknown key module; did you mean modules?",
		head + "[[fil]]\ntarget = \"a\"\n":                            "x.toml:2:3: unknown key fil; did you mean file?",
		head + "[condition]\nmode = [\"host\"]\n":                     "x.toml:3:1: unknown key condition.mode; did you mean modes?",
		head + "[condition]\nmodes = [\"guest\"]\n":                   "x.toml:3:10: ",
		head + "modules = \"a\"\n":                                    "x.toml:2:11: ",
		head + "modules = [\"/a\"]\n":                                 "is absolute",
		"modules = []\n":                                              "x.toml: a hook needs a name",
		"name = \n":                                                   "x.toml:1:",
		head + "[[file]]\ntarget = \"a\"\n":                           `file "a": neither a source nor a content`,
		head + "[[file]]\nsource = \"/etc\"\ncontent = \"\"\n":        "leave out one",
		head + "[[file]]\nsource = \"/absent\"\n":                     "/absent: no such file",
		head + "[[file]]\ntarget = \"../a\"\ncontent = \"\"\n":        "not a clean relative path",
		head + "[[file]]\ntarget = \"a\"\ncontent = \"\"\nmode=\"9\"": "x.toml:5:6: ",
		head + "[[node]]\ntarget = \"a\"\ntype = \"pipe\"\n":          `use "char" or "block"`,
		head + "[[user]]\nname = \"a:b\"\n":                           "holds a colon",
		head + "[[user]]\nname = \"root\"\n":                          "there already",
		head + "[[group]]\nname = \"\"\n":                             "no name",
		head + "programs = [\"/absent\"]\n":                           "program /absent: ",
		head + "force-load = [\"absent\"]\n":                          `no module or alias "absent"`,
	} {
		spec := testSpec(t)
		spec.Root = hookRoot(t, map[string]string{"etc/hapax/include.d/x.toml": text})
		if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("hook %q: %v, want an error with %q", text, err, want)
		}
	}
	spec := testSpec(t)
	spec.HookDirs = []string{"/nonexistent"}
	if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("Build with a folder of hooks that is not there = %v", err)
	}
}
