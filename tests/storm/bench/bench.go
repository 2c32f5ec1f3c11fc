// Package bench boots the guests of the storm bench: one for each kernel, number of processors and contender, all with the
// same image, devices and memory.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/storm/report"
)

// A Kernel is a kernel under the name that the report gives it.
type Kernel struct {
	Name string
	debian.Kernel
	USB bool // its modules drive USB; Debian's cloud kernels have none
}

// A Case is one guest.
type Case struct {
	Kernel    Kernel
	CPUs      int
	Contender string   // of package guest
	Order     []string // for the oracle: the modules in the order in which they are inserted
	Pokes     int      // for hapax: "add" written to the uevent files of processors, after it has settled
	HotPlugs  int      // for hapax: devices that are added and removed after that
}

// A Bench runs cases.
type Bench struct {
	Lab   *lab.Lab
	Hapax string     // the host command that builds hapax's image; "" for the one of this tree
	Accel qemu.Accel // "" is TCG
	Count bool       // the guest's clock counts instructions instead of time, so that a busy host does not change it; TCG only
	Args  string     // more for the kernel command line, the same for all contenders
	Logs  string     // folder for the consoles of guests that failed
}

// role is the part that the guest plays.
func (c Case) role() string {
	if c.Contender == guest.Control {
		return guest.Hapax
	}
	return c.Contender
}

// MemoryMiB is what a guest gets: udevd starts one worker for each 128 MiB at most, so less would hold it back.
func MemoryMiB(cpus int) int { return min(max(128*cpus, 4<<10), 16<<10) }

// machine returns the guest of a case. Its devices are those that the kernels have drivers for, and none that appears only
// some time after its controller's driver, which would make "settled" mean something else for each contender.
func (b *Bench) machine(c Case, image string) qemu.Machine {
	null := func(name string) string {
		return "driver=null-co,read-zeroes=on,size=67108864,node-name=" + name
	}
	m := qemu.Machine{
		Kernel: c.Kernel.Vmlinuz, Initrd: image, CPUs: c.CPUs, MemoryMiB: MemoryMiB(c.CPUs), Accel: b.Accel,
		// Without Sleep, the clock would run ahead to the next timer while the host still works for a device.
		Icount: b.Count, Sleep: b.Count,
		Append: guest.StormArgs + "hapax.timeout=infinity guest_role=" + guest.StormRole + c.role() + " " + b.Args,
		Extra: []string{
			"-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0",
			"-blockdev", null("vd"), "-device", "virtio-blk-pci,drive=vd",
			"-blockdev", null("nv"), "-device", "nvme,drive=nv,serial=hapax",
			"-blockdev", null("sa"), "-device", "ide-hd,bus=ide.0,drive=sa",
			"-device", "virtio-scsi-pci,id=scsi0", "-blockdev", null("sc"), "-device", "scsi-hd,bus=scsi0.0,drive=sc",
			"-device", "virtio-balloon-pci", "-device", "virtio-serial-pci", "-device", "virtio-rng-pci",
		},
	}
	if c.Kernel.USB {
		m.Extra = append(m.Extra, "-device", "qemu-xhci")
	}
	return m
}

// Limits of host time. Emulated guests of many processors are slow, and none of the contenders is to be cut off.
const (
	guestLimit  = 40 * time.Minute
	settleLimit = 30 * time.Minute
	answerLimit = 5 * time.Minute
)

// Run boots the guest of a case and returns what its contender cost. When it fails, the console's log is kept.
func (b *Bench) Run(ctx context.Context, c Case) (*report.Run, error) {
	image, err := b.Lab.StormImage(ctx, c.Kernel.Kernel, b.Hapax, c.Contender == guest.Control)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	v, err := vm.Start(ctx, vm.Config{Machine: b.machine(c, image), Limit: guestLimit})
	if err != nil {
		return nil, err
	}
	run, err := c.watch(ctx, v)
	if closed := v.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("%s on %s with %d vCPUs: %w%s", c.Contender, c.Kernel.Name, c.CPUs, err, b.keepLog(c, v))
	}
	run.StartedAt, run.HostTime = began.UTC().Truncate(time.Second), time.Since(began).Seconds()
	run.Emulated, run.Counted = b.Accel != qemu.KVM, b.Count
	return run, nil
}

// keepLog saves the console and returns a hint for the error's text.
func (b *Bench) keepLog(c Case, v *vm.VM) string {
	var text strings.Builder
	for _, line := range v.Lines() {
		fmt.Fprintln(&text, line)
	}
	name := fmt.Sprintf("storm-%s-%d-%s.log", c.Kernel.Name, c.CPUs, c.Contender)
	path := filepath.Join(b.Logs, name)
	if os.MkdirAll(b.Logs, 0o755) != nil || os.WriteFile(path, []byte(text.String()), 0o644) != nil {
		return ""
	}
	return " (console: " + path + ")"
}

// watch follows the guest to its end and asks it for all figures.
func (c Case) watch(ctx context.Context, v *vm.VM) (*report.Run, error) {
	client := guest.Client{Console: v, Timeout: answerLimit}
	var took guest.Storm
	if c.role() != guest.Hapax && c.role() != guest.Oracle {
		if err := guest.Await(v, settleLimit, "storm", &took); err != nil {
			return nil, err
		}
	}
	if _, err := v.WaitLine(settleLimit, guest.Ready); err != nil {
		return nil, err
	}
	if c.Contender == guest.Oracle {
		slow := guest.Client{Console: v, Timeout: settleLimit}
		if err := slow.Ask(guest.Insert, strings.Join(c.Order, " "), &took); err != nil {
			return nil, err
		}
	}
	r := &report.Run{
		Kernel: c.Kernel.Name, Release: c.Kernel.Release, CPUs: c.CPUs, Memory: MemoryMiB(c.CPUs), Contender: c.Contender,
		Seconds: took.Took().Seconds(), BootedAt: took.Begun.Seconds(),
	}
	// Before anything else: what the contender leaves behind may be given back after a while.
	if err := client.Ask(guest.Usage, "", &r.Use); err != nil {
		return nil, err
	}
	if err := client.Ask(guest.Quiet, "", nil); err != nil {
		return nil, err
	}
	if c.Contender == guest.Hapax {
		if err := c.disturb(ctx, v, client); err != nil {
			return nil, err
		}
		r.HotPlugs = c.Pokes + c.HotPlugs
	}
	return r, c.collect(client, r)
}

// collect asks for what has been counted so far.
func (c Case) collect(client guest.Client, r *report.Run) error {
	var modules []guest.Module
	var stats string
	for _, q := range []struct {
		command string
		result  any
	}{{guest.Modules, &modules}, {guest.Finit, &r.Trace}, {guest.Stats, &stats}} {
		if err := client.Ask(q.command, "", q.result); err != nil {
			return err
		}
	}
	for _, m := range slices.Backward(modules) { // the kernel names the youngest first
		if m.State == "Live" {
			r.Modules = append(r.Modules, m.Name)
		}
	}
	if err := r.Account(stats); err != nil {
		return err
	}
	if c.role() != guest.Hapax {
		return nil
	}
	var boot struct {
		report.Hapax
		Clock struct{ Engine, Settled float64 } // in ms since boot
	}
	var text json.RawMessage
	if err := client.Ask(guest.Report, "", &text); err != nil {
		return err
	}
	if err := json.Unmarshal(text, &boot); err != nil {
		return fmt.Errorf("boot report: %w", err)
	}
	r.Hapax, r.Boot = &boot.Hapax, text
	r.BootedAt, r.Seconds = boot.Clock.Engine/1000, (boot.Clock.Settled-boot.Clock.Engine)/1000
	return nil
}
