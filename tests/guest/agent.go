package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
)

// reportFile is the boot report of hapax.
const reportFile = "/run/hapax/boot.json"

// maxCat bounds what cat reads: the console is a serial line.
const maxCat = 256 << 10

// serve takes commands until the console is gone.
func serve() {
	quietConsole()
	events := record()
	fmt.Println(guest.Ready)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		command, argument, _ := strings.Cut(strings.TrimSpace(in.Text()), " ")
		if command == "" {
			continue
		}
		result, err := do(command, strings.TrimSpace(argument), events)
		announce(command, result, err)
	}
	announce("end", nil, in.Err())
}

// quietConsole keeps the kernel and the terminal's echo from breaking into our lines.
// Emergencies, which have level 0, still come through.
func quietConsole() {
	const consoleLevel = 8 // SYSLOG_ACTION_CONSOLE_LEVEL of syslog(2)
	if _, _, errno := unix.Syscall(unix.SYS_SYSLOG, consoleLevel, 0, 1); errno != 0 {
		announce("quiet", nil, fmt.Errorf("syslog: %w", errno))
	}
	if t, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil { // not a terminal: nothing echoes
		t.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(0, unix.TCSETS, t); err != nil {
			announce("quiet", nil, fmt.Errorf("TCSETS: %w", err))
		}
	}
}

// do carries one command out.
func do(command, argument string, events *recorder) (any, error) {
	switch command {
	case guest.Modules:
		return modules()
	case guest.Drivers:
		return devices("/sys")
	case guest.Finit:
		return finit()
	case guest.Report:
		b, err := os.ReadFile(reportFile)
		return json.RawMessage(b), err
	case guest.Clocks:
		return guest.Clock{Monotonic: monotonic(), Boottime: clock(unix.CLOCK_BOOTTIME)}, nil
	case guest.Uevents:
		from, err := strconv.Atoi(argument)
		if err != nil {
			return nil, err
		}
		return events.since(from)
	case guest.Quiet:
		return nil, quiet()
	case guest.Cat:
		return cat(argument)
	case guest.List:
		return list(argument)
	case guest.Nodes:
		return nodes("/dev")
	case guest.Dmesg:
		return dmesg()
	case guest.Kexec:
		return nil, kexec(argument)
	case guest.Insert:
		return insert(strings.Fields(argument))
	case guest.Usage:
		return usage()
	case guest.Pokes:
		return nil, pokeProcessors(argument)
	case guest.Stats:
		return moduleStats()
	case guest.PowerOff:
		powerOff()
		return nil, errors.New("the kernel refused to power off")
	}
	return abuse(command, argument)
}

func modules() ([]guest.Module, error) {
	b, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil, err
	}
	all := []guest.Module{}
	for line := range strings.Lines(string(b)) {
		// name size refcount users state address
		if f := strings.Fields(line); len(f) >= 5 {
			all = append(all, guest.Module{Name: f[0], State: f[4]})
		}
	}
	return all, nil
}

// finit sums up the calls that insert modules.
func finit() (guest.Trace, error) {
	f, err := openTrace()
	if err != nil {
		return guest.Trace{}, err
	}
	defer f.Close()
	return guest.ParseTrace(f)
}

// openTrace opens what the kernel has recorded. It mounts tracefs if nobody has.
func openTrace() (*os.File, error) {
	const dir = "/sys/kernel/tracing"
	f, err := os.Open(dir + "/trace")
	if errors.Is(err, os.ErrNotExist) {
		if err := unix.Mount("tracefs", dir, "tracefs", 0, ""); err != nil {
			return nil, fmt.Errorf("mount %s: %w", dir, err)
		}
		f, err = os.Open(dir + "/trace")
	}
	return f, err
}

// quiet returns when the kernel has sent no uevent for two seconds of the guest's time and no module is being loaded.
// Disks and USB devices show up long after the drivers of their controllers.
func quiet() error {
	const window, step = 2 * time.Second, 100 * time.Millisecond
	last, since := "", monotonic()
	for monotonic()-since < window {
		seqnum, err := os.ReadFile("/sys/kernel/uevent_seqnum")
		if err != nil {
			return err
		}
		loaded, err := os.ReadFile("/proc/modules")
		if err != nil {
			return err
		}
		if string(seqnum) != last || strings.Contains(string(loaded), " Loading ") {
			last, since = string(seqnum), monotonic()
		}
		time.Sleep(step)
	}
	return nil
}

func cat(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCat))
	return string(b), err
}

func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func dmesg() (string, error) {
	const readAll = 3 // SYSLOG_ACTION_READ_ALL
	buf := make([]byte, maxCat)
	n, err := unix.Klogctl(readAll, buf)
	return string(buf[:max(n, 0)]), err
}

// kexec loads a kernel with its initramfs and arguments.
func kexec(argument string) error {
	f := strings.SplitN(argument, " ", 3)
	if len(f) != 3 {
		return errors.New("want KERNEL INITRAMFS ARGUMENT...")
	}
	kernel, err := os.Open(f[0])
	if err != nil {
		return err
	}
	defer kernel.Close()
	initramfs, err := os.Open(f[1])
	if err != nil {
		return err
	}
	defer initramfs.Close()
	return os.NewSyscallError("kexec_file_load", unix.KexecFileLoad(int(kernel.Fd()), int(initramfs.Fd()), f[2], 0))
}
