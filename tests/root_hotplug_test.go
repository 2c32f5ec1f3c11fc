package tests

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
)

// hostileGPT makes a disk whose partition table lies about everything that it can lie about, with good checksums: random
// entries, of which the header says that there are as many as can be counted.
func hostileGPT(t *testing.T) string {
	t.Helper()
	img := make([]byte, 1<<20)
	img[450], img[510], img[511] = 0xee, 0x55, 0xaa
	binary.LittleEndian.PutUint32(img[454:], 1)
	binary.LittleEndian.PutUint32(img[458:], 1<<32-1)
	h := img[512:604]
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	binary.LittleEndian.PutUint64(h[24:], 1)
	binary.LittleEndian.PutUint64(h[72:], 2)       // entries
	binary.LittleEndian.PutUint32(h[80:], 1<<32-1) // how many
	binary.LittleEndian.PutUint32(h[84:], 128)
	if _, err := rand.Read(img[1024 : 1024+128*128]); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(img[1024:1024+128*128]))
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	file := filepath.Join(t.TempDir(), "hostile.img")
	if err := os.WriteFile(file, img, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// attached is the kernel's line for the root disk, which is 32 MiB and plugged in last.
var attached = regexp.MustCompile(`\[ *([0-9.]+)\] virtio_blk \S+: \[(vd[a-z])\] 65536 512-byte`)

// TestLateRoot boots beside a disk that fails every read and one with a hostile partition table, takes a third one away
// while its first block is being read, and then plugs in the root. It is mounted within 100 ms of the guest's clock.
func TestLateRoot(t *testing.T) {
	needTime(t)
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	broken := "driver=blkdebug,node-name=broken,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5," +
		"image.driver=null-co,image.size=67108864"
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, CPUs: 1, Icount: true, Initrd: image, Disks: []string{hostileGPT(t)},
		Append: bootArgs + "root=UUID=" + rootUUID + " rootwait",
		Extra:  []string{"-blockdev", broken, "-device", "virtio-blk-pci,drive=broken,serial=broken"},
	}})
	if _, err := v.WaitLine(time.Minute, "waiting for root=UUID="+rootUUID); err != nil {
		t.Fatal(err)
	}
	disk := func(id string, port int, backend map[string]any) {
		t.Helper()
		backend["node-name"] = id
		if err := v.QMP.AddBlock(t.Context(), backend); err != nil {
			t.Fatal(err)
		}
		device := map[string]any{"driver": "virtio-blk-pci", "id": id, "drive": id, "bus": qemu.HotplugPort(port)}
		if err := v.QMP.AddDevice(t.Context(), device); err != nil {
			t.Fatal(err)
		}
	}
	disk("slow", 0, map[string]any{"driver": "null-co", "size": 64 << 20, "latency-ns": 2_000_000_000})
	if _, err := v.WaitLine(time.Minute, "[vdc]"); err != nil { // the kernel reads its partition table
		t.Fatal(err)
	}
	if err := v.QMP.Execute(t.Context(), "device_del", map[string]string{"id": "slow"}, nil); err != nil {
		t.Fatal(err)
	}
	disk("root", 1, map[string]any{
		"driver": "raw", "file": map[string]any{"driver": "file", "filename": rootDisk(t, l, nil).File},
	})
	line, err := v.WaitMatch(time.Minute, attached)
	if err != nil {
		t.Fatal(err)
	}
	var start guest.Start
	if err := guest.Await(v, time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	c := client(t, v, time.Minute)
	r := ask[report](t, c, guest.Report, "")
	if r.Root == nil || r.Root.Device != "/dev/"+line[2] || r.Restarts != 0 {
		t.Fatalf("report: root %+v after %d restarts, want /dev/%s after none", r.Root, r.Restarts, line[2])
	}
	there, err := strconv.ParseFloat(line[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	took := r.Clock.Mounted - there*1000
	if took > 100 {
		t.Errorf("the root was mounted %.0f ms after its disk was there, want at most 100", took)
	}
	if log := ask[string](t, c, guest.Dmesg, ""); !strings.Contains(log, "probe vdb: read") {
		t.Error("nobody was told that vdb cannot be read")
	}
	t.Logf("root plugged in at %.2f s, mounted %.1f ms later", there, took)
}

// TestTwinRoots boots with two disks of the same UUID. The first is the root, the second is left alone and named.
func TestTwinRoots(t *testing.T) {
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: image, Disks: []string{rootDisk(t, l, nil).File, rootDisk(t, l, nil).File},
		Append: bootArgs + "root=UUID=" + rootUUID + " rootdelay=1",
	}})
	var start guest.Start
	if err := guest.Await(v, time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	c := client(t, v, time.Minute)
	r := ask[report](t, c, guest.Report, "")
	if r.Root == nil {
		t.Fatal("report: no root")
	}
	other := map[string]string{"/dev/vda": "vdb", "/dev/vdb": "vda"}[r.Root.Device]
	want := fmt.Sprintf("%s is UUID=%s too", other, rootUUID)
	if log := ask[string](t, c, guest.Dmesg, ""); !strings.Contains(log, want) {
		t.Errorf("the log does not say that %s", want)
	}
	t.Logf("root on %s, %s left alone", r.Root.Device, other)
}
