package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"hapax/image/qemu"
)

// Defaults of `hapax run` in a clone in which `make run` has built an image and fetched a kernel.
const (
	clonedImage    = "build/universal.img"
	kernelVariable = "HAPAX_KERNEL"
)

// baseAppend makes the terminal the console of the guest.
const baseAppend = "console=ttyS0"

// killDelay is how long QEMU may take to end after SIGTERM.
const killDelay = 2 * time.Second

// bootFlags are the flags of `hapax run`.
type bootFlags struct {
	kernel, append, accel string
	firmware, variables   string
	cpus, memory          int // memory in MiB
	disks                 []string
	timeout               time.Duration
	dryRun                bool
}

func newRun() *cobra.Command {
	b := bootFlags{cpus: 2, memory: 1024}
	cmd := &cobra.Command{
		Use:   "run [flags] [IMAGE]",
		Short: "Boot an image in QEMU on this terminal",
		Long: `Boot an image in QEMU with its serial console on this terminal. Ctrl-A x ends the guest.

IMAGE defaults to ` + clonedImage + ` as "make run" builds it. The kernel of an initramfs defaults to the file
that the environment variable ` + kernelVariable + ` names, or else that of the running system in /boot.

Unified kernel images, disks and CDs are started by UEFI firmware (Debian: ovmf) and have their kernel and its command
line inside; that has to say console=ttyS0. What the guest writes to them is forgotten.
The exit code is QEMU's.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return b.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&b.kernel, "kernel", "", "boot the kernel `FILE`")
	flags.StringVar(&b.append, "append", "", "add `WORDS` to the kernel command line, which is \""+baseAppend+"\"; "+
		"of a unified kernel image they take the place")
	flags.StringVar(&b.firmware, "firmware", "", "start with the UEFI firmware `FILE` (default Debian's OVMF where an image needs one)")
	flags.StringVar(&b.variables, "firmware-variables", "", "`FILE` with the variables of the firmware, not changed (default that beside it)")
	flags.Func("smp", "number of virtual CPUs, `N` (default 2)", func(text string) (err error) {
		b.cpus, err = parseCount(text)
		return err
	})
	flags.Func("memory", "`SIZE` of the memory in MiB, or with M or G (default 1G)", func(text string) (err error) {
		b.memory, err = parseMemory(text)
		return err
	})
	flags.StringArrayVar(&b.disks, "disk", nil, "attach the raw disk image `FILE`, writable (repeatable)")
	addChoice(cmd, &b.accel, "accel", "accelerator; auto takes kvm if a trial guest runs under it", "auto", "kvm", "tcg")
	flags.DurationVar(&b.timeout, "timeout", 0, "kill the guest after `DURATION`, such as 30s (default never)")
	flags.BoolVar(&b.dryRun, "dry-run", false, "print the command instead of running it")
	return cmd
}

func (b bootFlags) run(cmd *cobra.Command, args []string) error {
	if b.timeout < 0 {
		return fmt.Errorf("--timeout %v: a guest cannot end before it starts: give a positive time", b.timeout)
	}
	machine, err := b.machine(cmd.Context(), args)
	if err != nil {
		return err
	}
	arguments, err := machine.Args()
	if err != nil {
		return err
	}
	if b.dryRun {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), quote(append([]string{qemu.Binary}, arguments...)))
		return err
	}
	return boot(cmd.Context(), arguments, b.timeout)
}

// machine finds the files and the accelerator for the guest.
func (b bootFlags) machine(ctx context.Context, args []string) (qemu.Machine, error) {
	image := clonedImage
	if len(args) > 0 {
		image = args[0]
	} else if !readable(image) {
		return qemu.Machine{}, fmt.Errorf("no %s here: name the image to boot, or run `make run` first", image)
	}
	kind, err := kindOf(image)
	if err != nil {
		return qemu.Machine{}, err
	}
	m := qemu.Machine{CPUs: b.cpus, MemoryMiB: b.memory, Disks: b.disks}
	if err := b.addKernel(&m, kind); err != nil {
		return qemu.Machine{}, err
	}
	if err := b.addFirmware(&m, kind); err != nil {
		return qemu.Machine{}, err
	}
	for _, file := range slices.Concat([]string{m.Kernel, m.Firmware, m.Variables}, b.disks) {
		if file == "" {
			continue
		}
		if err := checkReadable(file); err != nil {
			return qemu.Machine{}, err
		}
	}
	if err := kind.attach(&m, image); err != nil {
		return qemu.Machine{}, err
	}
	m.Accel, _, err = qemu.ProbeAccel(ctx, b.accel)
	return m, err
}

// addKernel adds the kernel and its command line, as far as they are not in the image.
func (b bootFlags) addKernel(m *qemu.Machine, kind bootKind) (err error) {
	switch {
	case kind == bootInitramfs:
		if m.Kernel = b.kernel; b.kernel == "" {
			if m.Kernel, err = defaultKernel(); err != nil {
				return err
			}
		}
		m.Append = strings.TrimSpace(baseAppend + " " + b.append)
	case b.kernel != "":
		return errors.New("--kernel: this image has a kernel inside")
	case kind == bootProgram:
		m.Append = b.append
	case b.append != "":
		return errors.New("--append: this image has its command line inside: give it to hapax build with --cmdline")
	}
	return nil
}

// addFirmware adds UEFI firmware if the image needs it or it is asked for. Its variables are not kept.
func (b bootFlags) addFirmware(m *qemu.Machine, kind bootKind) (err error) {
	if kind == bootInitramfs && b.firmware == "" {
		if b.variables != "" {
			return errors.New("--firmware-variables: name the --firmware as well")
		}
		return nil
	}
	m.Firmware, m.Variables, err = findFirmware(b.firmware, b.variables)
	m.Extra = append(m.Extra, "-snapshot")
	return err
}

// defaultKernel returns the kernel that the environment names, or else the one of the running system.
func defaultKernel() (string, error) {
	if file := os.Getenv(kernelVariable); file != "" {
		return file, nil
	}
	release, err := kernelRelease()
	if err != nil {
		return "", err
	}
	installed := filepath.Join("/boot", "vmlinuz-"+release)
	if !readable(installed) {
		return "", fmt.Errorf("%s cannot be read: name a kernel with --kernel or %s", installed, kernelVariable)
	}
	return installed, nil
}

func readable(file string) bool { return checkReadable(file) == nil }

func checkReadable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

// boot runs QEMU on the terminal until the guest ends, ctx ends or the time is over, and leaves the terminal as it was.
// QEMU's own exit code comes back as an *exitError.
func boot(ctx context.Context, arguments []string, timeout time.Duration) error {
	expired := fmt.Errorf("the guest was still running after %v: killed", timeout)
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, expired)
		defer cancel()
	}
	defer restoreTerminal(os.Stdin)()

	guest := exec.CommandContext(ctx, qemu.Binary, arguments...)
	guest.Stdin, guest.Stdout, guest.Stderr = os.Stdin, os.Stdout, os.Stderr
	guest.Cancel = func() error { return guest.Process.Signal(syscall.SIGTERM) }
	guest.WaitDelay = killDelay
	err := guest.Run()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: install QEMU (Debian: qemu-system-x86)", err)
	case ended && exit.ExitCode() > 0:
		return &exitError{exit.ExitCode()}
	case err != nil:
		return fmt.Errorf("%s: %w", qemu.Binary, err)
	}
	return nil
}

// restoreTerminal returns a function that gives the terminal the modes it has now: QEMU makes it raw and, when it is
// killed, leaves it so.
func restoreTerminal(f *os.File) func() {
	modes, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return func() {} // no terminal
	}
	return func() {
		// There is nobody left to tell: a terminal that went away needs no modes.
		_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSW, modes)
	}
}

// quote returns a command line that a shell reads as these arguments.
func quote(args []string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,.:/@%"
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if arg == "" || strings.Trim(arg, harmless) != "" {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
