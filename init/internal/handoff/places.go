package handoff

import (
	"os"
	"path/filepath"
)

// What the guard and the engine both have to know about the image and the
// running system.
const (
	// ShellPath is where an image has its shell, if it has one.
	ShellPath = "/bin/sh"

	// RescuePath says who may have that shell. The image builder writes
	// RescueShell, or the hash of a password; without it nobody may.
	RescuePath  = "/etc/hapax/rescue"
	RescueShell = "shell\n"

	// LoginPath asks for the password and becomes the shell.
	LoginPath = "/usr/lib/hapax/hapax-login"

	// SearchPath is the PATH of what is started in the image.
	SearchPath = "/bbin:/bin:/sbin:/usr/bin:/usr/sbin"

	// HelperPath is what the kernel starts for request_module(9) as long as an
	// engine runs. It is a name of its own, in a folder that is empty when the
	// kernel starts, so that an image may have another /sbin/modprobe and no
	// request comes before somebody listens.
	HelperPath = "/run/hapax/modprobe"

	// SummaryPath holds the line of the boot report that hapax.report=console
	// prints, for a person who comes to look at a boot that failed.
	SummaryPath = "/run/hapax/summary"

	// ModprobeSysctl holds the path of that program. The engine writes it, the
	// guard puts the old one back before it hands the machine over.
	ModprobeSysctl = "/proc/sys/kernel/modprobe"
)

// Self is the file of this program, which /init may not be any more.
func Self() string {
	if path, err := os.Readlink("/proc/self/exe"); err == nil && filepath.IsAbs(path) {
		return path
	}
	return "/init"
}
