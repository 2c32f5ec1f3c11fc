package medium

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/disk"
	"hapax/image/disk/fat"
	"hapax/image/iso"
	"hapax/image/sparse"
	"hapax/tests/need"
)

// samples are files of an EFI system partition, one of them larger than a cluster, with names of both kinds.
func samples() map[string]string {
	return map[string]string{
		"EFI/BOOT/BOOTX64.EFI": strings.Repeat("0123456789abcdef", 5000),
		"loader/entries/a-long-name-of-more-than-26-characters.conf": "title a",
		"loader/loader.conf":       "timeout 0\n",
		"EFI/Linux/ünicode 🐧.efi":  "x",
		"EFI/Linux/empty.efi":      "",
		"hapax/6.12.1-amd64/linux": strings.Repeat("k", 100_000),
	}
}

// contents returns the files of a medium.
func contents(t *testing.T, m *Medium) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, f := range m.Files() {
		r, err := m.Content(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		found[f.Name] = string(b)
	}
	return found
}

// check opens a file and compares what is on it.
func check(t *testing.T, file string, kind Kind, want map[string]string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(f, info.Size())
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(file), err)
	}
	if m.Kind != kind {
		t.Errorf("%s is a %s, want a %s", filepath.Base(file), m.Kind, kind)
	}
	if diff := cmp.Diff(want, contents(t, m)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", filepath.Base(file), diff)
	}
}

func files(of map[string]string) []fat.File {
	var list []fat.File
	for name, content := range of {
		list = append(list, fat.File{Name: name, Content: io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))})
	}
	return list
}

// store writes an image to a file.
func store(t *testing.T, m *sparse.Image, qcow2 bool) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "medium"))
	if err != nil {
		t.Fatal(err)
	}
	write := m.WriteRaw
	if qcow2 {
		write = m.WriteQCOW2
	}
	if err := errors.Join(write(t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// What hapax writes is read back.
func TestOwn(t *testing.T) {
	t.Parallel()
	for _, sector := range []int{512, 4096} {
		m, err := disk.New(disk.Spec{ESP: files(samples()), SectorSize: sector, Time: time.Unix(0, 0)}, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		check(t, store(t, m, false), Disk, samples())
		check(t, store(t, m, true), Disk, samples())
	}
	cd, err := iso.New(iso.Spec{ESP: files(samples()), Time: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	check(t, store(t, cd, false), CD, samples())
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	need.Tools(t, name)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// tree writes files below a folder. The name with a character of more than 16 bits is left out: mtools has its own idea of it.
func tree(t *testing.T) (dir string, want map[string]string) {
	t.Helper()
	dir, want = t.TempDir(), samples()
	maps.DeleteFunc(want, func(name, _ string) bool { return strings.Contains(name, "🐧") })
	for name, content := range want {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, want
}

// What others write is read: FAT12, FAT16 and FAT32 of mkfs.vfat in partitions of sfdisk, in GPT and in an MBR, as qcow2 of several
// kinds, and as the boot image of a CD without a partition table.
func TestOthers(t *testing.T) {
	t.Parallel()
	dir, want := tree(t)
	top, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	for _, tt := range []struct {
		name, bits, cluster, size, label, kind string
	}{
		{"fat12", "12", "4", "4M", "dos", "ef"}, {"fat16", "16", "4", "32M", "gpt", "U"}, {"fat32", "32", "1", "64M", "gpt", "U"},
	} {
		esp, whole := filepath.Join(work, tt.name), filepath.Join(work, tt.name+".disk")
		tool(t, "truncate", "-s", tt.size, esp)
		tool(t, "mkfs.vfat", "-F", tt.bits, "-s", tt.cluster, esp)
		// What is deleted again leaves holes, so that files lie in pieces.
		filler := filepath.Join(work, "filler")
		if err := os.WriteFile(filler, bytes.Repeat([]byte("f"), 3000), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			tool(t, "mcopy", "-i", esp, filler, fmt.Sprintf("::filler%d", i))
		}
		for i := 0; i < 20; i += 2 {
			tool(t, "mdel", "-i", esp, fmt.Sprintf("::filler%d", i))
		}
		tool(t, "mcopy", append([]string{"-s", "-i", esp}, append(top, "::")...)...)
		for i := 1; i < 20; i += 2 {
			tool(t, "mdel", "-i", esp, fmt.Sprintf("::filler%d", i))
		}
		tool(t, "truncate", "-s", "70M", whole)
		script := fmt.Sprintf("label: %s\nstart=2048, size=%s, type=%s\n", tt.label, tt.size+"iB", tt.kind)
		tool(t, "sh", "-c", `printf '%s' "$1" | sfdisk -q "$2" && dd if="$3" of="$2" bs=1M seek=1 conv=notrunc,sparse status=none`, "sh", script, whole, esp)
		check(t, whole, Disk, want)

		for _, options := range []string{"compat=0.10", "cluster_size=512", "cluster_size=2M"} {
			tool(t, "qemu-img", "convert", "-O", "qcow2", "-o", options, whole, whole+".qcow2")
			check(t, whole+".qcow2", Disk, want)
		}
		cd := filepath.Join(work, "cd")
		if err := errors.Join(os.RemoveAll(cd), os.Mkdir(cd, 0o755), os.Rename(esp, filepath.Join(cd, "efi.img"))); err != nil {
			t.Fatal(err)
		}
		tool(t, "xorriso", "-as", "mkisofs", "-quiet", "-o", whole+".iso", "-e", "efi.img", "-no-emul-boot", cd)
		check(t, whole+".iso", CD, want)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	m, err := disk.New(disk.Spec{ESP: files(samples()), Time: time.Unix(0, 0)}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(m.Reader(), m.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/efi/boot/bootx64.efi", `\EFI\BOOT\BOOTX64.EFI`, "EFI/../EFI/BOOT//BOOTX64.EFI"} {
		if f, ok := opened.Lookup(name); !ok || f.Name != "EFI/BOOT/BOOTX64.EFI" || f.Size != 80_000 {
			t.Errorf("Lookup(%q) = %+v, %v", name, f, ok)
		}
	}
	if f, ok := opened.Lookup("EFI"); ok {
		t.Errorf("Lookup of a folder = %+v", f)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	m, err := disk.New(disk.Spec{ESP: files(samples()), Time: time.Unix(0, 0)}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(store(t, m, false))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(store(t, m, true))
	if err != nil {
		t.Fatal(err)
	}
	const esp, entry, root = 1 << 20, 1024, "root"
	data := bytes.Index(good, []byte("LOADER~1   \x10")) // the root's entry of that folder
	if data < 0 {
		t.Fatal("no folder loader")
	}
	for name, tt := range map[string]struct {
		of     []byte
		change func(b []byte) []byte
		want   string
	}{
		"nothing":            {good, func([]byte) []byte { return nil }, ErrNone.Error()},
		"zeros":              {good, func(b []byte) []byte { return make([]byte, 4096) }, ErrNone.Error()},
		"cut":                {good, func(b []byte) []byte { return b[:esp+1000] }, "ends behind it"},
		"many entries":       {good, func(b []byte) []byte { b[512+83] = 0xff; return b }, "partition table is damaged"},
		"table far away":     {good, func(b []byte) []byte { b[512+79] = 0xff; return b }, "partition table is damaged"},
		"no ESP":             {good, func(b []byte) []byte { b[entry]++; return b }, "no EFI system partition"},
		"partition backward": {good, func(b []byte) []byte { clear(b[entry+40 : entry+48]); return b }, "ends behind it"},
		"no FAT":             {good, func(b []byte) []byte { b[esp+510] = 0; return b }, "holds no FAT file system"},
		"sectors of 513":     {good, func(b []byte) []byte { b[esp+11] = 1; return b }, "holds no FAT file system"},
		"FAT too large":      {good, func(b []byte) []byte { b[esp+35] = 0x7f; return b }, "ends behind the partition"},
		"a folder in itself": {good, func(b []byte) []byte { b[data+26], b[data+27] = 2, 0; return b }, "lies in itself"},
		"a folder nowhere":   {good, func(b []byte) []byte { b[data+21] = 0x0f; return b }, errChain.Error()},
		"qcow2 version":      {packed, func(b []byte) []byte { b[7] = 9; return b }, "version 9"},
		"qcow2 backing":      {packed, func(b []byte) []byte { b[15] = 9; return b }, "in another file"},
		"qcow2 encrypted":    {packed, func(b []byte) []byte { b[35] = 1; return b }, "encrypted"},
		"qcow2 features":     {packed, func(b []byte) []byte { b[79] = 4; return b }, "features that are not known"},
		"qcow2 clusters":     {packed, func(b []byte) []byte { b[23] = 60; return b }, "header is damaged"},
		"qcow2 tables":       {packed, func(b []byte) []byte { b[36] = 0xff; return b }, "header is damaged"},
		"qcow2 cut":          {packed, func(b []byte) []byte { return b[:70] }, "cut short"},
	} {
		b := tt.change(slices.Clone(tt.of))
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}

// A compressed disk is refused, not misread.
func TestCompressed(t *testing.T) {
	t.Parallel()
	m, err := disk.New(disk.Spec{ESP: files(samples()), Time: time.Unix(0, 0)}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	raw := store(t, m, false)
	tool(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, raw+".qcow2")
	b, err := os.ReadFile(raw + ".qcow2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "compressed clusters") {
		t.Errorf("Open = %v", err)
	}
}

// FuzzOpen changes bytes of small media, of which there are too many to fuzz them as a whole.
func FuzzOpen(f *testing.F) {
	volume, err := fat.New(fat.Spec{Files: files(map[string]string{"EFI/a.efi": "x", "a longer name.conf": "y"}), Time: time.Unix(0, 0)})
	if err != nil {
		f.Fatal(err)
	}
	head := make([]byte, 40<<10)
	if _, err := volume.ReadAt(head, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(13), []byte{0}, uint32(44), []byte{9}, false)
	f.Add(uint32(82), []byte("FAT"), uint32(0x200), []byte{1}, true)
	mbr := make([]byte, 1<<10)
	mbr[446+4], mbr[446+8], mbr[446+12], mbr[446+14], mbr[510], mbr[511] = 0xef, 1, 0xff, 0x10, 0x55, 0xaa
	f.Fuzz(func(t *testing.T, at uint32, a []byte, then uint32, b []byte, small bool) {
		image := slices.Concat(mbr[:512], head, make([]byte, 2<<20))
		if small { // as FAT16
			image[512+22] = image[512+36]
		}
		copy(image[int(at)%len(image):], a)
		copy(image[int(then)%len(image):], b)
		m, err := Open(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			return
		}
		for _, f := range m.Files() {
			content, err := m.Content(f)
			if err != nil {
				continue
			}
			if n, err := io.Copy(io.Discard, content); n != f.Size && err == nil {
				t.Errorf("%s has %d bytes, read %d", f.Name, f.Size, n)
			}
		}
	})
}

// FuzzQCOW2 reads whatever says that it is a disk in qcow2.
func FuzzQCOW2(f *testing.F) {
	m := sparse.New(1 << 20)
	m.Put(70_000, []byte("content"))
	file, err := os.Create(filepath.Join(f.TempDir(), "disk"))
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	if err := m.WriteQCOW2(f.Context(), file); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(file.Name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed[:104])
	f.Fuzz(func(_ *testing.T, data []byte) {
		q, err := openQCOW2(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		p := make([]byte, 3000)
		for _, at := range []int64{0, 511, q.size / 2, q.size - 1, q.size} {
			_, _ = q.ReadAt(p, at) // it may fail, and must not panic
		}
	})
}

// Thousands of files may share one long chain: following it has an end.
func TestStepsAreBounded(t *testing.T) {
	t.Parallel()
	const clusters = 4 << 20
	table := make([]byte, 4*(clusters+2))
	for i := uint32(2); i < clusters+1; i++ {
		binary.LittleEndian.PutUint32(table[4*i:], i+1)
	}
	binary.LittleEndian.PutUint32(table[4*(clusters+1):], 0xfffffff)
	v := &volume{
		r: io.NewSectionReader(bytes.NewReader(table), 0, int64(len(table))), bits: 32, tableEnd: int64(len(table)), cluster: 512, clusters: clusters,
	}
	for n := range 9 {
		content, err := v.chain(2, -1, 1<<40)
		if n < 8 && (err != nil || content.Size() != clusters*512) {
			t.Fatalf("file %d: %v", n, err)
		}
		if n == 8 && err == nil {
			t.Error("there is no end")
		}
	}
}

// FAT32 with fewer clusters than FAT32 is to have, as mkfs.vfat -F 32 makes it on a small partition, is FAT32 to firmware. mtools
// does not write to it, so the one file is put there by hand.
func TestSmallFAT32(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "esp")
	tool(t, "mkfs.vfat", "-F", "32", "-s", "8", "-C", file, "102400")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	table := int(le.Uint16(b[14:])) * 512
	data := table + int(b[16])*int(le.Uint32(b[36:]))*512 // of cluster 2, the root folder
	le.PutUint32(b[table+4*3:], 0x0fffffff)
	entry := make([]byte, 32)
	copy(entry, "HELLO   TXT\x20")
	le.PutUint16(entry[26:], 3)
	le.PutUint32(entry[28:], 5)
	copy(b[data:], entry)
	copy(b[data+8*512:], "hello")
	v, err := openVolume(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))))
	if err != nil {
		t.Fatal(err)
	}
	list, err := v.list()
	if err != nil || len(list) != 1 {
		t.Fatalf("files %+v, %v", list, err)
	}
	content, err := v.content(list[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(content); string(got) != "hello" || err != nil || !strings.EqualFold(list[0].Name, "hello.txt") {
		t.Errorf("%s holds %q, %v", list[0].Name, got, err)
	}
}
