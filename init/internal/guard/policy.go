package guard

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
)

// shellProgram returns the program that a person at the console gets, or "" and
// the reason why there is none. What is started as a shell, for whatever
// reason, is started by startShell, which asks here: the image decides, not the
// command line, and what it does not allow in so many words it forbids.
func shellProgram(shell, policy, login string) (program, reason string) {
	if !exists(shell) {
		return "", "the image has no shell (hapax build --shell)"
	}
	text, err := head(policy, 512)
	switch {
	case err == nil && text == handoff.RescueShell:
		return shell, ""
	case err == nil && strings.HasPrefix(text, "$") && exists(login):
		return login, "" // it checks what the policy says
	case err == nil && strings.HasPrefix(text, "$"):
		return "", "the image has no program to ask for its password"
	}
	return "", "the image gives nobody its shell (hapax build --rescue)"
}

// theShell is shellProgram for the running image.
func theShell() (program, reason string) {
	return shellProgram(handoff.ShellPath, handoff.RescuePath, handoff.LoginPath)
}

// head reads the beginning of a file that nobody promises to be short.
func head(path string, most int64) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	return string(b), err
}

// recentLines is how much of the kernel log a person sees above the prompt.
const recentLines = 20

// account is what a person wants to see before all else when a boot has
// failed: the last lines of the kernel log, the engine's among them, and the
// engine's counts.
func account() string {
	var b strings.Builder
	for _, line := range recent(recentLines) {
		b.WriteString(line + "\n")
	}
	if text, err := head(handoff.SummaryPath, 2048); err == nil {
		b.WriteString(klog.Printable(strings.TrimSuffix(text, "\n")) + "\n")
	}
	return b.String()
}

// recent returns the last n lines of the kernel log, as dmesg(1) shows them.
func recent(n int) []string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var lines []string
	record := make([]byte, 8192) // CONSOLE_EXT_LOG_MAX
	for range 1 << 16 {          // somebody may write as fast as this reads
		size, err := unix.Read(fd, record)
		if err == unix.EPIPE || err == unix.EINTR { // overwritten meanwhile
			continue
		}
		if err != nil || size <= 0 {
			break
		}
		if line, ok := kmsgLine(string(record[:size])); ok {
			if len(lines) == n {
				copy(lines, lines[1:])
				lines = lines[:n-1]
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// kmsgLine reads a record "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];TEXT\n
// KEY=VALUE..." by Documentation/ABI/testing/dev-kmsg. Debug messages are left
// out.
func kmsgLine(record string) (line string, ok bool) {
	prefix, text, ok := strings.Cut(record, ";")
	fields := strings.Split(prefix, ",")
	if !ok || len(fields) < 4 {
		return "", false
	}
	priority, err := strconv.ParseUint(fields[0], 10, 32)
	micros, err2 := strconv.ParseUint(fields[2], 10, 64)
	if err != nil || err2 != nil || priority&7 > 6 {
		return "", false
	}
	text, _, _ = strings.Cut(text, "\n")
	const most = 200 // of one line on a console
	text = text[:min(len(text), most)]
	fraction := strconv.FormatUint(1_000_000+micros%1_000_000, 10)[1:]
	return "[" + strconv.FormatUint(micros/1_000_000, 10) + "." + fraction + "] " + klog.Printable(text), true
}
