package guard

import (
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
)

// A watchdog resets the machine unless it is fed, and the loop alone feeds it:
// if the guard hangs, so does the feeding. It is there as soon as its module is,
// so until then it is looked for.
//
// What becomes of it with the real root: its init opens a watchdog if it is
// told to, and others never do. So it is stopped before, as if it had not been;
// with hapax.watchdog=SEC,keep it goes on, and the new init has what is left of
// SEC to take it over. On the way down it goes on up to reboot(2), but for halt.
type watchdog struct {
	timeout time.Duration // 0: there is to be none
	keep    bool          // at switch_root
	log     *klog.Logger

	fd   int // 0 until it is open
	next <-chan time.Time
}

// watchdogPath is the first one of the machine.
const watchdogPath = "/dev/watchdog"

const lookForWatchdog = time.Second

func newWatchdog(p *cmdline.Params, log *klog.Logger) watchdog {
	w := watchdog{timeout: p.Watchdog, keep: p.KeepWatchdog, log: log}
	if w.timeout > 0 {
		w.next = time.After(0)
	}
	return w
}

// feed is called when next fires.
func (w *watchdog) feed() {
	if w.fd == 0 && !w.open() {
		w.next = time.After(lookForWatchdog)
		return
	}
	if _, err := unix.Write(w.fd, []byte{0}); err != nil {
		w.log.Warnf("feed %s: %v", watchdogPath, err)
	}
	w.next = time.After(w.timeout / 3)
}

// open starts the watchdog, if it is there. The timeout becomes what its driver
// makes of it.
func (w *watchdog) open() bool {
	fd, err := unix.Open(watchdogPath, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ENOENT, err == unix.ENODEV, err == unix.ENXIO:
		return false
	case err != nil:
		w.log.Warnf("open %s: %v", watchdogPath, err)
		return false
	}
	seconds := int(w.timeout / time.Second)
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		w.log.Warnf("%s keeps its own timeout instead of %v: %v", watchdogPath, w.timeout, err)
	}
	if s, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT); err == nil && s > 0 {
		w.timeout = time.Duration(s) * time.Second
	}
	w.fd = fd
	w.log.Infof("%s resets the machine if it is not fed for %v", watchdogPath, w.timeout)
	return true
}

// release stops the watchdog by the magic close of linux/watchdog, and looks
// for none any more.
func (w *watchdog) release() {
	w.next = nil
	if w.fd == 0 {
		return
	}
	_, _ = unix.Write(w.fd, []byte{'V'})
	unix.Close(w.fd)
	w.fd = 0
}

// handOver is called before the real root takes over.
func (w *watchdog) handOver() {
	if w.keep && w.fd != 0 {
		_, _ = unix.Write(w.fd, []byte{0}) // execve(2) closes it
		w.next = nil
		return
	}
	w.release()
}

// resume starts it again when the real root has not taken over.
func (w *watchdog) resume() {
	if w.timeout > 0 {
		w.next = time.After(0)
	}
}
