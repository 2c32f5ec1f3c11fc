package shutdown

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A System is the way of a shutdown to the kernel. Kernel returns the real one;
// a test fills in a machine of its own.
type System struct {
	ReadFile func(path string) ([]byte, error)
	ReadDir  func(path string) ([]string, error)
	Sync     func()
	Swapoff  func(path string) error
	Unmount  func(path string, force bool) error
	ReadOnly func(path string) error // remounts
	Detach   func(name string) error // a device below /sys/block: loop, dm or md
	Reboot   func(m Method, arg string) error
}

// Kernel returns the System of the running kernel.
func Kernel() System {
	return System{
		ReadFile: os.ReadFile,
		ReadDir:  readDir,
		Sync:     unix.Sync,
		Swapoff:  swapoff,
		Unmount:  unmount,
		ReadOnly: func(path string) error {
			return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		},
		Detach: detach,
		Reboot: reboot,
	}
}

func readDir(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func swapoff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// unmount breaks off, with force, what a server does not answer.
func unmount(path string, force bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if force {
		flags |= unix.MNT_FORCE
	}
	return unix.Unmount(path, flags)
}

func detach(name string) error {
	switch {
	case strings.HasPrefix(name, "loop"):
		return clearLoop("/dev/" + name)
	case strings.HasPrefix(name, "dm-"):
		return removeMapped(name)
	}
	return os.WriteFile("/sys/block/"+name+"/md/array_state", []byte("clear"), 0)
}

// clearLoop takes the file from a loop device. Of one that is in use the kernel
// takes it when the last user has gone, and says the same. Since 6.11 the one that
// asks is such a user, too.
func clearLoop(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
	unix.Close(fd)
	if err != nil {
		return err
	}
	// The name is that of sysfs, so this is about the same device.
	if _, err := os.Stat("/sys/block/" + strings.TrimPrefix(path, "/dev/") + "/loop/backing_file"); err == nil {
		return unix.EBUSY
	}
	return nil
}

// dmIoctl is struct dm_ioctl of linux/dm-ioctl.h.
type dmIoctl struct {
	version     [3]uint32
	dataSize    uint32
	dataStart   uint32
	targetCount uint32
	openCount   int32
	flags       uint32
	eventNr     uint32
	_           uint32
	dev         uint64
	name        [128]byte
	uuid        [129]byte
	_           [7]byte
}

// removeMapped removes a device of the device mapper that nobody has open.
func removeMapped(name string) error {
	number, err := os.ReadFile("/sys/block/" + name + "/dev")
	if err != nil {
		return err
	}
	dev, err := parseDev(strings.TrimSpace(string(number)))
	if err != nil {
		return err
	}
	fd, err := unix.Open("/dev/mapper/control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req := dmIoctl{version: [3]uint32{4, 0, 0}, dev: dev}
	req.dataSize, req.dataStart = uint32(unsafe.Sizeof(req)), uint32(unsafe.Sizeof(req))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.DM_DEV_REMOVE, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}

// parseDev reads MAJOR:MINOR.
func parseDev(s string) (uint64, error) {
	major, minor, _ := strings.Cut(s, ":")
	ma, err1 := strconv.ParseUint(major, 10, 12)
	mi, err2 := strconv.ParseUint(minor, 10, 20)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q is no device number", s)
	}
	return unix.Mkdev(uint32(ma), uint32(mi)), nil
}

// reboot calls reboot(2) in a thread of its own: a machine that cannot power
// off ends the calling thread (kernel/reboot.c), and that must not be the last.
func reboot(m Method, arg string) error {
	cmd := map[Method]uintptr{
		Reboot: unix.LINUX_REBOOT_CMD_RESTART, Halt: unix.LINUX_REBOOT_CMD_HALT,
		PowerOff: unix.LINUX_REBOOT_CMD_POWER_OFF, Kexec: unix.LINUX_REBOOT_CMD_KEXEC,
	}[m]
	var p *byte
	if arg != "" {
		var err error
		if p, err = unix.BytePtrFromString(arg); err != nil {
			return err
		}
		cmd = unix.LINUX_REBOOT_CMD_RESTART2
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, _, errno := unix.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, cmd,
			uintptr(unsafe.Pointer(p)), 0, 0)
		runtime.UnlockOSThread()
		failed <- errno
	}()
	return <-failed
}
