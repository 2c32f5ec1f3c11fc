package qemu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// trialLimit is how long the trial guest may take. It runs six instructions: anything above a second is a hang.
const trialLimit = 5 * time.Second

// A prober asks the host for an accelerator. Its fields are the places that it looks at, so that tests can be any host.
type prober struct {
	cpuinfo string // text form of /proc/cpuinfo
	device  string // KVM's device node
	trial   func(ctx context.Context, a Accel) error
}

// ProbeAccel turns want ("auto", "kvm" or "tcg"; "" is auto) into an accelerator that works here, with a reason fit
// for a log line. KVM is believed only after a guest has run under it: /dev/kvm may open on a host that then aborts
// or stops at the first FPU instruction, as nested hosts do. With "kvm" the same findings are an error; "auto" falls back
// to TCG. The call takes up to five seconds on a host whose KVM hangs, and ends early with ctx.
func ProbeAccel(ctx context.Context, want string) (Accel, string, error) {
	p := prober{cpuinfo: "/proc/cpuinfo", device: "/dev/kvm", trial: runTrial}
	return p.probe(ctx, want)
}

func (p prober) probe(ctx context.Context, want string) (Accel, string, error) {
	switch want {
	case "tcg":
		return TCG, "asked for", nil
	case "kvm", "auto", "":
	default:
		return "", "", fmt.Errorf("unknown accelerator %q: use auto, kvm or tcg", want)
	}
	err := p.checkKVM(ctx)
	switch {
	case err == nil:
		return KVM, "a trial guest ran", nil
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case want == "kvm":
		return "", "", fmt.Errorf("kvm does not work here (use tcg): %w", err)
	}
	return TCG, "no kvm: " + err.Error(), nil
}

// checkKVM returns nil if KVM runs a guest on this host, else the first thing that is in its way.
func (p prober) checkKVM(ctx context.Context) error {
	capable, err := hasVirtualization(p.cpuinfo)
	if err != nil {
		return err
	}
	if !capable {
		return fmt.Errorf("%s shows neither vmx nor svm", p.cpuinfo)
	}
	dev, err := os.OpenFile(p.device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := dev.Close(); err != nil {
		return err
	}
	return p.trial(ctx, KVM)
}

// hasVirtualization reports whether the first "flags" line of a cpuinfo file names vmx (Intel) or svm (AMD).
func hasVirtualization(cpuinfo string) (bool, error) {
	f, err := os.Open(cpuinfo)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == "flags" {
			flags := strings.Fields(value)
			return slices.Contains(flags, "vmx") || slices.Contains(flags, "svm"), nil
		}
	}
	return false, lines.Err()
}

// The trial guest writes trialCode to an isa-debug-exit port, which makes QEMU exit with 2*trialCode+1.
const (
	trialPort = 0xf4
	trialCode = 0x10
	trialExit = 2*trialCode + 1
)

// trialFirmware is a 64 KiB ROM whose reset vector initialises the FPU and leaves through the debug port. It stands for
// a kernel because it needs no file, yet meets both ways in which a broken KVM was seen to fail.
func trialFirmware() []byte {
	const size, resetVector = 64 << 10, 0xfff0
	rom := bytes.Repeat([]byte{0xf4}, size) // hlt: a guest that strays stops
	copy(rom[resetVector:], []byte{
		0xdb, 0xe3, // fninit
		0xb0, trialCode, // mov $trialCode, %al
		0xe6, trialPort, // out %al, $trialPort
		0xf4, // hlt
	})
	return rom
}

// runTrial boots trialFirmware under a and returns nil if it came to its end.
func runTrial(ctx context.Context, a Accel) error {
	dir, err := os.MkdirTemp("", "hapax-trial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	rom := filepath.Join(dir, "rom")
	if err := os.WriteFile(rom, trialFirmware(), 0o600); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, Binary,
		"-no-user-config", "-nodefaults", "-no-reboot", "-display", "none",
		"-M", "q35", "-cpu", "max", "-accel", string(a), "-m", "16M", "-bios", rom,
		"-device", "isa-debug-exit,iobase="+strconv.Itoa(trialPort)+",iosize=1")
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the trial guest hung for %v", trialLimit)
	case errors.As(err, &exit) && exit.ExitCode() == trialExit:
		return nil
	case err == nil:
		return errors.New("the trial guest ended without its exit code")
	}
	return fmt.Errorf("the trial guest failed: %w%s", err, firstLine(output))
}

// firstLine returns ": " and the first line of what QEMU said, or "" if it said nothing.
func firstLine(output []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	if line == "" {
		return ""
	}
	return ": " + line
}
