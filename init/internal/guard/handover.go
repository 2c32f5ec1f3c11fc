package guard

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"hapax/init/internal/switchroot"
)

// A moment is one point in time on the two clocks that systemd wants to know.
type moment struct{ realtime, monotonic int64 } // in µs

func now() moment {
	micros := func(id int32) int64 {
		var ts unix.Timespec
		if unix.ClockGettime(id, &ts) != nil {
			return 0 // no kernel lacks these clocks
		}
		return ts.Nano() / 1000
	}
	return moment{micros(unix.CLOCK_REALTIME), micros(unix.CLOCK_MONOTONIC)}
}

// initramfsDir is where the real root looks for what an initramfs has left
// for it (systemd.io/INITRD_INTERFACE).
const initramfsDir = "/run/initramfs"

// arguments returns those of the real init, and has t keep what they refer to.
//
// A systemd is told when the initramfs began, so that systemd-analyze can show
// its share, the way it would tell itself: as one that has changed its root
// and reads the state of the one before from a file. Of that state there is
// just the one line.
func (g *guard) arguments(t *switchroot.Target) []string {
	argv := []string{t.Init}
	if path.Base(t.Program) == "systemd" {
		fd, err := stateFile(fmt.Sprintf("initrd-timestamp=%d %d\n\n", g.began.realtime, g.began.monotonic))
		if err != nil {
			g.log.Warnf("systemd will not know of the initramfs: %v", err)
		} else {
			t.Inherit = append(t.Inherit, fd)
			argv = append(argv, "--switched-root", "--system", "--deserialize", strconv.Itoa(fd))
		}
	}
	return append(argv, g.args...)
}

// stateFile returns a descriptor of a file in memory, read from its beginning.
func stateFile(content string) (fd int, err error) {
	if fd, err = unix.MemfdCreate("systemd-state", unix.MFD_CLOEXEC); err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if _, err = unix.Pwrite(fd, []byte(content), 0); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("pwrite", err)
	}
	return fd, nil
}
