// Package mnt holds the mounts that PID 1 makes before anything else. They are
// data: a plan is a slice of steps that can be printed, compared in a test and
// applied, below another root too.
package mnt

import (
	"fmt"
	"strings"
)

// A Step creates one thing: a Dir, a Mount, a Node or a Symlink. Its String is one line for people.
// Paths are absolute and clean; Apply puts the root in front of them.
type Step interface {
	String() string
	apply(sys *System, root string) error
}

// A Dir is a directory. One that is there already stays as it is.
type Dir struct {
	Path string
	Mode uint32 // permission bits; the umask applies
}

// A Mount is a file system on a directory that exists. A file system that the kernel reports as mounted
// there already (EBUSY) is what was wanted.
type Mount struct {
	Source string // only a name to show, for the file systems used here
	Target string
	FSType string
	Flags  Flags
	Data   string // options of the file system, as in fs/*/super.c; "" for none

	Needs string // the kernel option without which FSType is unknown (ENODEV)
	Else  []Step // what is done in that case
}

// A Node is a character device.
type Node struct {
	Path         string
	Mode         uint32 // permission bits; the umask does not apply
	Major, Minor uint32
}

// A Symlink is a symbolic link. Whatever is at Path already stays as it is.
type Symlink struct {
	Path   string
	Target string // kept as written, so never below Apply's root
}

func (d Dir) String() string { return fmt.Sprintf("mkdir %s %#o", d.Path, d.Mode) }

func (m Mount) String() string {
	options := m.Flags.names()
	if m.Data != "" {
		options = append(options, m.Data)
	}
	return fmt.Sprintf("mount %s on %s (%s)", m.FSType, m.Target, strings.Join(options, ","))
}

func (n Node) String() string {
	return fmt.Sprintf("mknod %s c %d:%d %#o", n.Path, n.Major, n.Minor, n.Mode)
}

func (l Symlink) String() string { return fmt.Sprintf("symlink %s -> %s", l.Path, l.Target) }

// Early returns the plan of PID 1: what the kernel needs to talk to it, and what is handed over to the
// init of the real root. The options are those that systemd uses and expects of an initramfs, for it
// does not remount what it finds mounted (systemd.io/INITRD_INTERFACE).
//
// Nothing else is here on purpose: debugfs, cgroups and efivarfs are the new init's business.
func Early() []Step {
	return []Step{
		Dir{"/proc", 0o755},
		Mount{Source: "proc", Target: "/proc", FSType: "proc", Flags: NoSuid | NoDev | NoExec, Needs: "CONFIG_PROC_FS"},
		Dir{"/sys", 0o755},
		Mount{Source: "sysfs", Target: "/sys", FSType: "sysfs", Flags: NoSuid | NoDev | NoExec, Needs: "CONFIG_SYSFS"},
		Dir{"/dev", 0o755},
		Mount{
			Source: "devtmpfs", Target: "/dev", FSType: "devtmpfs", Flags: NoSuid | StrictAtime, Data: "mode=0755",
			Needs: "CONFIG_DEVTMPFS", Else: staticDev(),
		},
		Dir{"/run", 0o755},
		Mount{
			Source: "tmpfs", Target: "/run", FSType: "tmpfs", Flags: NoSuid | NoDev | StrictAtime,
			Data: "mode=0755,size=20%,nr_inodes=800k", Needs: "CONFIG_TMPFS",
		},
		Symlink{"/dev/fd", "/proc/self/fd"},
		Symlink{"/dev/stdin", "/proc/self/fd/0"},
		Symlink{"/dev/stdout", "/proc/self/fd/1"},
		Symlink{"/dev/stderr", "/proc/self/fd/2"},
	}
}

// Security returns what shows whether the kernel is locked down, for kernels that have the directory
// already. The new init takes it over like the rest of /sys.
func Security() []Step {
	return []Step{Mount{
		Source: "securityfs", Target: SecurityDir, FSType: "securityfs", Flags: NoSuid | NoDev | NoExec, Needs: "CONFIG_SECURITYFS",
	}}
}

// SecurityDir is made by a kernel that has securityfs.
const SecurityDir = "/sys/kernel/security"

// Tracing returns what the engine needs to know at once who asks for a module in the name of the kernel.
func Tracing() []Step {
	return []Step{Mount{
		Source: "tracefs", Target: "/sys/kernel/tracing", FSType: "tracefs", Flags: NoSuid | NoDev | NoExec, Needs: "CONFIG_TRACING",
	}}
}

// Shell returns what an interactive shell needs besides Early: pseudo-terminals and POSIX shared memory.
// A boot without a shell does not spend time on them.
func Shell() []Step {
	return []Step{
		Dir{"/dev/pts", 0o755},
		Mount{
			Source: "devpts", Target: "/dev/pts", FSType: "devpts", Flags: NoSuid | NoExec,
			Data: "mode=0620,gid=5", Needs: "CONFIG_UNIX98_PTYS", // 5: the group tty, the same in every distribution
		},
		Dir{"/dev/shm", 0o1777},
		Mount{
			Source: "tmpfs", Target: "/dev/shm", FSType: "tmpfs", Flags: NoSuid | NoDev | StrictAtime,
			Data: "mode=1777", Needs: "CONFIG_TMPFS",
		},
	}
}

// Standalone returns what a system that stays needs besides Early and Shell, which nobody comes to mount for it. There reports
// whether the kernel has a directory: file systems that not every kernel or machine has are left out without it. The options
// are systemd's, which programs that come from its distributions expect.
func Standalone(there func(dir string) bool) []Step {
	steps := []Step{
		Dir{"/tmp", 0o1777},
		Mount{
			Source: "tmpfs", Target: "/tmp", FSType: "tmpfs", Flags: NoSuid | NoDev | StrictAtime,
			Data: "mode=1777,size=50%,nr_inodes=1m", Needs: "CONFIG_TMPFS",
		},
	}
	for _, m := range []Mount{
		{Source: "securityfs", Target: SecurityDir, FSType: "securityfs", Needs: "CONFIG_SECURITYFS"},
		{
			Source: "cgroup2", Target: CgroupDir, FSType: "cgroup2", Data: "nsdelegate,memory_recursiveprot",
			Needs: "CONFIG_CGROUPS",
		},
		{Source: "efivarfs", Target: "/sys/firmware/efi/efivars", FSType: "efivarfs", Needs: "CONFIG_EFIVAR_FS"},
		{Source: "bpf", Target: "/sys/fs/bpf", FSType: "bpf", Data: "mode=700", Needs: "CONFIG_BPF_SYSCALL"},
		{Source: "tracefs", Target: "/sys/kernel/tracing", FSType: "tracefs", Needs: "CONFIG_TRACING"},
	} {
		m.Flags = NoSuid | NoDev | NoExec
		if there(m.Target) {
			steps = append(steps, m)
		}
	}
	return steps
}

// CgroupDir is the root of the tree of control groups, made by a kernel that has them.
const CgroupDir = "/sys/fs/cgroup"

// staticDev is /dev for a kernel without devtmpfs: enough for a console, a log and a rescue shell. No disk
// appears in it, so only a root that needs none can be found.
func staticDev() []Step {
	return []Step{
		Mount{Source: "dev", Target: "/dev", FSType: "tmpfs", Flags: NoSuid | StrictAtime, Data: "mode=0755", Needs: "CONFIG_TMPFS"},
		Node{"/dev/console", 0o600, 5, 1},
		Node{"/dev/null", 0o666, 1, 3},
		Node{"/dev/kmsg", 0o644, 1, 11},
		Node{"/dev/zero", 0o666, 1, 5},
		Node{"/dev/full", 0o666, 1, 7},
		Node{"/dev/random", 0o666, 1, 8},
		Node{"/dev/urandom", 0o666, 1, 9},
		Node{"/dev/tty", 0o666, 5, 0},
		Node{"/dev/ptmx", 0o666, 5, 2},
	}
}
