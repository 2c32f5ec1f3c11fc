package tests

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/nbd"
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

// failing is the kernel's line for a disk that it could not read.
var failing = regexp.MustCompile(`I/O error, dev (vd[a-z])`)

// A hungDisk reads as zeros until somebody asks for its last bytes, as hapax does and the kernel does not. That read hangs.
type hungDisk struct {
	path  string        // of the socket
	asked chan struct{} // closed when the read has begun
	fail  chan struct{} // closed to end it with an error
}

const hungSize = 64 << 20

func newHungDisk(t *testing.T) hungDisk {
	t.Helper()
	dir, err := os.MkdirTemp("", "hapax-nbd-") // the path of a socket is limited to 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	d := hungDisk{filepath.Join(dir, "nbd"), make(chan struct{}), make(chan struct{})}
	var once sync.Once
	l, err := nbd.Serve(d.path, nbd.Disk{Size: hungSize, Read: func(p []byte, off int64) error {
		if off+int64(len(p)) <= hungSize-128<<10 {
			clear(p)
			return nil
		}
		once.Do(func() { close(d.asked) })
		<-d.fail
		return io.ErrUnexpectedEOF
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		os.RemoveAll(dir)
	})
	return d
}

// backend is the disk as QEMU's blockdev-add takes it.
func (d hungDisk) backend() map[string]any {
	return map[string]any{"driver": "nbd", "read-only": true, "server": map[string]any{"type": "unix", "path": d.path}}
}

// TestLateRoot boots beside a disk that fails every read and one with a hostile partition table. A third one hangs while hapax
// reads it and is taken away then, a fourth one hangs for ever. Then the root is plugged in, more than 20 s late: within 100 ms
// of the guest's clock its /sbin/init runs.
func TestLateRoot(t *testing.T) {
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	broken := "driver=blkdebug,node-name=broken,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5," +
		"image.driver=null-co,image.size=67108864"
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, CPUs: 1, Icount: true, Sleep: true, Initrd: image, Disks: []string{hostileGPT(t)},
		Append: bootArgs + "root=UUID=" + rootUUID + " rootwait",
		// Without Sleep, the clock would run ahead to the next timer whenever the host reads for a disk.
		Extra: []string{"-blockdev", broken, "-device", "virtio-blk-pci,drive=broken,serial=broken"},
	}})
	if _, err := v.WaitLine(time.Minute, "waiting for root=UUID="+rootUUID+", 20 s"); err != nil {
		t.Fatal(err)
	}
	plug := func(id string, port int, backend map[string]any) {
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
	gone, dead := newHungDisk(t), newHungDisk(t)
	plug("gone", 0, gone.backend())
	awaitClosed(t, gone.asked)
	if err := v.QMP.Execute(t.Context(), "device_del", map[string]string{"id": "gone"}, nil); err != nil {
		t.Fatal(err)
	}
	// What is read of a disk that has been pulled ends so. Until then the kernel, which waits for it, may hold the lock that
	// the next plug needs.
	close(gone.fail)
	plug("dead", 1, dead.backend())
	defer close(dead.fail)
	awaitClosed(t, dead.asked)
	plug("root", 2, map[string]any{
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
	there, err := strconv.ParseFloat(line[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	took := start.Clock - time.Duration(there*float64(time.Second))
	if took > 100*time.Millisecond {
		t.Errorf("/sbin/init of the root was started %v after its disk was there, want at most 100 ms", took)
	}
	c := client(t, v, time.Minute)
	r := ask[report](t, c, guest.Report, "")
	if r.Root == nil || r.Root.Device != "/dev/"+line[2] || r.Restarts != 0 {
		t.Fatalf("report: root %+v after %d restarts, want /dev/%s after none", r.Root, r.Restarts, line[2])
	}
	log := ask[string](t, c, guest.Dmesg, "")
	if bad := failing.FindStringSubmatch(log); bad == nil {
		t.Error("all disks could be read, though one is to fail")
	} else if !strings.Contains(log, "probe "+bad[1]+": read") {
		t.Errorf("nobody was told that %s cannot be read", bad[1])
	}
	t.Logf("root plugged in at %.2f s, mounted %.1f ms later, its init ran after %v", there, r.Clock.Mounted-there*1000, took)
}

// awaitClosed waits for a signal of a disk.
func awaitClosed(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(2 * time.Minute):
		t.Fatal("hapax does not read the disk that was plugged in")
	}
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
