package modload

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	tests := []struct {
		errno unix.Errno
		live  bool // what the kernel says about the module afterwards
		want  State
		again bool
	}{
		{unix.EEXIST, true, Live, false},     // another loader was first
		{unix.EEXIST, false, Refused, false}, // the init function's own -EEXIST
		{unix.EBUSY, true, Live, false},
		{unix.EBUSY, false, Refused, true},
		{unix.EINTR, true, Live, false},
		{unix.EINTR, false, Refused, false},
		{unix.ENOMEM, false, Failed, true},

		// From the init function alone.
		{unix.ENODEV, false, Refused, false},
		{unix.ENXIO, false, Refused, false},
		{unix.EOPNOTSUPP, false, Refused, false},
		{unix.EAGAIN, false, Refused, false},
		{unix.ETIMEDOUT, false, Refused, false},

		// From the module loader, or not to be told from it.
		{unix.ENOENT, false, Failed, false},
		{unix.EINVAL, false, Failed, false},
		{unix.ENOEXEC, false, Failed, false},
		{unix.EPERM, false, Failed, false},
		{unix.EKEYREJECTED, false, Failed, false},
		{unix.EBADMSG, false, Failed, false},
		{unix.ENOKEY, false, Failed, false},
		{unix.ENOPKG, false, Failed, false},
		{unix.ETXTBSY, false, Failed, false},
		{unix.EFBIG, false, Failed, false},
		{unix.EIO, false, Failed, false},
		{unix.EACCES, false, Failed, false},
		{unix.ENOSYS, false, Failed, false},
		{unix.EBADF, false, Failed, false},
		{unix.EFAULT, false, Failed, false},

		// A hard answer is not looked into, whoever has the module.
		{unix.EINVAL, true, Failed, false},
	}
	for _, tt := range tests {
		err, again := verdict("m", tt.errno, func() bool { return tt.live })
		if got := outcome(err); got != tt.want || again != tt.again {
			t.Errorf("%v, live %v: %v, again %v; want %v, again %v", tt.errno, tt.live, got, again, tt.want, tt.again)
		}
		if err != nil && !errors.Is(err, tt.errno) {
			t.Errorf("%v: the error %q hides the cause", tt.errno, err)
		}
	}
	if err, again := verdict("m", nil, nil); err != nil || again {
		t.Errorf("success: %v, again %v", err, again)
	}
}
