package image

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hapax/image/archive"
	"hapax/image/vmlinuz"
)

// checkOutput finds out before the work what would stop it in the end.
func checkOutput(output string, force bool) error {
	there, err := os.Lstat(output)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	info, statErr := os.Stat(output) // what a link leads to is replaced, or made
	switch {
	case err != nil:
		return fmt.Errorf("%w", err)
	case statErr == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file, so it is not replaced", output)
	case statErr != nil && !(there.Mode().Type() == fs.ModeSymlink && errors.Is(statErr, fs.ErrNotExist)):
		return fmt.Errorf("%w", statErr)
	case !force:
		return existsError(output)
	}
	return nil
}

// behindLinks returns the file that a name stands for, which need not be there yet. Names are not cleaned before they are looked
// up: ".." behind a link counts from where that leads to.
func behindLinks(name string) (string, error) {
	for range 40 {
		target, err := os.Readlink(name)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) { // no link, or nothing
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("%w", err)
		}
		if !filepath.IsAbs(target) {
			dir, _ := filepath.Split(name)
			target = dir + target
		}
		dir, base := filepath.Split(target)
		if dir, err = filepath.EvalSymlinks(cmp.Or(dir, ".")); err != nil {
			return "", fmt.Errorf("%w", err)
		}
		name = filepath.Join(dir, base)
	}
	return "", fmt.Errorf("%s: too many links", name)
}

func existsError(output string) error {
	return fmt.Errorf("%s: %w: use --force to replace it", output, fs.ErrExist)
}

// An output is what Build writes when everything is composed.
type output struct {
	spec      Spec
	entries   []archive.Entry
	microcode []byte // the archive in front of the compressed one
}

// write puts the image in the place of the output. It returns the size of the archive before compression, and that of the
// image. The image is private if a file in it is.
func (o output) write(ctx context.Context) (content, size int64, err error) {
	temp, f, err := o.create(private(o.entries))
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removed(temp))
		}
	}()
	content, size, err = o.fill(ctx, f)
	err = errors.Join(err, f.Close())
	if ctx.Err() != nil {
		return 0, 0, fmt.Errorf("%s not written: %w", o.spec.Output, context.Cause(ctx))
	}
	if err != nil {
		return 0, 0, err
	}
	if err := rename(temp, o.spec.Output, o.spec.Force); err != nil {
		return 0, 0, err
	}
	return content, size, syncDir(filepath.Dir(o.spec.Output))
}

// create makes a new file beside the output.
func (o output) create(perm fs.FileMode) (name string, f *os.File, err error) {
	name = filepath.Join(filepath.Dir(o.spec.Output), "."+filepath.Base(o.spec.Output)+"."+rand.Text()[:8]+".tmp")
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return "", nil, fmt.Errorf("%w", err)
	}
	return name, f, nil
}

// fill writes the image to f and forces it to the disk.
func (o output) fill(ctx context.Context, f *os.File) (content, size int64, err error) {
	if o.spec.Format == Initramfs {
		if _, err := f.Write(o.microcode); err != nil {
			return 0, 0, fmt.Errorf("write %s: %w", o.spec.Output, err)
		}
		content, err = o.initramfs(ctx, f)
	} else {
		content, err = o.assembled(ctx, f)
	}
	if err != nil {
		return 0, 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, 0, fmt.Errorf("write %s: %w", o.spec.Output, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	return content, info.Size(), nil
}

// assembled writes an image of another format than Initramfs to f.
func (o output) assembled(ctx context.Context, f *os.File) (content int64, err error) {
	kernel, err := o.spec.kernelFile()
	if err != nil {
		return 0, err
	}
	if err := sameRelease(kernel, filepath.Base(o.spec.ModulesDir)); err != nil {
		return 0, err
	}
	osRelease, err := o.spec.osRelease()
	if err != nil {
		return 0, err
	}
	name, initrd, err := o.create(0o600)
	if err != nil {
		return 0, err
	}
	defer initrd.Close()
	if err := os.Remove(name); err != nil { // so that nothing can leave it behind
		return 0, fmt.Errorf("%w", err)
	}
	if content, err = o.initramfs(ctx, initrd); err != nil {
		return 0, err
	}
	info, err := initrd.Stat()
	if err != nil {
		return 0, err
	}
	return content, assemble(ctx, f, o.spec, parts{
		Initrd: io.NewSectionReader(initrd, 0, info.Size()), Microcode: o.microcode,
		Kernel: kernel, Release: filepath.Base(o.spec.ModulesDir), Cmdline: o.spec.Cmdline, OSRelease: osRelease,
	})
}

// sameRelease refuses a kernel that says that it is another one than the modules are for.
func sameRelease(kernel, modules string) error {
	f, err := os.Open(kernel)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	defer f.Close()
	if release := vmlinuz.Release(f); release != "" && release != modules {
		return fmt.Errorf("%s is the kernel %s, and the modules are those of %s: name the one with --kernel or the others with --modules-dir", kernel, release, modules)
	}
	return nil
}

// initramfs writes the compressed archive to f and returns its size before compression.
func (o output) initramfs(ctx context.Context, f io.Writer) (content int64, err error) {
	buffered := bufio.NewWriterSize(f, 1<<20)
	compressed, err := archive.NewCompressor(buffered, o.spec.Compression)
	if err != nil {
		return 0, err
	}
	watched := &watchedWriter{ctx: ctx, w: compressed, progress: o.spec.Progress, total: archive.Size(o.entries)}
	content, err = archive.Write(watched, o.entries, o.spec.Time)
	if err = errors.Join(err, compressed.Close(), buffered.Flush()); err != nil {
		return 0, fmt.Errorf("write %s: %w", o.spec.Output, err)
	}
	return content, nil
}

// A watchedWriter stops with its context and tells how far it is.
type watchedWriter struct {
	ctx         context.Context
	w           io.Writer
	done, total int64
	progress    func(done, total int64)
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.w.Write(p)
	w.done += int64(n)
	if w.progress != nil {
		w.progress(w.done, w.total)
	}
	return n, err
}

// Split hands on what an archive.Splitter is told.
func (w *watchedWriter) Split() error {
	if s, ok := w.w.(archive.Splitter); ok {
		return s.Split()
	}
	return nil
}

// rename moves the finished file to its place. Without force it never replaces a file, not even one that
// came while the image was built; where the file system cannot promise that, a look before has to do.
func rename(temp, output string, force bool) error {
	if !force {
		err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, output, unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EEXIST):
			return existsError(output)
		case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS):
			return fmt.Errorf("rename to %s: %w", output, err)
		}
		if err := checkOutput(output, false); err != nil {
			return err
		}
	}
	if err := os.Rename(temp, output); err != nil {
		return fmt.Errorf("%w", err)
	}
	return nil
}

// removed removes the temporary file of a build that failed.
func removed(temp string) error {
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes the renaming itself last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	defer d.Close()
	// Some network file systems cannot sync a folder and say so; the file itself is safe.
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
