package rootdev

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// mustOffer offers a device that can be read.
func mustOffer(t *testing.T, f *Finder, dev Device, open Opener) bool {
	t.Helper()
	match, err := f.Offer(dev, open)
	if err != nil {
		t.Fatal(err)
	}
	return match
}

// TestFinderByLink finds what only its place in sysfs or its serial number names.
func TestFinderByLink(t *testing.T) {
	t.Parallel()
	sys := fstest.MapFS{
		"devices/x/block/vda/uevent":      {Data: []byte("DEVTYPE=disk\n")},
		"devices/x/block/vda/serial":      {Data: []byte("My_Disk")},
		"devices/x/block/vda/vda2/uevent": {Data: []byte("DEVTYPE=partition\n")},
	}
	f := New(mustRef(t, "/dev/disk/by-id/virtio-My_Disk-part2"), sys)
	disk := Device{Name: "vda", DevPath: "/devices/x/block/vda", Diskseq: "9"}
	part := Device{Name: "vda2", DevPath: "/devices/x/block/vda/vda2", Partition: true}
	if mustOffer(t, f, disk, labelled("")) {
		t.Error("the disk is taken for its partition")
	}
	if !mustOffer(t, f, part, labelled("")) {
		t.Error("the partition is not found")
	}
	ref, err := ParseResume("/dev/disk/by-diskseq/9")
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := f.Lookup(ref); !ok || s.Name != "vda" {
		t.Errorf("Lookup = %v, %v; want vda", s.Name, ok)
	}
	if _, ok := New(ref, nil).Lookup(ref); ok {
		t.Error("something is found among no devices")
	}
	if diff := cmp.Diff([]string{"vda2"}, f.Partitions("vda")); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

// swapSpace returns swap space with a UUID, or the image of a hibernated system in it.
func swapSpace(signature string) []byte {
	b := make([]byte, 64<<10)
	copy(b[os.Getpagesize()-10:], signature)
	b[1024], b[1028] = 1, 15
	copy(b[1036:], bytes.Repeat([]byte{0xab}, 16))
	return b
}

// TestLookupSwap finds swap space by its UUID, which cannot be the root.
func TestLookupSwap(t *testing.T) {
	t.Parallel()
	const uuid = "abababab-abab-abab-abab-abababababab"
	f := New(mustRef(t, "UUID="+uuid), nil)
	if mustOffer(t, f, named("vdb"), holding(swapSpace("S1SUSPEND"))) {
		t.Error("swap space is taken for the root")
	}
	ref, err := ParseResume("UUID=" + uuid)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := f.Lookup(ref); !ok || s.Name != "vdb" || s.Type != "swsuspend" {
		t.Errorf("Lookup = %v, %v; want swsuspend on vdb", s, ok)
	}
}

func TestHibernated(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	asleep, awake := swapSpace("S1SUSPEND"), swapSpace("SWAPSPACE2")
	file := append(make([]byte, 3*page), asleep...)
	for _, tt := range []struct {
		name   string
		data   []byte
		offset uint64
		want   bool
		fails  bool
	}{
		{"hibernated", asleep, 0, true, false},
		{"swap space", awake, 0, false, false},
		{"a swap file", file, 3, true, false},
		{"not where it begins", file, 2, false, false},
		{"behind the end", awake, 1 << 20, false, true},
		{"no offset at all", awake, 1<<63 - 1, false, true},
		{"nothing", nil, 0, false, true},
	} {
		got, err := Hibernated(bytes.NewReader(tt.data), tt.offset)
		if got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}

// TestRemoveReturnsDuplicates gives back who can be the root now.
func TestRemoveReturnsDuplicates(t *testing.T) {
	t.Parallel()
	f := New(mustRef(t, "LABEL=root"), nil)
	mustOffer(t, f, named("vda"), labelled("root"))
	for _, name := range []string{"vdc", "vdb"} {
		if match, err := f.Offer(named(name), labelled("root")); match || err == nil {
			t.Errorf("%s: match %v, error %v; want a duplicate", name, match, err)
		}
	}
	if again := f.Remove("vdb"); again != nil {
		t.Errorf("after a duplicate went: %v", again)
	}
	if diff := cmp.Diff([]Device{named("vdc")}, f.Remove("vda")); diff != "" {
		t.Errorf("duplicates (-want +got):\n%s", diff)
	}
	if !mustOffer(t, f, named("vdc"), labelled("root")) {
		t.Error("the duplicate does not become the root")
	}
}

// TestFinderGPTAuto finds the root partition of the disk that the loader is on.
func TestFinderGPTAuto(t *testing.T) {
	t.Parallel()
	esp, root := partID(1), RootType(runtime.GOARCH)
	disk := &Seen{Device: named("vda"), table: &Table{Type: tableGPT, Parts: []Part{
		{Number: 1, UUID: esp, Type: TypeESP}, {Number: 2, Type: root, Name: "v1"}, {Number: 3, Type: root, Name: "v2"},
	}}}
	for boot, want := range map[string]string{esp: "vda3", strings.ToUpper(esp): "vda3", partID(9): ""} {
		f := New(Ref{Kind: ByGPTAuto, Value: boot}, nil)
		f.seen["vda"] = disk
		got := ""
		for _, name := range []string{"vda1", "vda2", "vda3"} {
			if mustOffer(t, f, partition(name), labelled("")) {
				got = name
			}
		}
		if got != want {
			t.Errorf("loader on %s: root %q, want %q", boot, got, want)
		}
	}
}
