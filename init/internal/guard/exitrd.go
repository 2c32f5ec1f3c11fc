package guard

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
	"hapax/init/internal/shutdown"
)

// The shutdown helper. When a systemd that the machine was handed over to is
// done, it looks for an executable /run/initramfs/shutdown, makes that folder
// the root with its own one at /oldroot, and executes /shutdown with one of
// reboot, poweroff, halt and kexec (systemd-shutdown(8)): the initramfs takes
// apart what it put together.
//
// That is a copy of this program, four megabytes of memory for the whole life
// of the system. So it is only there if the root needs it, being on an overlay,
// a loop or a device-mapper device, or if hapax.exitrd says so.
const exitName = "shutdown"

// exitDirs are what systemd-shutdown mounts on.
func exitDirs() []string { return []string{"dev", "oldroot", "proc", "run", "sys"} }

// ExitCalled reports whether these are the arguments of a shutdown helper.
func ExitCalled(args []string) bool {
	if len(args) < 2 || filepath.Base(args[0]) != exitName {
		return false
	}
	_, ok := shutdown.ParseMethod(args[1])
	return ok
}

// Exit is the whole life of the shutdown helper, which is PID 1 and alone.
func Exit(args []string) int {
	signals, children := catch()
	method, _ := shutdown.ParseMethod(args[1])
	log := klog.Open(cmdline.Info)
	log.Infof("back in the initramfs: %v", method)
	o := shutdown.Options{Method: method, Logf: log.Warnf}
	failed := make(chan error)
	go func() { failed <- shutdown.Finish(shutdown.Kernel(), o) }()
	for {
		select {
		case <-signals:
		case <-children:
			reapAll(func(int, unix.WaitStatus) {})
		case err := <-failed:
			log.Errorf("%v", err)
		}
	}
}

// leaveExit puts the shutdown helper where systemd looks for it, if the new
// root needs it.
func (g *guard) leaveExit(root string) {
	if want := g.params.Exitrd; want == "0" || want != "1" && !g.layered(root) {
		return
	}
	if err := placeExit(initramfsDir, handoff.Self()); err != nil {
		g.log.Warnf("no shutdown helper: %v", err)
		_ = os.Remove(filepath.Join(initramfsDir, exitName))
	}
}

// layered reports whether the root lies on something that cannot go away as
// long as a program runs from it.
func (g *guard) layered(root string) bool {
	if strings.HasPrefix(g.params.Root, "overlay:") {
		return true
	}
	var st unix.Stat_t
	if unix.Stat(root, &st) != nil {
		return false
	}
	dev := uint64(st.Dev)
	dir := "/sys/dev/block/" + strconv.Itoa(int(unix.Major(dev))) + ":" + strconv.Itoa(int(unix.Minor(dev)))
	for _, sign := range []string{"/dm", "/loop/backing_file", "/../dm", "/../loop/backing_file"} { // .. is the disk of a partition
		if _, err := os.Stat(dir + sign); err == nil { // not joined: dir is a link
			return true
		}
	}
	return false
}

// placeExit makes dir a root for the copy of the program self.
func placeExit(dir, self string) error {
	for _, sub := range exitDirs() {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	from, err := os.Open(self)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, exitName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Close()
}
