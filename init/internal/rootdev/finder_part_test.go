package rootdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// gptDisk returns a disk with partitions of these names. Their UUIDs are those of partID.
func gptDisk(names ...string) []byte {
	return backupGPT(func(h, e []byte) {
		for i, name := range names {
			e := e[i*gptEntry:]
			copy(e, "type of the part")
			copy(e[16:], fmt.Sprintf("partition %6d", i+1))
			binary.LittleEndian.PutUint64(e[32:], uint64(i))
			binary.LittleEndian.PutUint64(e[40:], uint64(i))
			for j, c := range []byte(name) {
				e[56+2*j] = c
			}
		}
	})
}

// partID returns the PARTUUID of partition n of a gptDisk.
func partID(n int) string { return guidString(fmt.Appendf(nil, "partition %6d", n)) }

func partition(name string) Device { return Device{Name: name, Partition: true} }

func TestDeviceParent(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		disk   string
		number int
	}{
		"vda1": {"vda", 1}, "sdaa12": {"sdaa", 12}, "nvme0n1p2": {"nvme0n1", 2}, "mmcblk0p10": {"mmcblk0", 10}, "loop3p1": {"loop3", 1},
		"cciss/c0d0p3": {"cciss/c0d0", 3}, "sdp1": {"sdp", 1}, "md127p1": {"md127", 1}, "vda": {}, "p1": {"p", 1}, "x99999999999999999999": {},
	} {
		if disk, n := partition(name).parent(); disk != want.disk || n != want.number {
			t.Errorf("%s is partition %d of %q, want %d of %q", name, n, disk, want.number, want.disk)
		}
		if disk, n := named(name).parent(); disk != "" || n != 0 {
			t.Errorf("disk %s is partition %d of %q", name, n, disk)
		}
	}
}

// TestFinderPartition offers a disk and its partitions in every order: the Offer that makes the match known
// reports it, once.
func TestFinderPartition(t *testing.T) {
	t.Parallel()
	devices := []Device{named("nvme0n1"), partition("nvme0n1p1"), partition("nvme0n1p2"), partition("nvme0n1p3")}
	open := map[string]Opener{
		"nvme0n1":   holding(gptDisk("esp", "root a", "home")),
		"nvme0n1p1": labelled(""), "nvme0n1p2": holding(make([]byte, 4096)), "nvme0n1p3": labelled("home"),
	}
	for _, tt := range []struct{ ref, want string }{
		{"PARTUUID=" + partID(2), "nvme0n1p2"},
		{"PARTUUID=" + partID(2) + "/PARTNROFF=1", "nvme0n1p3"},
		{"PARTUUID=" + partID(2) + "/PARTNROFF=-1", "nvme0n1p1"},
		{"PARTUUID=" + partID(3) + "/PARTNROFF=1", ""},
		{"PARTLABEL=root a", "nvme0n1p2"},
		{"PARTLABEL=root", ""},
		{"PARTUUID=" + partID(4), ""},
		{"LABEL=home", "nvme0n1p3"},
	} {
		for first := range devices {
			f := New(mustRef(t, tt.ref), nil)
			matches := 0
			for i := range devices {
				d := devices[(first+i)%len(devices)]
				match, err := f.Offer(d, open[d.Name])
				if err != nil {
					t.Fatalf("%s: Offer(%s): %v", tt.ref, d.Name, err)
				}
				if match {
					matches++
				}
			}
			root, ok := f.Root()
			if root.Name != tt.want || ok != (tt.want != "") || matches != len(tt.want)/max(1, len(tt.want)) {
				t.Errorf("%s from %s on: root %q, %d matches; want %q", tt.ref, devices[first].Name, root.Name, matches, tt.want)
			}
		}
	}
}

func TestFinderPartitionSeen(t *testing.T) {
	t.Parallel()
	f := New(mustRef(t, "PARTLABEL=same"), nil)
	offer := func(d Device, o Opener, want string) {
		t.Helper()
		match, err := f.Offer(d, o)
		if got := fmt.Sprint(match, " ", err); got != want {
			t.Errorf("Offer(%s): %s, want %s", d.Name, got, want)
		}
	}
	dup := &DuplicateError{Ref{Kind: ByPartLabel, Value: "same"}, "vda1", ""}
	twin := func(name string) string { dup.Second = name; return "false " + dup.Error() }
	offer(partition("vda1"), labelled("x"), "false <nil>")
	offer(partition("vda3"), failing(syscall.EIO), "false probe vda3: input/output error")
	offer(named("vda"), holding(gptDisk("same", "same", "same")), "true <nil>")
	offer(partition("vda2"), labelled(""), twin("vda2"))
	offer(partition("vda9"), labelled("none"), "false <nil>") // not in the table
	offer(partition("vdb1"), labelled(""), "false <nil>")
	offer(named("vdb"), holding(gptDisk("same")), twin("vdb1"))
	want := []string{
		"vda: 131072 bytes, gpt partition table",
		"vda1: 4096 bytes, ext4, UUID=" + testUUIDText + ", LABEL=x, PARTUUID=" + partID(1) + ", PARTLABEL=same",
		"vda2: 4096 bytes, ext4, UUID=" + testUUIDText + ", PARTUUID=" + partID(2) + ", PARTLABEL=same, duplicate",
		"vda3: 0 bytes: input/output error, PARTUUID=" + partID(3) + ", PARTLABEL=same",
		"vda9: 4096 bytes, ext4, UUID=" + testUUIDText + ", LABEL=none",
		"vdb: 131072 bytes, gpt partition table",
		"vdb1: 4096 bytes, ext4, UUID=" + testUUIDText + ", PARTUUID=" + partID(1) + ", PARTLABEL=same, duplicate",
	}
	if diff := cmp.Diff(want, lines(f)); diff != "" {
		t.Errorf("Seen differs (-want +got):\n%s", diff)
	}
	seen := f.Seen()
	if table := seen[0].Table(); table == nil || len(table.Parts) != 3 || seen[1].Table() != nil || seen[1].Scheme != tableGPT || seen[4].Scheme != "" {
		t.Errorf("tables of the disk and its partitions: %+v", table)
	}
	f.Remove("vda1")
	offer(partition("vdb1"), labelled(""), "true <nil>")
}

func TestFinderDevno(t *testing.T) {
	t.Parallel()
	f := New(mustRef(t, "8:2"), nil)
	for minor, want := range []bool{false, false, true} {
		d := Device{Name: fmt.Sprintf("sda%d", minor), Devno: Devno{8, uint32(minor)}, Partition: true}
		if match, err := f.Offer(d, holding(make([]byte, 512))); match != want || err != nil {
			t.Errorf("%s: %v, %v", d.Name, match, err)
		}
	}
}

// TestFinderAmbiguous: what has two signatures is the root only if its name was given, not one of its labels.
func TestFinderAmbiguous(t *testing.T) {
	t.Parallel()
	dev := make([]byte, 2*mib)
	copy(dev, ext4Super().device())
	copy(dev[4086:], "SWAP-SPACE")
	for ref, want := range map[string]bool{"/dev/vda": true, "UUID=" + testUUIDText: false} {
		f := New(mustRef(t, ref), nil)
		match, err := f.Offer(named("vda"), holding(dev))
		var dup *DuplicateError
		if match != want || !errors.Is(err, ErrAmbiguous) || errors.As(err, &dup) {
			t.Errorf("%s: %v, %v", ref, match, err)
		}
		if got, want := lines(f)[0], "vda: 2097152 bytes: swap, ext4: more than one signature; remove the stale one with wipefs"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
