package rootdev

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

// makers returns the commands that make one of each kind of content on an image, whatever was there before.
func makers() []recipe {
	return []recipe{
		{kind: "ext2", script: `mkfs.ext2 -q -F -L second $I`},
		{kind: "ext4", script: `mkfs.ext4 -q -F $I`},
		{kind: "xfs", script: `mkfs.xfs -q -f -L second $I`},
		{kind: "btrfs", script: `mkfs.btrfs -q -f -L second $I`},
		{kind: "f2fs", script: `mkfs.f2fs -q -f -l second $I`},
		{kind: "vfat", script: `mkfs.vfat -F 32 -n SECOND $I`},
		{kind: "exfat", script: `mkfs.exfat -L second $I`},
		{kind: "ntfs", script: `mkntfs -q -Q -F -L second $I`},
		{kind: "udf", script: `mkudffs -l second $I`},
		{kind: "iso9660", script: `genisoimage -quiet -V SECOND -o $T $D && dd if=$T of=$I bs=64K conv=notrunc status=none`},
		{kind: "squashfs", script: `mksquashfs $D $T -quiet -no-progress -noappend && dd if=$T of=$I bs=64K conv=notrunc status=none`},
		{kind: "erofs", script: `mkfs.erofs --quiet $T $D && dd if=$T of=$I bs=64K conv=notrunc status=none`},
		{kind: "swap", script: `mkswap -q -f -L second $I`},
		{kind: "luks1", script: `echo x | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 $I`},
		{kind: "luks2", script: `echo x | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label second $I`},
		{kind: "gpt", script: `printf 'label: gpt\n,10M\n' | sfdisk -q --wipe never $I`},
		{kind: "dos", script: `printf 'label: dos\n,10M\n,,E\n,5M\n' | sfdisk -q --wipe never $I`},
	}
}

// TestProbeReformatted makes each kind of content over another one, and then wipes it: what is left of the first may make blkid
// see two, one or none. make test-full tries all pairs.
func TestProbeReformatted(t *testing.T) {
	t.Parallel()
	all := makers()
	for i, first := range all {
		for j, second := range all {
			if i == j || !need.Full() && (i+1)%len(all) != j {
				continue
			}
			t.Run(fmt.Sprintf("%s over %s", second.kind, first.kind), func(t *testing.T) {
				t.Parallel()
				image := recipe{size: 300*mib + 512, script: first.script + " && rm -f $T && " + second.script}.cook(t)
				agree(t, image, "formatted twice")
				if out, err := exec.Command("wipefs", "--quiet", "--all", image).CombinedOutput(); err != nil {
					t.Fatalf("wipefs: %v: %s", err, out)
				}
				agree(t, image, "wiped")
			})
		}
	}
}

// agree holds Probe against blkid, whatever that says.
func agree(t *testing.T, image, what string) {
	t.Helper()
	want, wantErr := blkid(t, image)
	got, err := probeFile(t, image)
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, wantErr) {
		t.Errorf("%s: %v, blkid says %v; Info differs (-blkid +Probe):\n%s", what, err, wantErr, diff)
	}
}
