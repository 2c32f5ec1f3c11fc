package tests

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/archive"
	"hapax/image/modfile"
	"hapax/modload/modindex"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/lab"
	"hapax/tests/need"
)

// virtualMachine is the profile of a machine with its root, an ext4, on a virtio disk.
const virtualMachine = `{"version": 1, "arch": "amd64", "release": "", "cpus": [], "modaliases": [
	"pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00", "virtio:d00000002v00001AF4"
], "needs": [{"module": "virtio_blk", "for": "the root device"}, {"module": "fs-ext4", "for": "the root file system"}]}`

// TestInspectPeers looks into the images that Debian's initramfs-tools and dracut make, and into one as booster lays it out (which
// Debian does not have): they are listed and unpacked as by their own tools, and found to drive a machine that they drive.
func TestInspectPeers(t *testing.T) {
	need.Time(t)
	need.Root(t)
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k, err := l.Kernel(t.Context(), lab.Kernels()[1])
	if err != nil {
		t.Fatal(err)
	}
	tools := map[string]peer{}
	for _, p := range peerTools(t, l) {
		tools[p.name] = p
	}
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte(virtualMachine), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), hapax, args...).Output()
		if err != nil {
			t.Errorf("hapax %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for maker, lister := range map[string]string{"initramfs-tools": "lsinitramfs", "dracut": "lsinitrd", "booster": "cpio"} {
		var image string
		var err error
		if maker == "booster" {
			image = boosterImage(t, k)
		} else {
			image, err = l.PeerImage(t.Context(), k, maker)
		}
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		plain := filepath.Join(dir, "plain")
		tool(t, "sh", "-c", `zstd -qdc "$1" >"$2"`, "sh", image, plain)
		listing := image
		if lister == "cpio" {
			listing = plain
		}
		want, err := tools[lister].list(t, listing)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, listed(run("ls", image))); diff != "" || len(want) < 10 {
			t.Errorf("%s: %d files (-%s +hapax):\n%s", maker, len(want), lister, diff)
		}
		run("unpack", image, filepath.Join(dir, "hapax")) // which leaves device nodes out: diff takes no two for the same
		tool(t, "sh", "-c", `mkdir "$1" && cd "$1" && cpio -id --quiet <"$2" && find . -type c -delete`, "sh", filepath.Join(dir, "cpio"), plain)
		tool(t, "diff", "-r", "--no-dereference", filepath.Join(dir, "cpio"), filepath.Join(dir, "hapax"))
		got := run("check", "--profile", profile, "--modules-dir", k.ModulesDir, image)
		if !strings.Contains(got, "initramfs by "+maker+", ") || !strings.Contains(got, " modules of "+k.Release+" ") || !strings.Contains(got, ": 0 errors") {
			t.Errorf("hapax check of the image of %s:\n%s", maker, got)
		}
	}
}

// boosterImage makes an image as booster 0.11 does: modules unpacked, all in one folder without the name of the release, with their
// aliases in a file of its own and no index of depmod's; packed with zstd.
func boosterImage(t *testing.T, k debian.Kernel) string {
	t.Helper()
	x, err := modindex.Open(k.ModulesDir)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	entries := []archive.Entry{
		archive.Bytes("init", 0o755, staticProgram(t)), archive.Bytes("etc/booster.init.yaml", 0o644, []byte("kernel: "+k.Release+"\n")),
		archive.Symlink("lib", "usr/lib"), archive.Symlink("bin", "usr/bin"),
	}
	wanted := map[string]bool{"virtio_blk": true, "virtio_pci": true, "virtio_net": true, "ext4": true, "nvme": true}
	for m := range x.All() {
		if wanted[m.Name] {
			for _, dep := range slices.Concat(m.Deps, m.Pre) {
				wanted[modindex.Normalize(dep)] = true
			}
		}
	}
	for m := range x.All() {
		if wanted[m.Name] && !m.Builtin {
			r, err := modfile.Open(filepath.Join(k.ModulesDir, m.Path))
			if err != nil {
				t.Fatal(err)
			}
			var content bytes.Buffer
			_, err = content.ReadFrom(r)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			name := strings.SplitN(path.Base(m.Path), ".ko", 2)[0] + ".ko"
			entries = append(entries, archive.Bytes("usr/lib/modules/"+name, 0o644, content.Bytes()))
		}
	}
	aliases, err := os.Open(filepath.Join(k.ModulesDir, "modules.alias"))
	if err != nil {
		t.Fatal(err)
	}
	defer aliases.Close()
	var list strings.Builder
	for lines := bufio.NewScanner(aliases); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 3 && wanted[f[2]] {
			fmt.Fprintf(&list, "%s %s\n", f[1], f[2])
		}
	}
	entries = append(entries, archive.Bytes("usr/lib/modules/booster.alias", 0o644, []byte(list.String())))
	file := filepath.Join(t.TempDir(), "booster.img")
	if err := os.WriteFile(file, pack(t, archive.Zstd, plainArchive(t, entries...)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// staticProgram returns a program that needs no loader: hapax's own /init.
func staticProgram(t *testing.T) []byte {
	t.Helper()
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(l.Root, "bin/init"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
