package rootdev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// dmAt is a mapped device in sysfs.
const dmAt = "devices/virtual/block/dm-0"

// mapping makes the device with what sysfs says of it.
func mapping(name, uuid, suspended string) fstest.MapFS {
	sys := sysfs(dmAt + " block disk")
	for file, text := range map[string]string{"name": name, "uuid": uuid, "suspended": suspended} {
		sys[dmAt+"/dm/"+file] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return sys
}

func TestNamesOfMappedDevices(t *testing.T) {
	t.Parallel()
	root := Info{Type: "ext4", Usage: Filesystem, UUID: testUUIDText, Label: "a/b"}
	logical := "LVM-" + strings.Repeat("a", 64)
	disk := []string{"disk/by-uuid/" + testUUIDText, `disk/by-label/a\x2fb`}
	for _, tt := range []struct {
		name string // of the device, too
		sys  fstest.MapFS
		info Info
		want []string // but for mapper/name
	}{
		{"plain", mapping("plain", "", "0"), root, append([]string{"disk/by-id/dm-name-plain"}, disk...)},
		{"vg-root", mapping("vg-root", logical, "0"), root,
			append([]string{"disk/by-id/dm-name-vg-root", "disk/by-id/dm-uuid-" + logical}, disk...)},
		{"vg-root-real", mapping("vg-root-real", logical+"-real", "0"), root, nil},
		{"temporary", mapping("temporary", "CRYPT-TEMP-x", "0"), root, nil},
		{"open", mapping("open", "CRYPT-LUKS2-x-open", "0"), Info{Type: luksType, Usage: Crypto, UUID: "x", Label: "l"},
			[]string{"disk/by-id/dm-name-open", "disk/by-id/dm-uuid-CRYPT-LUKS2-x-open", "disk/by-uuid/x"}},
		{"suspended", mapping("suspended", "", "1"), root, []string{"disk/by-id/dm-name-suspended"}},
		{`a\x20b`, mapping(`a\x20b`, "", "0"), Info{}, []string{`disk/by-id/dm-name-a\x20b`}},
		{"control_x_", mapping("control x%", "", "0"), Info{}, []string{"disk/by-id/dm-name-control_x_"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := subject(dmAt, Part{}, tt.info)
			s.Size = 1 << 20
			if diff := cmp.Diff(append([]string{"mapper/" + tt.name}, tt.want...), Names(tt.sys, s)); diff != "" {
				t.Errorf("names differ (-want +got):\n%s", diff)
			}
			s.Size = 0
			if got := Names(tt.sys, s); got != nil {
				t.Errorf("without a table it is %q", got)
			}
		})
	}
	for _, name := range []string{"", "..", "."} {
		s := subject(dmAt, Part{}, Info{})
		s.Size = 1
		for _, link := range Names(mapping(name, "", "0"), s) {
			if !strings.HasPrefix(link, "disk/by-id/dm-name-.") {
				t.Errorf("a device called %q is %q", name, link)
			}
		}
	}
}

func TestMappedEntry(t *testing.T) {
	t.Parallel()
	const active = "E:DM_UDEV_PRIMARY_SOURCE_FLAG=1\n"
	hidden := active + "E:DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG=1\nE:DM_UDEV_DISABLE_DISK_RULES_FLAG=1\nE:DM_UDEV_DISABLE_OTHER_RULES_FLAG=1\n"
	for _, tt := range []struct {
		name, at, uuid string
		size           int64
		want           string
	}{
		{"volume", dmAt, "LVM-" + strings.Repeat("a", 64), 1, active},
		{"no uuid", dmAt, "", 1, active},
		{"layer", dmAt, "LVM-" + strings.Repeat("a", 64) + "-real", 1, hidden},
		{"of cryptsetup", dmAt, "CRYPT-TEMP-x", 1, hidden},
		{"no table", dmAt, "", 0, ""},
		{"disk", "devices/pci/block/vda", "", 1, ""},
	} {
		s := subject(tt.at, Part{}, Info{})
		s.Size = tt.size
		if diff := cmp.Diff(tt.want, MappedEntry(mapping("x", tt.uuid, "0"), s)); diff != "" {
			t.Errorf("%s: entry (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestFinderByMapper finds the root by its name, once it has a table.
func TestFinderByMapper(t *testing.T) {
	t.Parallel()
	f := New(mustRef(t, "/dev/mapper/vg-root"), mapping("vg-root", "", "0"))
	dev := Device{Name: "dm-0", DevPath: "/" + dmAt}
	if mustOffer(t, f, dev, holding(nil)) {
		t.Error("a device without a table is taken for the root")
	}
	if !mustOffer(t, f, dev, labelled("")) {
		t.Error("the root is not found")
	}
}

// TestLinksBesideNodes: libdevmapper was there first. Its node is as good as a link if it is of the same device.
func TestLinksBesideNodes(t *testing.T) {
	need.Root(t)
	t.Parallel()
	l, dir := newLinks(t)
	node := func(name string, mode uint32, minor uint32) {
		t.Helper()
		if err := unix.Mknod(filepath.Join(dir, name), mode|0o600, int(unix.Mkdev(254, minor))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "mapper"), 0o755); err != nil {
		t.Fatal(err)
	}
	node("dm-0", unix.S_IFBLK, 0)
	node("mapper/same", unix.S_IFBLK, 0)
	node("mapper/other", unix.S_IFBLK, 1)
	node("mapper/char", unix.S_IFCHR, 0)
	if err := l.Set("dm-0", []string{"mapper/same"}); err != nil {
		t.Error(err)
	}
	for _, link := range []string{"mapper/other", "mapper/char"} {
		if err := l.Set("dm-0", []string{link}); err == nil {
			t.Errorf("%s is taken for dm-0", link)
		}
	}
	if err := l.Set("dm-0", nil); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "mapper")); err != nil || len(left) != 3 {
		t.Errorf("left: %v, %v; want the three nodes", left, err)
	}
}
