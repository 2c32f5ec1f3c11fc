// Package qemu describes x86-64 QEMU guests as argument vectors and finds out which accelerator this host can use.
//
// It starts no guest by itself (but for the trial of ProbeAccel): `hapax run` gives the arguments to exec, the test
// harness to a child that it watches.
package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

// Binary is the name of the emulator that the arguments are meant for, to be looked up in PATH.
// Debian's package is qemu-system-x86.
const Binary = "qemu-system-x86_64"

// HotplugPorts is the number of empty PCI Express root ports of a Machine. The root bus of q35 takes no device at run
// time, so device_add has to name one of these ports (see HotplugPort).
const HotplugPorts = 4

// SerialTerminal is the default Machine.Serial: the terminal carries the serial console and, behind Ctrl-A c, QEMU's
// monitor. Ctrl-A x ends the guest; Ctrl-C goes to the guest.
const SerialTerminal = "stdio,mux=on,signal=off"

// An Accel is the way in which a guest's instructions are executed.
type Accel string

// The accelerators that a Machine knows.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// A Machine is one guest: a q35 board with every CPU feature the accelerator offers, started from a kernel file without
// firmware menus, whose only outputs are the serial line and, if asked for, a QMP socket. Its reset ends QEMU.
//
// The zero value of a field is usable except for Kernel: one CPU, 1 GiB, TCG, the terminal. With a Firmware, Kernel may be
// left out, too: then the firmware looks for a boot loader on the disks.
type Machine struct {
	Kernel    string // bzImage or PVH ELF file
	Firmware  string // UEFI firmware, such as OVMF_CODE_4M.fd; "" is QEMU's BIOS
	Variables string // what Firmware keeps, writable: a copy of OVMF_VARS_4M.fd
	Initrd    string // initramfs; "" for none
	Append    string // kernel command line, as one string
	CPUs      int
	MemoryMiB int
	Accel     Accel
	Icount    bool     // deterministic clock, 1 ns per instruction; TCG only
	Sleep     bool     // with Icount: while no instruction runs, the clock follows the host's, else it skips to the next timer
	OneThread bool     // emulated processors take turns in one thread of QEMU, however many cores the host has
	Disks     []string // raw images or block devices, writable, in the order vda, vdb, ...
	Serial    string   // chardev backend without id, such as "stdio" or "socket,path=/tmp/s,server=on,wait=off"
	QMP       string   // path of a unix socket on which QEMU listens; "" for none
	Extra     []string // arguments appended as they are, such as "-device", "nvme,..."
}

// HotplugPort returns the bus name of the empty root port i, 0 <= i < HotplugPorts, for QMP's device_add.
func HotplugPort(i int) string { return "hotplug" + strconv.Itoa(i) }

// Args returns the arguments that follow the binary's name. It looks at no file: QEMU itself reports a missing one.
func (m Machine) Args() ([]string, error) { return m.args(runtime.NumCPU()) }

func (m Machine) args(hostCPUs int) ([]string, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	cpus := max(m.CPUs, 1)
	memory := m.MemoryMiB
	if memory == 0 {
		memory = 1024
	}
	args := []string{
		"-no-user-config", "-nodefaults", "-no-reboot", "-display", "none",
		"-M", "q35", "-cpu", "max",
		"-accel", m.accelerator(cpus, hostCPUs),
		"-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(memory) + "M",
	}
	if m.Icount {
		sleep := "off"
		if m.Sleep {
			sleep = "on"
		}
		args = append(args, "-icount", "shift=0,sleep="+sleep)
	}
	if m.Firmware != "" {
		args = append(args, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+escape(m.Firmware),
			"-drive", "if=pflash,unit=1,format=raw,file="+escape(m.Variables))
	}
	if m.Kernel != "" {
		args = append(args, "-kernel", m.Kernel)
	}
	if m.Initrd != "" {
		args = append(args, "-initrd", m.Initrd)
	}
	if m.Append != "" {
		args = append(args, "-append", m.Append)
	}
	args = append(args, m.consoles()...)
	for i := range HotplugPorts {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=%s,chassis=%d,slot=%d", HotplugPort(i), i+1, i+1))
	}
	for i, file := range m.Disks {
		disk, err := diskArgs("disk"+strconv.Itoa(i), file)
		if err != nil {
			return nil, err
		}
		args = append(args, disk...)
	}
	return append(args, m.Extra...), nil
}

// check refuses what QEMU would accept and then do something else with.
func (m Machine) check() error {
	switch {
	case m.Kernel == "" && m.Firmware == "":
		return errors.New("no kernel given: name a kernel image")
	case (m.Firmware == "") != (m.Variables == ""):
		return errors.New("UEFI firmware needs a file for its variables, and the other way round")
	case m.CPUs < 0 || m.MemoryMiB < 0:
		return fmt.Errorf("%d CPUs and %d MiB: neither can be negative", m.CPUs, m.MemoryMiB)
	case m.Accel != "" && m.Accel != KVM && m.Accel != TCG:
		return fmt.Errorf("unknown accelerator %q: use kvm or tcg", m.Accel)
	case m.Sleep && !m.Icount:
		return errors.New("only a counted clock can be told to sleep")
	case m.Icount && m.Accel == KVM:
		return errors.New("a counted clock needs tcg: kvm runs at the speed of the host")
	}
	return nil
}

// accelerator picks TCG's threading. With more virtual CPUs than host cores, one thread that runs them in turn beats
// many that wait for each other's cross-CPU calls (64 vCPUs on 2 cores: 10 s against 67 s), and a counted clock
// allows no other.
func (m Machine) accelerator(cpus, hostCPUs int) string {
	switch {
	case m.Accel == KVM:
		return "kvm"
	case m.Icount || m.OneThread || cpus > hostCPUs:
		return "tcg,thread=single"
	default:
		return "tcg,thread=multi"
	}
}

// consoles connects the first serial port, and the monitors that were asked for.
func (m Machine) consoles() []string {
	serial := m.Serial
	if serial == "" {
		serial = SerialTerminal
	}
	kind, options, _ := strings.Cut(serial, ",")
	chardev := kind + ",id=serial0"
	if options != "" {
		chardev += "," + options
	}
	args := []string{"-chardev", chardev, "-serial", "chardev:serial0"}
	if strings.Contains(options, "mux=on") {
		args = append(args, "-mon", "chardev=serial0,mode=readline")
	}
	if m.QMP != "" {
		args = append(args, "-qmp", "unix:"+escape(m.QMP)+",server=on,wait=off")
	}
	return args
}

// diskArgs returns a virtio-blk disk over a raw file. The JSON form is used because the short forms read a file name
// with a colon as a protocol and one with a comma as an option.
func diskArgs(id, file string) ([]string, error) {
	type blockFile struct {
		Driver   string `json:"driver"`
		Filename string `json:"filename"`
	}
	node, err := json.Marshal(struct {
		Driver string    `json:"driver"`
		Name   string    `json:"node-name"`
		File   blockFile `json:"file"`
	}{"raw", id, blockFile{"file", file}})
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", file, err)
	}
	return []string{"-blockdev", string(node), "-device", "virtio-blk-pci,drive=" + id}, nil
}

// escape doubles the commas of a value, which end an option otherwise.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
