package rootdev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

// A recipe makes an image with the tools of Debian.
type recipe struct {
	kind   string // what blkid must call it; "ambivalent"; "" for only a partition table or nothing
	size   int64  // in bytes
	script string // for sh, with the image in $I, a folder with two files in $D and an unused path in $T
}

const (
	_   = iota
	kib = 1 << (10 * iota)
	mib
	gib
)

// recipes returns one recipe or more for everything that the prober knows and a mkfs makes.
func recipes() []recipe {
	const uuid = "12345678-9abc-def0-1234-56789abcdef0"
	return []recipe{
		{"xfs", 300 * mib, `mkfs.xfs -q $I`},
		{"xfs", 300*mib + 12345, `mkfs.xfs -q -L 'twelve bytes' -m uuid=` + uuid + ` $I`},
		{"xfs", 512 * mib, `mkfs.xfs -q -m crc=0 -L '../e/x' $I`},
		{"xfs", 512 * mib, `mkfs.xfs -q -s size=4096 -b size=4096 -i size=2048 $I`},
		{"btrfs", 120 * mib, `mkfs.btrfs -q $I`},
		{"btrfs", 120*mib + 4097, `mkfs.btrfs -q --mixed --csum xxhash -U ` + uuid + ` -L 'a b  c / \ ü ' $I`},
		{"f2fs", 64 * mib, `mkfs.f2fs -q $I`},
		{"f2fs", 65*mib + 511, `mkfs.f2fs -q -O extra_attr,sb_checksum -l 'Ünïcödé 日本 😀' -U ` + uuid + ` $I`},
		{"vfat", 4 * mib, `mkfs.vfat -F 12 $I`},
		{"vfat", 4 * mib, `mkfs.vfat -F 12 -n 'A B' -i ABCD1234 $I`},
		{"vfat", 720 * kib, `mkfs.vfat -n TINY $I`},
		{"vfat", 1440 * kib, `mkfs.vfat -n FLOPPY $I`},
		{"vfat", 40 * mib, `mkfs.vfat -F 16 -n UPPER $I`},
		{"vfat", 200 * mib, `mkfs.vfat -F 16 -S 4096 -n 'lower case' $I`},
		{"vfat", 100 * mib, `mkfs.vfat -F 32 $I`},
		{"vfat", 100*mib + 99, `mkfs.vfat -F 32 -n EFI -i 00000001 $I`},
		{"vfat", 100 * mib, `mkfs.vfat -F 32 -n OLD $I && mlabel -i $I ::NEW`},
		{"vfat", 100 * mib, `mkfs.vfat -F 32 -n GONE $I && mlabel -c -i $I ::`},
		{"vfat", 40 * mib, `mkfs.vfat -F 16 -f 1 -R 8 $I && mcopy -i $I -s $D/* :: && mlabel -i $I ::LATE`},
		{"vfat", 300 * mib, `mkfs.vfat -F 32 -s 1 $I && for n in $(seq 40); do mmd -i $I "::a long name of a folder $n"; done && mlabel -i $I ::FAR`},
		{"vfat", 10 * mib, `mkfs.vfat --mbr=yes -n MBR $I`},
		{"exfat", 8 * mib, `mkfs.exfat $I`},
		{"exfat", 64*mib + 77, `mkfs.exfat -L 'Größe 日本' $I`},
		{"exfat", 64 * mib, `mkfs.exfat -c 512 -L eleven-char $I`},
		{"ntfs", 4 * mib, `mkntfs -q -Q -F $I`},
		{"ntfs", 16*mib + 1000, `mkntfs -q -Q -F -c 512 -L 'Größe 日本 😀' $I`},
		{"ntfs", 64 * mib, `mkntfs -q -Q -F -s 4096 -c 65536 -L '../../etc' $I`},
		{"squashfs", 0, `mksquashfs $D $I -quiet -no-progress -noappend`},
		{"", 0, `mksquashfs $D $I -quiet -no-progress -noappend -nopad`}, // below 1 KiB
		{"erofs", 0, `mkfs.erofs --quiet $I $D`},
		{"erofs", 0, `mkfs.erofs --quiet -zlz4 -U ` + uuid + ` $I $D`},
		{"iso9660", 0, `genisoimage -quiet -o $I $D`},
		{"iso9660", 0, `genisoimage -quiet -J -r -V 'Debian Live 12 amd64' -o $I $D`},
		{"iso9660", 0, `genisoimage -quiet -J -input-charset utf-8 -V 'Größe_日本' -o $I $D`},
		{"iso9660", 0, `xorriso -report_about FAILURE -as mkisofs -J -V 'MiXeD' --modification-date=2026010203040506 -o $I $D`},
		{"iso9660", 0, `xorriso -report_about FAILURE -as mkisofs -partition_offset 16 -V HYBRID -o $I $D`},
		{"iso9660", 0, `xorriso -report_about FAILURE -as mkisofs -append_partition 2 0xef $D/one -appended_part_as_gpt -V GPT -o $I $D`},
		{"udf", 0, `genisoimage -quiet -udf -V BRIDGE -o $I $D`},
		{"udf", 16 * mib, `mkudffs $I`},
		{"udf", 16 * mib, `mkudffs -b 512 -l 'Größe' -u 0123456789abcdef $I`},
		{"udf", 16*mib + 512, `mkudffs --media-type=hd -b 4096 -r 2.01 -l '日本 😀' --vsid=XYZ-something $I`},
		{"udf", 16 * mib, `mkudffs --media-type=cdr -b 2048 -r 1.50 $I`},
		{"udf", 16 * mib, `mkudffs --media-type=dvdram -r 1.02 --vid=v --fsid=f --bootarea=mbr $I`},
		{"swap", 1 * mib, `mkswap -q $I`},
		{"swap", 10 * 4096, `mkswap -q $I`},
		{"swap", 8 * mib, `mkswap -q -p 65536 -L 'sixteen letters!' -U ` + uuid + ` $I`},
		{"swap", 8 * mib, `mkswap -q $I && printf '\000\000\000\001\000\000\007\377' | dd of=$I bs=1 seek=1024 conv=notrunc status=none`}, // big-endian
		{"swap", 8 * mib, `mkswap -q -L x $I && printf x | dd of=$I bs=1 seek=1200 conv=notrunc status=none`},
		{"swsuspend", 8 * mib, `mkswap -q -L hibernated $I && printf S1SUSPEND | dd of=$I bs=1 seek=4086 conv=notrunc status=none`},
		{"swsuspend", 8 * mib, `mkswap -q -p 16384 $I && printf LINHIB0001 | dd of=$I bs=1 seek=16374 conv=notrunc status=none`},
		{"swsuspend", 8 * mib, `mkswap -q $I && printf '\355\303\002\351\230\126\345\014' | dd of=$I bs=1 conv=notrunc status=none`},
		{"crypto_LUKS", 8 * mib, `echo x | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --uuid ` + uuid + ` $I`},
		{"crypto_LUKS", 20 * mib, `echo x | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label 'the label' --subsystem s $I`},
		{"crypto_LUKS", 20 * mib, `echo x | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $I &&
			dd if=/dev/zero of=$I bs=4096 count=1 conv=notrunc status=none`}, // only the second header is left
		{"BitLocker", 8 * mib, `printf '\353\122\220-FVE-FS-' | dd of=$I conv=notrunc status=none`},
		{"BitLocker", 8 * mib, `printf '\353\130\220-FVE-FS-' | dd of=$I conv=notrunc status=none
			printf '\001\002\003\004' | dd of=$I bs=1 seek=67 conv=notrunc status=none
			printf '\000\000\020' | dd of=$I bs=1 seek=176 conv=notrunc status=none
			printf -- '-FVE-FS-\100\000\002\000' | dd of=$I bs=1M seek=1 conv=notrunc status=none`},
		{"BitLocker", 40 * mib, `mkfs.vfat $I && printf '\353\130\220MSWIN4.1' | dd of=$I conv=notrunc status=none
			printf '\000\000\020\001' | dd of=$I bs=1 seek=440 conv=notrunc status=none
			printf -- '-FVE-FS-\100\000\002\000' | dd of=$I bs=1M seek=17 conv=notrunc status=none`},
	}
}

// twice returns recipes that write one thing over another, or take one away again.
func twice() []recipe {
	return []recipe{
		{"ext4", 64 * mib, `mkfs.vfat $I && mkfs.ext4 -q -F $I`},
		{"xfs", 300 * mib, `mkfs.ext4 -q -F $I && mkfs.xfs -q -f $I`},
		{"ambivalent", 300 * mib, `mkfs.xfs -q $I && dd if=$I of=$T bs=512 count=1 status=none &&
			mkfs.ext4 -q -F -O ^resize_inode $I && dd if=$T of=$I conv=notrunc status=none`},
		{"ambivalent", 300 * mib, `mkfs.ext4 -q -F $I && dd if=$I of=$T bs=4096 count=1 status=none && mkfs.btrfs -q -f $I &&
			dd if=$T of=$I conv=notrunc status=none`},
		{"ambivalent", 64 * mib, `mkfs.ext4 -q -F $I && printf SWAP-SPACE | dd of=$I bs=1 seek=4086 conv=notrunc status=none`},
		{"ambivalent", 64 * mib, `genisoimage -quiet -o $T $D && mkfs.ext4 -q -F $I && dd if=$T of=$I bs=2048 skip=16 seek=16 count=1 conv=notrunc status=none`},
		{"swap", 1 * mib, `mkfs.ext4 -q -F $I && printf SWAP-SPACE | dd of=$I bs=1 seek=4086 conv=notrunc status=none`},
		{"crypto_LUKS", 64 * mib, `mkfs.ext4 -q -F $I && printf 'LUKS\272\276\000\001' | dd of=$I conv=notrunc status=none`},
		{"", 64 * mib, `mkfs.ext4 -q -F $I && wipefs -q -a $I`},
		{"", 300 * mib, `mkfs.xfs -q $I && wipefs -q -a $I`},
		{"ext4", 64 * mib, `mkfs.ntfs -q -Q -F $I && wipefs -q -a $I && mkfs.ext4 -q -F -L second $I`},
		{"", 64 * mib, `mkfs.ext4 -q -F $I && echo 'label: gpt' | sfdisk -q $I`},
		{"ext4", 64 * mib, `mkfs.ext4 -q -F $I && printf 'label: dos\n,,\n' | sfdisk -q --wipe never $I`},
		{"", 64 * mib, `printf 'label: dos\nlabel-id: 0x1234abcd\n,10M\n,,E\n,5M\n,5M\n' | sfdisk -q $I`},
		{"", 64 * mib, `printf 'label: gpt\n,10M\n' | sfdisk -q $I && dd if=/dev/zero of=$I bs=512 seek=1 count=1 conv=notrunc status=none`},
		{"", 64 * mib, `printf 'label: gpt\n,10M\n' | sfdisk -q $I && truncate -s 32M $I && dd if=/dev/zero of=$I bs=512 seek=1 count=1 conv=notrunc status=none`},
		{"vfat", 64 * mib, `printf 'label: gpt\n,10M\n' | sfdisk -q $I && mkfs.vfat -I $I`},
		{"ntfs", 64 * mib, `printf 'label: dos\n,10M\n' | sfdisk -q $I && mkntfs -q -Q -F $I`},
	}
}

// others returns recipes of what this package does not know and blkid does: the rest of the mkfs of Debian that blkid can
// tell, and signatures that none of them writes.
func others() []recipe {
	return []recipe{
		{"minix", 4 * mib, `mkfs.minix $I`},
		{"cramfs", 0, `mkfs.cramfs $D $I`},
		{"DM_verity_hash", 4 * mib, `truncate -s 1M $T && veritysetup format $T $I`},
		{"bfs", 1 * mib, `mkfs.bfs $I`},
		{"DM_snapshot_cow", 4 * mib, `printf SnAp | dd of=$I conv=notrunc status=none`},
		{"LVM1_member", 4 * mib, `printf 'HM\001\000' | dd of=$I conv=notrunc status=none`},
		{"squashfs3", 1 * mib, `printf 'hsqs' | dd of=$I conv=notrunc status=none && printf '\003' | dd of=$I bs=1 seek=28 conv=notrunc status=none`},
		{"bcache", 4 * mib, `make-bcache -B $I`},
		{"jfs", 16 * mib, `mkfs.jfs -q -L label $I`},
		{"reiserfs", 40 * mib, `mkfs.reiserfs -q -f -f -l label $I`},
		{"reiser4", 40 * mib, `mkfs.reiser4 -y -f $I`},
		{"nilfs2", 160 * mib, `mkfs.nilfs2 -q -L label $I`},
		{"hfs", 4 * mib, `hformat -l label $I`},
		{"gfs2", 64 * mib, `mkfs.gfs2 -q -O -p lock_nolock -j 1 -J 8 $I`},
		{"ocfs2", 64 * mib, `mkfs.ocfs2 -q -x -M local -L label $I`},
		{"apfs", 600 * mib, `mkapfs -L label $I`},
		{"romfs", 0, `genromfs -f $I -d $D -V label`},
		{"ubifs", 0, `mkfs.ubifs -r $D -m 2048 -e 129024 -c 100 -o $I`},
	}
}

// cook makes the image of r.
func (r recipe) cook(t *testing.T) string {
	t.Helper()
	need.Long(t)
	if strings.Contains(r.script, "losetup") {
		need.Root(t)
	}
	dir, err := os.MkdirTemp("", "rootdev") // the name of the test is none that mtools could read
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	image, tree := filepath.Join(dir, "image"), filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"one": 3000, "two": 1} {
		if err := os.WriteFile(filepath.Join(tree, name), make([]byte, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, r.size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", r.script)
	cmd.Env = append(os.Environ(), "I="+image, "D="+tree, "T="+filepath.Join(dir, "second"), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 127 {
			need.Unmet(t, "needs the mkfs tools that go run ./tests/setup installs: %s", out)
		}
		t.Fatalf("%s: %v\n%s", r.script, err, out)
	}
	return image
}

// compare holds Probe against blkid.
func compare(t *testing.T, r recipe, image string) {
	t.Helper()
	want, wantErr := blkid(t, image)
	kind := want.Type
	if errors.Is(wantErr, ErrAmbiguous) {
		kind = "ambivalent"
	}
	if kind != r.kind {
		t.Fatalf("%s\nblkid calls it %q, not %q: %+v", r.script, kind, r.kind, want)
	}
	got, err := probeFile(t, image)
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, wantErr) {
		t.Errorf("%s\n%v, blkid says %v; Info differs (-blkid +Probe):\n%s", r.script, err, wantErr, diff)
	}
}

func TestProbeMkfsAgainstBlkid(t *testing.T) {
	t.Parallel()
	for i, r := range append(recipes(), twice()...) {
		t.Run(fmt.Sprint(i, " ", r.kind), func(t *testing.T) {
			t.Parallel()
			compare(t, r, r.cook(t))
		})
	}
}

// TestProbeClaimsNothingElse: what only blkid knows is unknown here.
func TestProbeClaimsNothingElse(t *testing.T) {
	t.Parallel()
	for _, r := range others() {
		t.Run(r.kind, func(t *testing.T) {
			t.Parallel()
			image := r.cook(t)
			if want, err := blkid(t, image); want.Type != r.kind {
				t.Fatalf("blkid calls it %q, %v", want.Type, err)
			}
			if got, err := probeFile(t, image); !errors.Is(err, ErrUnknown) || got != (Info{}) {
				t.Errorf("%+v, %v; want ErrUnknown", got, err)
			}
		})
	}
}
