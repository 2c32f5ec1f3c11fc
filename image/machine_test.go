package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/profile"
	"hapax/image/resolve"
)

// host makes the sys and proc of a machine with one virtio disk, and an /etc/modprobe.d.
func host(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"sys/devices/pci0/modalias":         "pci:v00001AF4d0000F000sv0sd0bc0sc0i0\n", // null_blk, which universal.txt has not
		"sys/devices/pci0/virtio0/modalias": "virtio:d00000002v00001AF4\n",
		"proc/self/mountinfo":               "25 1 254:1 / / rw - vfat /dev/vda1 rw\n",
		"proc/cpuinfo":                      "vendor_id : AuthenticAMD\ncpu family : 23\nmodel : 1\nstepping : 2\n",
		"etc/modprobe.d/applies.conf":       "# about fat\noptions fat x=1\n",
		"etc/modprobe.d/other.conf":         "options snd y=2\n",
		"usr/lib/modprobe.d/applies.conf":   "options vfat hidden=1\n",
		"usr/lib/modprobe.d/also.conf":      "alias fs-dos vfat\n",
		"etc/modprobe.d/wrong.conf":         "frobnicate\n",
		"lib/firmware/amd-ucode/README":     "no microcode",
	} {
		writeFile(t, filepath.Join(dir, name), content, 0o644)
	}
	return dir
}

// modulesOf builds an image and returns the files of its modules and the result.
func modulesOf(t *testing.T, spec Spec) (files []string, r Result) {
	t.Helper()
	spec.Force = true
	r, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(listing(t, spec.Output)) {
		if name := strings.TrimSpace(line[strings.LastIndexByte(line, '/')+1:]); strings.Contains(name, ".ko") {
			files = append(files, name)
		}
	}
	return files, r
}

// why returns the reason for the file whose name ends so.
func why(r Result, end string) string {
	for _, e := range r.Explain {
		if strings.HasSuffix(e.Name, end) {
			return e.Why
		}
	}
	return ""
}

func TestHostMode(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.Mode, spec.HostRoot = Host, host(t)
	got, r := modulesOf(t, spec)
	if diff := cmp.Diff(strings.Fields("virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz"), got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	for end, want := range map[string]string{
		"virtio_blk.ko":      "this machine, device virtio:d00000002v00001AF4: virtio_blk",
		"virtio.ko":          "needed by virtio_blk",
		"vfat.ko.xz":         "this machine, for the root file system: fs-vfat",
		"d/applies.conf":     filepath.Join(spec.HostRoot, "etc/modprobe.d/applies.conf") + " applies to modules of the image",
		"d/also.conf":        filepath.Join(spec.HostRoot, "usr/lib/modprobe.d/also.conf") + " applies to modules of the image",
		"d/other.conf":       "",
		"etc/initrd-release": "part of every image",
		"modules.dep.bin":    "index of the modules",
	} {
		if got := why(r, end); got != want {
			t.Errorf("%s: %q, want %q", end, got, want)
		}
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "wrong.conf") {
		t.Errorf("warnings %q, want one about wrong.conf", r.Warnings)
	}
}

// A blacklist and an install command of the machine keep its devices from naming a module, but not those who name it.
func TestHostModeBlacklist(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"blacklist virtio_blk\n", "install virtio_blk /bin/false\n", "deny virtio_blk\n"} {
		spec := testSpec(t)
		spec.Mode, spec.HostRoot = Host, host(t)
		writeFile(t, filepath.Join(spec.HostRoot, "etc/modprobe.d/keep-out.conf"), line, 0o644)
		if got, _ := modulesOf(t, spec); strings.Join(got, " ") != "fat.ko.xz vfat.ko.xz" {
			t.Errorf("with %q: %q", line, got)
		}
		spec.Modules, spec.Force = []resolve.Rule{{Name: "virtio_blk"}}, true
		_, err := Build(t.Context(), spec)
		if denied := strings.HasPrefix(line, "deny"); denied != (err != nil) {
			t.Errorf("with %q and --modules virtio_blk: %v", line, err)
		}
	}
}

// A profile gives the image that the machine itself would get; two give the union.
func TestProfileMode(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	for i, p := range []profile.Profile{
		{Version: 1, Modaliases: []string{"virtio:d00000002v00001AF4"}},
		{Version: 1, Needs: []profile.Need{{Module: "fs-vfat", For: "the root"}, {Module: "absent", For: "the keyboard"}}},
	} {
		file := filepath.Join(filepath.Dir(spec.Output), string(rune('a'+i))+".json")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Write(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		spec.Profiles = append(spec.Profiles, file)
	}
	both := spec.Profiles
	spec.Mode = FromProfile
	for want, profiles := range map[string][]string{
		"virtio_blk.ko virtio.ko": both[:1], "fat.ko.xz vfat.ko.xz": both[1:], "virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz": both,
	} {
		spec.Profiles = profiles
		if got, _ := modulesOf(t, spec); strings.Join(got, " ") != want {
			t.Errorf("%d profiles give %q, want %q", len(profiles), got, want)
		}
	}
}

func TestCustomMode(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.Mode = Custom
	if got, _ := modulesOf(t, spec); len(got) != 0 {
		t.Errorf("custom without a list gives %q", got)
	}
	spec.Modules, spec.ForceLoad = []resolve.Rule{{Folder: "kernel/drivers/"}, {Name: "null_blk", Remove: true}}, []string{"fs-vfat"}
	got, r := modulesOf(t, spec)
	if strings.Join(got, " ") != "virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz" {
		t.Errorf("custom gives %q", got)
	}
	if why(r, "virtio_blk.ko") != "--modules: kernel/drivers/" || why(r, "vfat.ko.xz") != "--force-load: fs-vfat" {
		t.Errorf("reasons %q and %q", why(r, "virtio_blk.ko"), why(r, "vfat.ko.xz"))
	}
}

// What is denied is neither in the image nor loaded by it, and takes along what needs it.
func TestDeny(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.Mode, spec.Deny = All, []string{"virtio", "null*"}
	got, _ := modulesOf(t, spec)
	if strings.Join(got, " ") != "fat.ko.xz vfat.ko.xz" {
		t.Errorf("modules %q", got)
	}
	image, err := os.ReadFile(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(image), "deny virtio null*\n") {
		t.Error("the image has no deny line")
	}
	spec.Modules, spec.Force = []resolve.Rule{{Name: "virtio_blk"}}, true
	if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "virtio_blk needs virtio, which the deny list denies") {
		t.Errorf("Build of what is denied = %v", err)
	}
}

// The packing changes the files and their names, and the index follows.
func TestModuleCompression(t *testing.T) {
	t.Parallel()
	for _, packing := range Packings() {
		spec, err := testSpec(t).withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		packed, err := pack(filepath.Join(spec.ModulesDir, "kernel/drivers/virtio/virtio.ko"), XZFiles)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"fat", "vfat"} {
			writeFile(t, filepath.Join(spec.ModulesDir, "kernel/fs/fat", name+".ko.xz"), string(packed), 0o644)
		}
		spec.Packing = packing
		got, r := modulesOf(t, spec)
		want := "virtio_blk.ko" + packing.suffix() + " virtio.ko" + packing.suffix() + " fat.ko" + packing.suffix() + " vfat.ko" + packing.suffix()
		if packing == KeepPacking {
			want = "virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz"
		}
		if strings.Join(got, " ") != want || r.Modules != 4 {
			t.Errorf("%s: %q, want %q", packing, got, want)
		}
		dir, _ := imageIndex(t, spec)
		index, _ := openBoth(t, dir)
		m, ok := index.Module("vfat")
		if !ok || filepath.Base(m.Path) != got[3] || len(m.Deps) != 1 || m.Deps[0] != "fat" {
			t.Errorf("%s: the index says %+v", packing, m)
		}
		for _, e := range r.Explain {
			if strings.Contains(e.Name, "virtio.ko") && packing == PlainFiles && e.Size != int64(len("virtio\n")) {
				t.Errorf("plain virtio.ko has %d bytes", e.Size)
			}
		}
		if names := fileNames(t, filepath.Dir(spec.Output)); len(names) != 1 {
			t.Errorf("%s: left behind: %v", packing, names)
		}
	}
}
