package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
)

// Exit status of fsck(8), a set of bits.
const (
	fsckCorrected = 1
	fsckLeft      = 4 // errors that it has not corrected
)

// fsckDone tells the real root that its root file system has been checked.
const fsckDone = "/run/initramfs/fsck-root"

// fsckArgs returns what makes the checker of a file system repair what it can
// without asking. It returns nil where a check before the mount is of no use:
// the others repair themselves on mount, or cannot be written.
func fsckArgs(fstype string, force bool) []string {
	switch fstype {
	case "ext2", "ext3", "ext4":
		if force {
			return []string{"-p", "-f"}
		}
		return []string{"-p"}
	case "f2fs":
		if force {
			return []string{"-f"}
		}
		return []string{"-a"}
	case "vfat", "exfat":
		return []string{"-p"}
	}
	return nil
}

// fsck checks a file system if the image has the distribution's program for
// it. It may take as long as it takes: one that is ended half-way through a
// repair does more harm than waiting. An error says that a person is needed.
func (h *hunt) fsck(device, fstype string) error {
	args := fsckArgs(fstype, h.params.Fsck == cmdline.FsckForce)
	if args == nil || h.params.Fsck == cmdline.FsckSkip {
		return nil
	}
	for dir := range strings.SplitSeq(handoff.SearchPath, ":") {
		program := filepath.Join(dir, "fsck."+fstype)
		if unix.Access(program, unix.X_OK) != nil {
			continue
		}
		status, err := run(program, append([]string{program}, append(args, device)...))
		if err == nil {
			err = h.checked(program, device, status)
		}
		return err
	}
	return nil
}

// checked acts on the end of a checker.
func (h *hunt) checked(program, device string, status unix.WaitStatus) error {
	switch code := status.ExitStatus(); {
	case status.Signaled():
		return fmt.Errorf("%s was ended by signal %v on %s; run it by hand", program, status.Signal(), device)
	case code&fsckLeft != 0:
		return fmt.Errorf("%s has left errors on %s; repair it by hand: %s %s", program, device, program, device)
	case code&^fsckCorrected != 0:
		h.warnf("%s %s: exit status %d; mounting all the same", program, device, code)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(fsckDone), 0o755); err != nil {
		return err
	}
	return os.WriteFile(fsckDone, nil, 0o644)
}
