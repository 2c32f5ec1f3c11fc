package rootdev

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"hapax/tests/need"
)

// mdadm --create needs the md driver, so these superblocks are made here, and mdadm --examine must take them.

// md0Super returns a superblock of version 0.90 for a member that uses size KiB.
func md0Super(order binary.ByteOrder, size uint32) []byte {
	b := make([]byte, 4096)
	for i, w := range map[int]uint32{
		0: mdMagic, 1: 0, 2: 90, 3: 0, 5: 0x01234567, 6: 1600000000, 7: 1, 8: size, 9: 2, 10: 2, 11: 0, 13: 0x89abcdef, 14: 0xfedcba98, 15: 0x76543210,
		34: 2, 35: 2, // active and working disks
	} {
		order.PutUint32(b[4*i:], w)
	}
	var sum uint64
	for i := 0; i < len(b); i += 4 {
		sum += uint64(order.Uint32(b[i:]))
	}
	order.PutUint32(b[4*38:], uint32(sum)+uint32(sum>>32))
	return b
}

// md1Super returns a superblock of version 1.x that is at the offset at.
func md1Super(at uint64, name string) []byte {
	b := make([]byte, 1024)
	le := binary.LittleEndian
	le.PutUint32(b, mdMagic)
	le.PutUint32(b[4:], 1)
	copy(b[16:32], testUUID)
	copy(b[32:64], name)
	le.PutUint32(b[72:], 1)  // level
	le.PutUint64(b[80:], 64) // used sectors
	le.PutUint32(b[92:], 2)  // disks
	le.PutUint64(b[128:], 2048)
	le.PutUint64(b[136:], 64)
	le.PutUint64(b[144:], at>>9)
	copy(b[168:184], "0123456789abcdef")
	le.PutUint32(b[220:], 2) // roles
	le.PutUint16(b[258:], 1)
	var sum uint64
	for i := 0; i < 256+4; i += 4 {
		sum += uint64(le.Uint32(b[i:]))
	}
	le.PutUint32(b[216:], uint32(sum)+uint32(sum>>32))
	return b
}

func TestMDAgainstBlkid(t *testing.T) {
	t.Parallel()
	need.Tools(t, "mdadm")
	const size = 20*mib + 12345
	end0, end1 := int64(size&^(64*kib-1)-64*kib), int64(size&^4095-8192)
	for i, tt := range []struct {
		kind, script string
		at           int64
		super        []byte
		examine      string // the version that mdadm prints, "" if it does not know it
	}{
		{mdType, "", end0, md0Super(binary.LittleEndian, 16*kib), "0.90.00"},
		{mdType, "", end0, md0Super(binary.BigEndian, 16*kib), ""},
		{"", "", end0, md0Super(binary.LittleEndian, 30*kib), "0.90.00"}, // more than the device has
		{mdType, "", end1, md1Super(uint64(end1), "host:../../x"), "1.0"},
		{mdType, "", 0, md1Super(0, "a b \xff"), "1.1"},
		{mdType, "", 4096, md1Super(4096, strings.Repeat("n", 32)), "1.2"},
		{"", "", 4096, md1Super(8192, "elsewhere"), ""},
		{mdType, "mkfs.ext4 -q -F -L inside $I", end1, md1Super(uint64(end1), "hides"), "1.0"},
		{mdType, "mkfs.ext4 -q -F -L inside $I", end0, md0Super(binary.LittleEndian, 16*kib), "0.90.00"},
		{mdType, `printf 'label: dos\n,10M\n' | sfdisk -q $I`, end1, md1Super(uint64(end1), "table of the array"), "1.0"},
		{"", `printf 'label: dos\n,\n' | sfdisk -q $I`, end0, md0Super(binary.LittleEndian, 16*kib), "0.90.00"}, // of the partition
		{mdType, `printf 'label: dos\n,2M\n' | sfdisk -q $I`, end0, md0Super(binary.LittleEndian, 16*kib), "0.90.00"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			image := recipe{size: size, script: tt.script}.cook(t)
			f, err := os.OpenFile(image, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(tt.super, tt.at); err != nil {
				t.Fatal(err)
			}
			if tt.examine != "" {
				if out, err := exec.Command("mdadm", "--examine", image).CombinedOutput(); err != nil || !strings.Contains(string(out), "Version : "+tt.examine+"\n") {
					t.Fatalf("mdadm --examine: %v\n%s", err, out)
				}
			}
			compare(t, recipe{kind: tt.kind, script: tt.script}, image)
		})
	}
}

// physicalVolume is the end of a recipe that makes a physical volume, on a loop device, for lvm takes no files.
func physicalVolume(options string) string {
	return `L=$(losetup --find --show $I); trap 'losetup --detach $L' EXIT; pvcreate -q -y` +
		` --config "devices { obtain_device_list_from_udev=0 use_devicesfile=0 global_filter=[\"a|^$L\$|\",\"r|.*|\"] } backup { backup=0 archive=0 }" ` +
		options + ` $L 2>&1; `
}

// TestLVMAgainstBlkid makes physical volumes in all the ways that pvcreate knows.
func TestLVMAgainstBlkid(t *testing.T) {
	need.Tools(t, "pvcreate")
	for i, r := range []recipe{
		{lvm2Type, 8 * mib, physicalVolume("")},
		{lvm2Type, 8*mib + 512, physicalVolume("--norestorefile -u abcdef-0123-4567-89ab-cdef-0123-456789")},
		{lvm2Type, 8 * mib, physicalVolume("--labelsector 0")},
		{lvm2Type, 8 * mib, physicalVolume("--labelsector 2")},
		{lvm2Type, 8 * mib, physicalVolume("--labelsector 3")},
		{lvm2Type, 64 * mib, `mkfs.ext4 -q -F $I; ` + physicalVolume("")},
		{lvm2Type, 8 * mib, physicalVolume("") + `printf '\125\252' | dd of=$I bs=1 seek=510 conv=notrunc status=none`},    // a boot sector
		{"", 8 * mib, physicalVolume("") + `printf 'label: dos\n,2M\n' | sfdisk -q --wipe never $I`},                       // the table is younger
		{"", 8 * mib, physicalVolume("") + `printf x | dd of=$I bs=1 seek=1000 conv=notrunc status=none`},                  // a wrong checksum
		{lvm2Type, 8 * mib, physicalVolume("") + `printf 'LUKS\272\276\000\001' | dd of=$I bs=1 conv=notrunc status=none`}, // comes later in the order
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) { compare(t, r, r.cook(t)) })
	}
}
