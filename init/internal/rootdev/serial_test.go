package rootdev

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// page83 builds a vital product data page of designators.
func page83(designators ...string) []byte {
	all := strings.Join(designators, "")
	return append([]byte{0, 0x83, byte(len(all) >> 8), byte(len(all))}, all...)
}

func desc(code, kind byte, id string) string {
	return string([]byte{code, kind, 0, byte(len(id))}) + id
}

func TestNamesOfSCSI(t *testing.T) {
	t.Parallel()
	const at = "devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:3/2:0:3:300/"
	for _, tt := range []struct {
		name       string
		pg80, pg83 []byte
		want       []string
	}{
		{"nothing", nil, nil, nil},
		{"serial number of QEMU", []byte("\x00\x80\x00\x06serial"), nil, []string{"scsi-SQEMU_QEMU_HARDDISK_serial"}},
		{"vendor's own, as QEMU has it", []byte("\x00\x80\x00\x06serial"), page83(desc(2, 0, "drive-scsi0-0")), []string{"scsi-0QEMU_QEMU_HARDDISK_drive-scsi0-0"}},
		{"world wide name", nil, page83(desc(2, 0, "x"), desc(1, 3, "\x50\x01\x43\x80\x00\x00\x00\x01"), desc(2, 1, "ACME    disk 1")),
			[]string{"scsi-35001438000000001", "wwn-0x5001438000000001"}},
		{"extended world wide name", nil, page83(desc(1, 3, "\x50\x01\x43\x80\x00\x00\x00\x01"), desc(1, 3, "\x60\x01\x43\x80\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02")),
			[]string{"scsi-360014380000000010000000000000002", "wwn-0x60014380000000010000000000000002"}},
		{"of the target port", nil, page83(desc(1, 0x13, "\x50\x01\x43\x80\x00\x00\x00\x01"), desc(1, 2, "\x00\x01\x02\x03\x04\x05\x06\x07")), []string{"scsi-20001020304050607"}},
		{"T10", nil, page83(desc(2, 1, "ACME    a/b  c\x01 ")), []string{"scsi-1ACME_a_b_c_"}},
		{"SCSI-2 without a name", nil, append(page83(), "\x00\x60\x48\x01"...), []string{"scsi-3"}},
		{"SCSI-2", nil, []byte("\x00\x83\x00\x08\x50\x06\x04\x80\x00\x00\x00\x01"), []string{"scsi-35006048000000001"}},
		{"length past the end", nil, []byte("\x00\x83\xff\xff\x01\x03\x00\xff\x50"), nil},
		{"no bytes", nil, page83(desc(1, 3, "")), nil},
		{"newline at the end", nil, page83(desc(1, 3, "\x50\x01\x43\x80\x00\x00\x00\x0a")), []string{"scsi-3500143800000000a", "wwn-0x500143800000000a"}},
	} {
		sys := sysfs(scsi)
		if tt.pg80 != nil {
			sys[at+"vpd_pg80"] = &fstest.MapFile{Data: tt.pg80}
		}
		if tt.pg83 != nil {
			sys[at+"vpd_pg83"] = &fstest.MapFile{Data: tt.pg83}
		}
		if diff := cmp.Diff(tt.want, ids(sys, sdaAt)); diff != "" {
			t.Errorf("%s: names differ (-want +got):\n%s", tt.name, diff)
		}
	}
}

// page89 builds the page with the IDENTIFY data of an ATA disk.
func page89(model, serial string, wwn uint64) []byte {
	b := make([]byte, 572)
	b[1] = 0x89
	words := b[60:]
	copy(words[20:], unswapped(fmt.Appendf(nil, "%-20s", serial)))
	copy(words[54:], unswapped(fmt.Appendf(nil, "%-40s", model)))
	for i := range 4 {
		binary.LittleEndian.PutUint16(words[216+2*i:], uint16(wwn>>(48-16*i)))
	}
	return b
}

func TestNamesOfATA(t *testing.T) {
	t.Parallel()
	const at = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/"
	t10 := page83(desc(2, 0, fmt.Sprintf("%20s", "QM00001")), desc(2, 1, "ATA     "+fmt.Sprintf("%-40s%20s", "QEMU HARDDISK", "QM00001")), desc(1, 3, "\x50\x02\x53\x8e\x00\x00\x00\x01"))
	for _, tt := range []struct {
		name, page string
		data       []byte
		want       []string
	}{
		{"nothing but what udev asks the drive for", "x", nil, nil},
		{"page 0x89", "vpd_pg89", page89("Samsung SSD 860 EVO 1TB", "S3Z8NB0K", 0x5002538e40a1b2c3), []string{"ata-Samsung_SSD_860_EVO_1TB_S3Z8NB0K", "wwn-0x5002538e40a1b2c3"}},
		{"page 0x89 of QEMU", "vpd_pg89", page89("QEMU HARDDISK", "QM00001", 0), []string{"ata-QEMU_HARDDISK_QM00001"}},
		{"page 0x89 without a serial number", "vpd_pg89", page89("QEMU HARDDISK", "", 0), []string{"ata-QEMU_HARDDISK"}},
		{"page 0x89, hostile", "vpd_pg89", page89("../../a", "b/\xff\x01", 0), []string{"ata-.._.._a_b___"}},
		{"page 0x83", "vpd_pg83", t10, []string{"ata-QEMU_HARDDISK_QM00001", "wwn-0x5002538e00000001"}},
	} {
		sys := sysfs(ata)
		sys[at+tt.page] = &fstest.MapFile{Data: tt.data}
		if diff := cmp.Diff(tt.want, ids(sys, ataAt)); diff != "" {
			t.Errorf("%s: names differ (-want +got):\n%s", tt.name, diff)
		}
	}
}
