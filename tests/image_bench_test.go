package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"hapax/image"
	"hapax/image/archive"
	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// slowDisk is what a boot loader reads an image from in the last column of the table: a memory card, or the firmware's
// driver for a disk.
const slowDisk = 20e6 // bytes a second

// BenchmarkImage prints the table of docs/bench-image.md, or the rows that -bench=Image/xz/keep names: for each compression of
// the image and each packing of the modules, its size, what it takes to build, and the guest's clock at /sbin/init of an ext4
// root, above that of a null /init. One CPU, one nanosecond for each instruction.
func BenchmarkImage(b *testing.B) {
	l, err := openLab()
	if err != nil {
		b.Fatal(err)
	}
	hapax, err := l.Hapax(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	null, err := l.NullImage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	root := rootDisk(b, l, nil).File
	k, err := l.Kernel(b.Context(), lab.Kernels()[1]) // whose modules are packed, so that every packing is another one
	if err != nil {
		b.Fatal(err)
	}
	machine := qemu.Machine{
		Kernel: k.Vmlinuz, Icount: true, Disks: []string{root}, Append: "console=ttyS0 quiet root=UUID=" + rootUUID,
	}
	floor := clock(b, l, withInitrd(machine, null, " guest_role=null"))
	fmt.Printf("\n%s, floor %.2f s\n\n", k.Release, floor.Seconds())
	fmt.Println("| image | modules | size | processor time of the build | above the floor | with 20 MB/s to read it |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, v := range variants() {
		b.Run(fmt.Sprintf("%s/%s", v.image, v.modules), func(b *testing.B) {
			for b.Loop() {
				file := filepath.Join(b.TempDir(), "image")
				cmd := exec.CommandContext(b.Context(), hapax, "build", "--force", "--modules-dir", k.ModulesDir,
					"--compression", string(v.image), "--module-compression", string(v.modules), file)
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				info, err := os.Stat(file)
				if err != nil {
					b.Fatal(err)
				}
				above := clock(b, l, withInitrd(machine, file, "")) - floor
				build := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				fmt.Printf("| %s | %s | %.1f MB | %.1f s | %.2f s | %.2f s |\n", v.image, v.modules, float64(info.Size())/1e6,
					build.Seconds(), above.Seconds(), above.Seconds()+float64(info.Size())/slowDisk)
			}
		})
	}
}

// A variant is one line of the table.
type variant struct {
	image   archive.Compression
	modules image.Packing
}

// variants returns what is worth a line: where the modules are packed with zstd, nothing is left to compress.
func variants() []variant {
	var all []variant
	for _, packing := range []image.Packing{image.KeepPacking, image.PlainFiles} {
		for _, compression := range archive.Compressions() {
			all = append(all, variant{compression, packing})
		}
	}
	return append(all, variant{archive.LZ4, image.ZstdFiles}, variant{archive.None, image.ZstdFiles})
}

// clock boots the machine and returns what the guest program's clock showed.
func clock(b *testing.B, l *lab.Lab, m qemu.Machine) time.Duration {
	b.Helper()
	v := vm.Run(b, l.Logs(), vm.Config{Name: "image", Machine: m})
	defer v.Close()
	var start guest.Start
	if err := guest.Await(v, 2*time.Minute, "start", &start); err != nil {
		b.Fatal(err)
	}
	return start.Clock
}
