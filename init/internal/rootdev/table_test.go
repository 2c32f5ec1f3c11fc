package rootdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// A sectored reader has a sector size.
type sectored struct {
	io.ReaderAt
	size int
}

func (s sectored) SectorSize() int { return s.size }

// tableOf reads the partition table of an image with sectors of so many bytes.
func tableOf(t *testing.T, image string, sector int) *Table {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	_, table, err := inspect(sectored{f, sector}, st.Size())
	if err != nil && !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	return table
}

// partx returns what libblkid finds. It prints bytes that are not printable as \xNN.
func partx(t *testing.T, image string, sector int) []Part {
	t.Helper()
	need.Tools(t, "partx")
	cmd := exec.Command("partx", "-P", "-b", "-S", strconv.Itoa(sector), "-o", "NR,START,SECTORS,UUID,NAME,TYPE,FLAGS", image)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil && len(out) > 0 {
		t.Fatalf("%v: %v", cmd, err)
	}
	var parts []Part
	for line := range strings.Lines(string(out)) {
		v := map[string]string{}
		for _, pair := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(line, -1) {
			v[pair[1]] = decodeLink(pair[2])
		}
		var p Part
		if _, err := fmt.Sscan(v["NR"]+" "+v["START"]+" "+v["SECTORS"], &p.Number, &p.Start, &p.Size); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		p.Type, p.UUID, p.Name = v["TYPE"], v["UUID"], v["NAME"]
		p.Flags, _ = strconv.ParseUint(strings.TrimPrefix(v["FLAGS"], "0x"), 16, 64)
		parts = append(parts, p)
	}
	return parts
}

// on4K is the script for sfdisk on sectors of 4096 bytes, which takes a loop device.
func on4K(table string) string {
	return `L=$(losetup --find --show --sector-size 4096 $I) && { printf '` + table + `' | sfdisk -q $L; r=$?; losetup -d $L; exit $r; }`
}

func TestTableAgainstPartx(t *testing.T) {
	t.Parallel()
	const wipe = `dd if=/dev/zero of=$I conv=notrunc status=none bs=512 `
	for i, tt := range []struct {
		sector, parts int // parts is what both must find, so that the case compares something
		script        string
	}{
		{512, 3, `printf 'label: gpt\n,10M,U\n,10M,L,\n,,S\n' | sfdisk -q $I`},
		{512, 2, `sgdisk -n 1:0:+5M -c '1:../../a b' -u 1:12345678-9abc-def0-1234-56789abcdef0 -t 1:8304 -A 1:set:63 -n 128:0:+5M -c '128:Größe 日本 😀 0123456789012345678' $I`},
		{512, 3, `sgdisk -n 1:0:+1M -n 2:0:+1M -n 3:0:+1M -c 1:same -c 2:same -c 3:same $I && ` + wipe + `seek=1 count=1`},
		{512, 2, `sgdisk -n 1:0:+1M -n 2:0:+1M $I && ` + wipe + `seek=2 count=1`},
		{512, 0, `sgdisk -n 1:0:+1M $I && ` + wipe + `seek=1 count=1 && ` + wipe + `seek=131071 count=1`},
		{512, 1, `sgdisk -n 1:0:+1M $I && ` + wipe + `seek=131071 count=1`},
		{512, 2, `sgdisk -n 1:0:+1M -n 2:0:+1M -h 1:2 $I`}, // a hybrid MBR
		{512, 0, `sgdisk -n 1:0:+1M $I && ` + wipe + `count=1`},
		{512, 0, `sgdisk -n 1:0:+1M $I && truncate -s 1M $I`},
		{4096, 2, on4K(`label: gpt\n,10M,U,\nname="four k"\n`)},
		{4096, 3, on4K(`label: dos\nlabel-id: 0xcafe\n,10M\n,,E\n,5M\n`)},
		{512, 0, on4K(`label: gpt\n,10M,U\n`)},
		{512, 2, `printf 'label: dos\nlabel-id: 0x0123abcd\n,10M,c,*\n,5M,83\n' | sfdisk -q $I`},
		{512, 2, `printf 'label: dos\n,10M\n,5M\n' | sfdisk -q $I && printf '\000\000\000\000' | dd of=$I bs=1 seek=440 conv=notrunc status=none`},
		{512, 9, `printf 'label: dos\n,10M\n,20M,E\n,5M\n,1M,82\n,1M\n,1M\n,1M\n,1M\n,1M\n' | sfdisk -q $I`},
		{512, 5, `printf 'label: dos\n1: start=2048,size=10M\n4: start=40960,size=20M,type=f\n5: size=1M\n6: size=1M\n7: size=1M\n' | sfdisk -q $I`},
		{512, 4, `printf 'label: dos\n1: size=10M\n2: size=20M,type=E\n5: size=5M\n6: size=1M\n7: size=1M\n' | sfdisk -q $I && sfdisk -q --delete $I 6`},
		{512, 2, `printf 'label: dos\n1: size=10M\n2: size=20M,type=E\n5: size=5M\n' | sfdisk -q $I && ` + wipe + `seek=22528 count=1`},
		{512, 0, `mkfs.vfat $I`},
		{512, 0, `mkntfs -q -F -Q $I`},
		{512, 0, `printf '\125\252' | dd of=$I bs=1 seek=510 conv=notrunc status=none`},
		{512, 0, `printf 'label: dos\n,10M\n' | sfdisk -q $I && printf '\001' | dd of=$I bs=1 seek=494 conv=notrunc status=none`},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			image := recipe{size: 64 * mib, script: tt.script}.cook(t)
			want := partx(t, image, tt.sector)
			if len(want) != tt.parts {
				t.Fatalf("%s\npartx finds %d partitions, want %d", tt.script, len(want), tt.parts)
			}
			var got []Part
			if table := tableOf(t, image, tt.sector); table != nil {
				got = table.Parts
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\npartitions differ (-partx +rootdev):\n%s", tt.script, diff)
			}
		})
	}
}

// TestEntryAgainstBlkid compares with what blkid says of partitions as devices.
func TestEntryAgainstBlkid(t *testing.T) {
	t.Parallel()
	image := recipe{size: 64 * mib, script: `sgdisk -n 1:0:+5M -c '1:a/b \ "c"' -A 1:set:60 -n 5:0:+5M $I`}.cook(t)
	need.Root(t)
	disk := loop(t, image)
	// Not by losetup -P: the kernel may be one that reads no GPT.
	if out, err := exec.Command("partx", "-a", disk).CombinedOutput(); err != nil {
		t.Fatalf("partx -a: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("partx", "-d", disk).Run() })
	table := tableOf(t, image, 512)
	for _, p := range table.Parts {
		node := nodeOf(t, fmt.Sprintf("%sp%d", filepath.Base(disk), p.Number))
		out, err := exec.Command("blkid", "-p", "-o", "udev", node).Output()
		if err != nil {
			t.Fatal(err)
		}
		flags := ""
		if p.Flags != 0 {
			flags = fmt.Sprintf("ID_PART_ENTRY_FLAGS=%#x\n", p.Flags)
		}
		name := ""
		if p.Name != "" {
			name = "ID_PART_ENTRY_NAME=" + encodeLink(p.Name) + "\n"
		}
		want := fmt.Sprintf("ID_PART_ENTRY_SCHEME=gpt\n%sID_PART_ENTRY_UUID=%s\nID_PART_ENTRY_TYPE=%s\n%sID_PART_ENTRY_NUMBER=%d\nID_PART_ENTRY_OFFSET=%d\nID_PART_ENTRY_SIZE=%d\n",
			name, p.UUID, p.Type, flags, p.Number, p.Start, p.Size)
		if got, _, _ := strings.Cut(string(out), "ID_PART_ENTRY_DISK="); got != want {
			t.Errorf("%s\nblkid says\n%s\nrootdev\n%s", node, got, want)
		}
	}
}

// nodeOf makes a device file for a block device: /dev need not be a devtmpfs.
func nodeOf(t *testing.T, name string) string {
	t.Helper()
	var devno Devno
	b, err := os.ReadFile("/sys/class/block/" + name + "/dev")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(b), "%d:%d", &devno.Major, &devno.Minor); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := unix.Mknod(file, unix.S_IFBLK|0o600, int(unix.Mkdev(devno.Major, devno.Minor))); err != nil {
		t.Fatal(err)
	}
	return file
}
