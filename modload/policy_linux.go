package modload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A policy says which modules the kernel lets in, as far as it tells without
// being asked to load one. It is not changed after readPolicy.
type policy struct {
	barred error  // why no module is let in at all; nil: some are
	signed string // what keeps unsigned modules out, "" if nothing does
}

// readPolicy reads the policy from the proc, sysfs and securityfs below root.
// What is not there forbids nothing. capable: the process may load modules.
func readPolicy(root string, capable bool) *policy {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return ""
		}
		return string(bytes.TrimSpace(b))
	}
	p := new(policy)
	switch {
	case read("proc/sys/kernel/modules_disabled") == "1":
		p.barred = fmt.Errorf("%w by the sysctl kernel.modules_disabled, until the next boot", ErrBarred)
	case !capable:
		p.barred = fmt.Errorf("%w: this process lacks CAP_SYS_MODULE", ErrBarred)
	}
	lockdown := read("sys/kernel/security/lockdown") // such as "none [integrity] confidentiality"
	switch {
	case read("sys/module/module/parameters/sig_enforce") == "Y":
		p.signed = "module.sig_enforce"
	case strings.Contains(lockdown, "[integrity]"), strings.Contains(lockdown, "[confidentiality]"):
		p.signed = "kernel lockdown"
	}
	return p
}

// mayLoad reports whether this thread has CAP_SYS_MODULE. When the kernel does
// not tell, finit_module will.
func mayLoad() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[0].Effective&(1<<unix.CAP_SYS_MODULE) != 0
}

// signature ends a signed module, behind the signature itself. Whether that one
// is good is for the kernel to say.
const signature = "~Module signature appended~\n"

// admit returns an error for a module that the policy keeps out. size is that
// of the file, which is not compressed.
//
// A file that the kernel unpacks is not looked at: the trailer is inside, and to
// unpack it here as well would cost every signed module what only an unsigned
// one can gain.
func (p *policy) admit(fd int, size int64) error {
	if p.signed == "" {
		return nil
	}
	var tail [len(signature)]byte
	if size >= int64(len(tail)) {
		n, err := unix.Pread(fd, tail[:], size-int64(len(tail)))
		if err != nil {
			return err
		}
		if string(tail[:n]) == signature {
			return nil
		}
	}
	return fmt.Errorf("%w, which %s demands", errUnsigned, p.signed)
}

var errUnsigned = errors.New("the module has no signature")
