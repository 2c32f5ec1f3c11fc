package modload

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	tests := []struct {
		errno unix.Errno
		live  bool
		want  State
	}{
		{unix.EEXIST, true, Live},     // another loader was first
		{unix.EEXIST, false, Refused}, // the init function's own -EEXIST
		{unix.EBUSY, true, Live},
		{unix.EBUSY, false, Refused},
		{unix.EINTR, true, Live},
		{unix.EINTR, false, Refused},
		{unix.ENODEV, false, Refused},
		{unix.ENXIO, false, Refused},
		{unix.EOPNOTSUPP, false, Refused},
		{unix.ENOENT, false, Failed},
		{unix.EINVAL, false, Failed},
		{unix.ENOEXEC, false, Failed},
		{unix.EPERM, false, Failed},
		{unix.EKEYREJECTED, false, Failed},
		{unix.EBADMSG, false, Failed},
		{unix.ETXTBSY, false, Failed},
		{unix.ENOMEM, false, Failed},
		{unix.EIO, false, Failed},
	}
	for _, tt := range tests {
		err := verdict("m", tt.errno, func() bool { return tt.live })
		if got := outcome(err); got != tt.want {
			t.Errorf("%v, live %v: %v, want %v", tt.errno, tt.live, got, tt.want)
		}
		if err != nil && !errors.Is(err, tt.errno) {
			t.Errorf("%v: the error %q hides the cause", tt.errno, err)
		}
	}
}

func TestPresentIn(t *testing.T) {
	t.Parallel()
	const text = `virtio_net 73728 0 - Live 0xffffffffc0333000
net_failover 24576 1 virtio_net, Live 0xffffffffc02a5000 (E)
slow 16384 0 - Loading 0xffffffffc02a0000
gone 16384 0 - Unloading 0xffffffffc02a0000
short line
`
	if diff := cmp.Diff([]string{"virtio_net", "net_failover"}, presentIn(text)); diff != "" {
		t.Errorf("presentIn (-want +got):\n%s", diff)
	}
}

func TestCompressionOf(t *testing.T) {
	t.Parallel()
	for head, want := range map[string]string{
		"\x7fELF\x02\x01":      "",
		"\x1f\x8b\x08\x00..":   "gzip",
		"\xfd7zXZ\x00":         "xz",
		"\x28\xb5\x2f\xfd\x04": "zstd",
		"":                     "",
		"\xfd7zXZ":             "",
	} {
		if got := compressionOf([]byte(head)); got != want {
			t.Errorf("compressionOf(%q) = %q, want %q", head, got, want)
		}
	}
}

// What finit_module would refuse as a failed read is refused before it.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("plain.ko", "\x7fELF and more")
	write("packed.ko", "\xfd7zXZ\x00 and more") // the name hides it
	write("odd.ko.xz", "\x28\xb5\x2f\xfd and more")
	write("empty.ko", "")
	if err := os.Mkdir(filepath.Join(dir, "folder.ko"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo.ko"), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := OpenKernel(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.compression = "xz"
	tests := []struct {
		path  string
		flags int
		err   string // part of it; "" for success
	}{
		{"plain.ko", 0, ""},
		{"packed.ko", unix.MODULE_INIT_COMPRESSED_FILE, ""},
		{"odd.ko.xz", 0, "compressed with zstd"},
		{"empty.ko", 0, "not a regular file"},
		{"folder.ko", 0, "not a regular file"},
		{"fifo.ko", 0, "not a regular file"},
		{"missing.ko", 0, "no such file"},
	}
	for _, tt := range tests {
		fd, flags, err := k.open(modindex.Module{Name: "m", Path: tt.path})
		switch {
		case tt.err == "" && (err != nil || flags != tt.flags):
			t.Errorf("%s: flags %d, %v; want flags %d", tt.path, flags, err, tt.flags)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), tt.path)):
			t.Errorf("%s: error %v, want %q and the path in it", tt.path, err, tt.err)
		}
		if err == nil {
			unix.Close(fd)
		} else if outcome(err) != Failed {
			t.Errorf("%s: %v is not a failure", tt.path, err)
		}
	}
	if _, err := OpenKernel(filepath.Join(dir, "plain.ko")); err == nil {
		t.Error("OpenKernel of a file gave no error")
	}
}

// A file that is no module fails with the kernel's word for it, and the
// thread's signal mask is as it was. Without the right to load modules the
// kernel says EPERM; both are failures, and both cost one call.
func TestLoadOfRubbish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rubbish.ko"), []byte(strings.Repeat("no module ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := OpenKernel(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := mask(t)
	res := k.Load(modindex.Module{Name: "hapax_rubbish", Path: "rubbish.ko"}, "")
	if res.Calls != 1 || outcome(res.Err) != Failed {
		t.Errorf("Load = %+v, want one call and a failure", res)
	}
	if !errors.Is(res.Err, unix.ENOEXEC) && !errors.Is(res.Err, unix.EPERM) && !errors.Is(res.Err, unix.ENOSYS) {
		t.Errorf("error = %v", res.Err)
	}
	if mask(t) != before {
		t.Error("the signal mask has changed")
	}
}

func mask(t *testing.T) unix.Sigset_t {
	t.Helper()
	var m unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestUndisturbed sleeps in the kernel while the thread is showered with the
// runtime's own signal: a sleep that a signal reaches ends with EINTR, as a
// wait in a module's init function would.
func TestUndisturbed(t *testing.T) {
	t.Parallel()
	for range 20 {
		thread, done := make(chan int), make(chan error)
		go func() {
			done <- undisturbed(func() error {
				thread <- unix.Gettid()
				return unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &unix.Timespec{Nsec: 5e6}, nil)
			})
		}()
		tid := <-thread
		var err error
		for running := true; running; {
			select {
			case err = <-done:
				running = false
			default:
				_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			}
		}
		if err != nil {
			t.Fatalf("the sleep was disturbed: %v", err)
		}
	}
}
