package image

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"hapax/image/archive"
)

// checkOutput finds out before the work what would stop it in the end.
func checkOutput(output string, force bool) error {
	info, err := os.Lstat(output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w", err)
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return fmt.Errorf("%s is not a regular file, so it is not replaced", output)
	case !force:
		return existsError(output)
	}
	return nil
}

func existsError(output string) error {
	return fmt.Errorf("%s: %w: use --force to replace it", output, fs.ErrExist)
}

// write puts the compressed archive of entries in the place of the output and returns its size before and after
// compression. The image is private if a file in it is.
func write(ctx context.Context, spec Spec, entries []archive.Entry) (content, size int64, err error) {
	perm := fs.FileMode(0o644)
	if slices.ContainsFunc(entries, secret) {
		perm = 0o600
	}
	temp := filepath.Join(filepath.Dir(spec.Output), "."+filepath.Base(spec.Output)+"."+rand.Text()[:8]+".tmp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return 0, 0, fmt.Errorf("%w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removed(temp))
		}
	}()
	content, size, err = fill(ctx, f, spec, entries)
	err = errors.Join(err, f.Close())
	if ctx.Err() != nil {
		return 0, 0, fmt.Errorf("%s not written: %w", spec.Output, context.Cause(ctx))
	}
	if err != nil {
		return 0, 0, err
	}
	if err := rename(temp, spec.Output, spec.Force); err != nil {
		return 0, 0, err
	}
	return content, size, syncDir(filepath.Dir(spec.Output))
}

// fill writes the compressed archive to f and forces it to the disk.
func fill(ctx context.Context, f *os.File, spec Spec, entries []archive.Entry) (content, size int64, err error) {
	buffered := bufio.NewWriterSize(f, 1<<20)
	compressed, err := archive.NewCompressor(buffered, spec.Compression)
	if err != nil {
		return 0, 0, err
	}
	watched := &watchedWriter{ctx: ctx, w: compressed, progress: spec.Progress, total: archive.Size(entries)}
	content, err = archive.Write(watched, entries, spec.Time)
	if err = errors.Join(err, compressed.Close()); err != nil {
		return 0, 0, fmt.Errorf("write %s: %w", spec.Output, err)
	}
	if err := errors.Join(buffered.Flush(), f.Sync()); err != nil {
		return 0, 0, fmt.Errorf("write %s: %w", spec.Output, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	return content, info.Size(), nil
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
