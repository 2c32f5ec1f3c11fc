package modload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A file is a module's file, ready for finit_module.
type file struct {
	fd    int
	flags int    // that go with it
	size  int64  // in bytes
	free  func() // gives the bytes that it was charged for back to the budget
}

func (f *file) close() {
	unix.Close(f.fd)
	f.free()
}

// open returns the module's file. Everything that finit_module would refuse and
// count as a failed read is refused here.
func (k *Kernel) open(j Job) (*file, error) {
	// O_NONBLOCK: a FIFO in place of the file must not hold a loader.
	fd, err := unix.Openat(k.dir, j.Module.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	var f *file
	if err == nil {
		f, err = k.prepare(fd, j.Express)
	}
	if err != nil {
		return nil, &LoadError{Module: j.Module.Name, Op: "open " + j.Module.Path, Err: err}
	}
	return f, nil
}

// prepare looks at an open file. It returns the file itself or, if the kernel
// cannot unpack it, one that holds the unpacked module. It closes what it does
// not return.
func (k *Kernel) prepare(fd int, express bool) (ready *file, err error) {
	f := &file{fd: fd, free: func() {}}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return nil, errors.New("not a regular file with content")
	}
	f.size = st.Size
	var head [6]byte
	n, err := unix.Pread(fd, head[:], 0)
	if err != nil {
		return nil, err
	}
	c := compressionOf(head[:n])
	f.free = k.reading.charge(f.size, c != "", express)
	switch c {
	case "":
		return f, k.policy.Load().admit(fd, st.Size)
	case k.compression:
		f.flags = unix.MODULE_INIT_COMPRESSED_FILE
		return f, nil
	}
	plain, size, err := k.unpack(fd, c, st.Size)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", c, err)
	}
	unix.Close(fd)
	f.fd, f.size = plain, size
	return f, k.policy.Load().admit(plain, size)
}

// compressionOf names the compression of a module file by its first bytes, as
// /sys/module/compression spells it; "" for none. The name of the file is no
// evidence.
func compressionOf(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return "gzip"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return "zstd"
	}
	return ""
}

// unpack returns a file in memory that holds what the compressed one does, its
// signature included. As many files are unpacked at one time as there are CPUs:
// more would take their memory and gain nothing.
func (k *Kernel) unpack(fd int, compression string, packed int64) (plain int, size int64, err error) {
	k.unpacking <- struct{}{}
	defer func() { <-k.unpacking }()
	mem, err := newMemfd()
	if err != nil {
		return -1, 0, err
	}
	defer mem.Close()
	size, err = decompress(mem, compression, io.NewSectionReader(preader(fd), 0, packed), packed)
	if err != nil {
		return -1, 0, err
	}
	// finit_module answers ETXTBSY to a file that anybody can write to. So the
	// content is sealed, and the kernel gets a second, read-only opening.
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(mem.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return -1, 0, fmt.Errorf("seal: %w", err)
	}
	plain, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", mem.Fd()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("open the unpacked module: %w", err)
	}
	return plain, size, nil
}

// newMemfd returns an empty file in memory that can be sealed.
func newMemfd() (*os.File, error) {
	// Kernels before 6.3 do not know MFD_NOEXEC_SEAL, later ones log its absence.
	fd, err := unix.MemfdCreate("module", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("module", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), "unpacked module"), nil
}

// A preader reads a file descriptor without owning or moving it.
type preader int

func (fd preader) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		more, err := unix.Pread(int(fd), p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case more == 0:
			return n, io.EOF
		}
		n += more
	}
	return n, nil
}

// beingWritten reports whether somebody has the file open for writing: the
// kernel gives a read lease on it only if nobody has. On a file system without
// leases, or without the right to take one, the answer is no, and finit_module
// will tell.
func beingWritten(fd int) bool {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		return err == unix.EAGAIN
	}
	// Kept, the lease would hold up a writer for as long as the init function runs.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return false
}
