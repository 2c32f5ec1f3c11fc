package lab

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hapax/image/archive"
	"hapax/tests/internal/debian"
)

// Hapax builds the host command, with the init of this tree inside, and returns its path.
func (l *Lab) Hapax(ctx context.Context) (string, error) {
	return l.made.file("hapax", func() (string, error) {
		cmd := exec.CommandContext(ctx, "make", "-s", "build")
		cmd.Dir = l.Root
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("make build: %w: %s", err, out)
		}
		return filepath.Join(l.Root, "bin/hapax"), nil
	})
}

// HapaxImage returns an image that hapax build makes for k with the flags given, the same one for the same flags.
func (l *Lab) HapaxImage(ctx context.Context, k debian.Kernel, flags ...string) (string, error) {
	key := strings.Join(append([]string{"hapax", k.Release}, flags...), " ")
	return l.made.file(key, func() (string, error) {
		hapax, err := l.Hapax(ctx)
		if err != nil {
			return "", err
		}
		dir := filepath.Join(l.Build, "tests")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		file := filepath.Join(dir, imageName(key)+".img")
		args := append([]string{"build", "--force", "--modules-dir", k.ModulesDir}, flags...)
		if out, err := exec.CommandContext(ctx, hapax, append(args, file)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("hapax %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return file, nil
	})
}

// imageName makes a file name of a key, without the folders of the files that the key names. The end of a long one becomes
// a number.
func imageName(key string) string {
	words := strings.Fields(key)
	for i, w := range words {
		words[i] = strings.TrimLeft(filepath.Base(w), "-")
	}
	name := strings.Join(words, "-")
	const enough = 200 // of the 255 bytes that file systems allow
	if len(name) > enough {
		name = fmt.Sprintf("%s-%08x", name[:enough], crc32.ChecksumIEEE([]byte(key)))
	}
	return name
}

// Overlay writes an image that is base followed by a second archive with one file. The kernel unpacks both in turn, so
// the file takes the place of the one of that name in base.
func Overlay(path, base, name string, content []byte) error {
	return create(path, func(f *os.File) error {
		b, err := os.Open(base)
		if err != nil {
			return err
		}
		defer b.Close()
		n, err := io.Copy(f, b)
		if err != nil {
			return err
		}
		t := &tree{}
		t.add(archive.Bytes(name, 0o644, content))
		if t.err != nil {
			return t.err
		}
		// An archive begins at a multiple of four bytes; zeros between two are skipped.
		if _, err := f.Write(make([]byte, -n&3)); err != nil {
			return err
		}
		return t.archiveTo(f)
	})
}

// moduleFile returns the file of a module below a modules folder, relative to it.
func moduleFile(dir, name string) (string, error) {
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(dep) {
		file, _, _ := bytes.Cut(line, []byte{':'})
		base, _, _ := strings.Cut(filepath.Base(string(file)), ".")
		if strings.ReplaceAll(base, "-", "_") == name {
			return string(file), nil
		}
	}
	return "", fmt.Errorf("%s/modules.dep: no module %s", dir, name)
}

// TruncateModule writes an image that is base with the first half of the module's file in place of the whole.
func TruncateModule(path, base string, k debian.Kernel, module string) error {
	file, err := moduleFile(k.ModulesDir, module)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(k.ModulesDir, file))
	if err != nil {
		return err
	}
	return Overlay(path, base, filepath.Join("lib/modules", k.Release, file), content[:len(content)/2])
}
