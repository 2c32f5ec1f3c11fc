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
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// BenchmarkImage prints the table of docs/bench-image.md, or the rows that -bench=Image/xz/keep names: for each compression of
// the image and each packing of the modules, its size, what it takes to build, and how long a machine with one CPU, one
// nanosecond for each instruction, needs for it until /sbin/init of an ext4 root runs, above what it needs for a null /init.
func BenchmarkImage(b *testing.B) {
	t, err := newImageTable(b)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\n%s: floor %.2f s, with firmware and stick %.2f s\n\n",
		t.kernel.Release, t.floor.Seconds(), t.stickFloor.Seconds())
	fmt.Println("| image | modules | size | processor time of the build | above the floor | the same from a USB stick |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, v := range variants() {
		flags := []string{"--compression", string(v.image), "--module-compression", string(v.modules)}
		b.Run(fmt.Sprintf("%s/%s", v.image, v.modules), func(b *testing.B) {
			for b.Loop() {
				file, build := t.build(b, flags...)
				info, err := os.Stat(file)
				if err != nil {
					b.Fatal(err)
				}
				above := t.memory(b, file, "") - t.floor
				slow := t.stick(b, "", flags...) - t.stickFloor
				fmt.Printf("| %s | %s | %.1f MB | %.1f s | %.2f s | %.2f s |\n", v.image, v.modules, float64(info.Size())/1e6,
					build.Seconds(), above.Seconds(), slow.Seconds())
			}
		})
	}
}

// An imageTable is what all rows have in common: the kernel, whose modules are packed, so that every packing is another one,
// and the machine.
type imageTable struct {
	lab     *lab.Lab
	hapax   string
	kernel  debian.Kernel
	efi     lab.EFI
	machine qemu.Machine

	floor, stickFloor time.Duration // of a null /init
}

func newImageTable(b *testing.B) (*imageTable, error) {
	l, err := openLab()
	if err != nil {
		return nil, err
	}
	t := &imageTable{lab: l}
	if t.hapax, err = l.Hapax(b.Context()); err != nil {
		return nil, err
	}
	if t.kernel, err = l.Kernel(b.Context(), lab.Kernels()[1]); err != nil {
		return nil, err
	}
	if t.efi, err = l.EFI(b.Context()); err != nil {
		return nil, err
	}
	init, err := l.Guest(b.Context())
	if err != nil {
		return nil, err
	}
	null, err := l.NullImage(b.Context())
	if err != nil {
		return nil, err
	}
	// It polls while it waits for its disk: see BenchmarkBoot.
	t.machine = qemu.Machine{
		Icount: true, Disks: []string{rootDisk(b, l, nil).File}, Append: "console=ttyS0 quiet idle=poll root=UUID=" + rootUUID,
	}
	const role = " guest_role=null"
	t.floor = t.memory(b, null, role)
	t.stickFloor = t.stick(b, role, "--mode", "custom", "--init", init)
	return t, nil
}

// build builds an image of the kernel and returns it with the processor time that it took.
func (t *imageTable) build(b *testing.B, flags ...string) (string, time.Duration) {
	b.Helper()
	file := filepath.Join(b.TempDir(), "image")
	cmd := exec.CommandContext(b.Context(), t.hapax, append([]string{"build", "--modules-dir", t.kernel.ModulesDir, file}, flags...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return file, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// memory returns the kernel's clock at /sbin/init, or at the null /init, with an initramfs that QEMU has put into memory, as if
// reading it took no time: the middle one of several boots.
func (t *imageTable) memory(b *testing.B, initrd, args string) time.Duration {
	b.Helper()
	m := withInitrd(t.machine, initrd, args)
	m.Kernel = t.kernel.Vmlinuz
	return median(b, t.lab, contender{name: "image"}, m).start
}

// stick returns the time from power-on until there with a disk image of these flags on a USB 2 stick, which the firmware reads
// by its own driver. It is as repeatable as the rest, for the controller's frames have the machine's clock.
func (t *imageTable) stick(b *testing.B, args string, flags ...string) time.Duration {
	b.Helper()
	m := t.machine
	file, _ := t.build(b, append([]string{"--format", "disk", "--kernel", t.kernel.Vmlinuz, "--stub", t.efi.Stub,
		"--cmdline", m.Append + args}, flags...)...)
	m = withFirmware(b, m, t.efi.Code, t.efi.Vars)
	m.Append = "" // the image has it
	m.Extra = []string{"-drive", "if=none,id=stick,format=raw,file=" + file, "-device", "usb-ehci,id=usb",
		"-device", "usb-storage,bus=usb.0,drive=stick,bootindex=0"}
	v := vm.Run(b, t.lab.Logs(), vm.Config{Name: "stick", Machine: m, Limit: 8 * time.Minute})
	defer v.Close()
	var start guest.Start
	if err := guest.Await(v, 8*time.Minute, "start", &start); err != nil {
		b.Fatal(err)
	}
	return time.Duration(start.TSC) * time.Nanosecond
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
