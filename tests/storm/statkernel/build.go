package statkernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hapax/tests/internal/debian"
)

// build makes both kernels and their modules.
func (b *Builder) build(ctx context.Context, source debian.Package) error {
	src, err := b.unpack(ctx, source)
	if err != nil {
		return err
	}
	original := filepath.Join(src, noMerge().file)
	text, err := b.original(original)
	if err != nil {
		return err
	}
	if err := replace(original, text); err != nil { // a build that was broken off may have left the other one
		return err
	}
	if err := b.configure(ctx, src); err != nil {
		return err
	}
	if err := b.make(ctx, src, "bzImage", "modules"); err != nil {
		return err
	}
	if err := b.install(ctx, src); err != nil {
		return err
	}
	if err := b.keep(Stats); err != nil {
		return err
	}
	patched, err := noMerge().apply(text)
	if err != nil {
		return err
	}
	if err := replace(original, patched); err != nil {
		return err
	}
	if err := b.make(ctx, src, "bzImage"); err != nil {
		return err
	}
	return errors.Join(b.keep(NoMerge), replace(original, text))
}

// unpack returns the folder of the sources.
func (b *Builder) unpack(ctx context.Context, source debian.Package) (string, error) {
	src, stamp := b.path(SourcePackage), b.path("version")
	if old, err := os.ReadFile(stamp); err == nil && string(old) == source.Version {
		return src, nil
	}
	if err := errors.Join(os.RemoveAll(src), os.RemoveAll(b.path("obj")), os.RemoveAll(b.path("main.c")), os.MkdirAll(b.Dir, 0o755)); err != nil {
		return "", err
	}
	b.Logf("unpacking %s %s", source.Name, source.Version)
	archive := filepath.Join(source.Root, "usr/src", SourcePackage+".tar.xz")
	if err := b.run(ctx, nil, "tar", "-C", b.Dir, "-xf", archive); err != nil {
		return "", err
	}
	return src, os.WriteFile(stamp, []byte(source.Version), 0o644)
}

// original returns the content of the file that is patched, from a copy that is made the first time.
func (b *Builder) original(file string) (string, error) {
	backup := b.path("main.c")
	text, err := os.ReadFile(backup)
	if errors.Is(err, os.ErrNotExist) {
		if text, err = os.ReadFile(file); err == nil {
			err = os.WriteFile(backup, text, 0o644)
		}
	}
	return string(text), err
}

// replace writes the file if it has another content, so that make compiles no more than it has to.
func replace(file, text string) error {
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return nil
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// configure makes the configuration and checks that nothing of config fell by the way.
func (b *Builder) configure(ctx context.Context, src string) error {
	obj := b.path("obj")
	if err := os.MkdirAll(obj, 0o755); err != nil {
		return err
	}
	b.Logf("configuring")
	if err := b.run(ctx, nil, "make", "-s", "-C", src, "O="+obj, "x86_64_defconfig", "kvm_guest.config"); err != nil {
		return err
	}
	file := filepath.Join(obj, ".config")
	base, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(base, config...), 0o644); err != nil { // of two lines the later one counts
		return err
	}
	if err := b.run(ctx, nil, "make", "-s", "-C", src, "O="+obj, "olddefconfig"); err != nil {
		return err
	}
	got, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if lost := missing(config, string(got)); len(lost) > 0 {
		return fmt.Errorf("this kernel does not take %s", strings.Join(lost, ", "))
	}
	return nil
}

// missing returns the lines of a configuration that another one does not hold. An option that the other one does not know
// is as good as one that is not set.
func missing(want, got string) []string {
	set := make(map[string]string)
	for line := range strings.Lines(got) {
		if option, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			set[option] = value
		}
	}
	var lost []string
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if option, off := strings.CutSuffix(line, " is not set"); off {
			if option = strings.TrimPrefix(option, "# "); set[option] != "" {
				lost = append(lost, line)
			}
		} else if option, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") && set[option] != value {
			lost = append(lost, line)
		}
	}
	return lost
}

// make runs kbuild and reports now and then how far it has come.
func (b *Builder) make(ctx context.Context, src string, targets ...string) error {
	args := append([]string{"make", "-C", src, "O=" + b.path("obj"), "-j" + strconv.Itoa(max(b.Jobs, 1))}, targets...)
	b.Logf("building %s", strings.Join(targets, " and "))
	read, write := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.progress(read)
	}()
	err := b.run(ctx, write, args...)
	write.Close()
	<-done
	return err
}

// progress counts the steps that kbuild prints.
func (b *Builder) progress(r io.Reader) {
	const step = 15 * time.Second
	begun := time.Now()
	next, steps := begun.Add(step), 0
	for lines := bufio.NewScanner(r); lines.Scan(); {
		steps++
		if now := time.Now(); now.After(next) {
			next = now.Add(step)
			b.Logf("%5d steps after %v: %s", steps, now.Sub(begun).Round(time.Second), strings.TrimSpace(lines.Text()))
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long ends the loop, and kbuild must not wait for a reader
}

// install puts the modules, as they are needed in an image, below root.
func (b *Builder) install(ctx context.Context, src string) error {
	root := b.path("root")
	if err := errors.Join(os.RemoveAll(root), os.MkdirAll(filepath.Join(root, "boot"), 0o755)); err != nil {
		return err
	}
	b.Logf("installing the modules")
	// DEPMOD=true: depmod is not in the PATH of every user.
	if err := b.run(ctx, nil, "make", "-s", "-C", src, "O="+b.path("obj"), "INSTALL_MOD_PATH="+root, "INSTALL_MOD_STRIP=1",
		"DEPMOD=true", "modules_install"); err != nil {
		return err
	}
	trees, err := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	if err != nil || len(trees) != 1 {
		return fmt.Errorf("%s: %d module trees, want one", root, len(trees))
	}
	depmod, err := debian.Tool("depmod")
	if err != nil {
		return err
	}
	if err := b.run(ctx, nil, depmod, "-b", root, filepath.Base(trees[0])); err != nil {
		return err
	}
	kconfig, err := os.ReadFile(b.path("obj/.config"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "boot/config"), kconfig, 0o644)
}

// keep copies the kernel image that was built last.
func (b *Builder) keep(variant string) error {
	image, err := os.ReadFile(b.path("obj/arch/x86/boot/bzImage"))
	if err != nil {
		return err
	}
	return os.WriteFile(b.path("root/boot/vmlinuz-"+variant), image, 0o644)
}

// run runs a tool to its end; stdout is nil for one that has nothing to say.
func (b *Builder) run(ctx context.Context, stdout io.Writer, args ...string) error {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		const most = 2000 // bytes of what the compiler said last
		said := strings.TrimSpace(stderr.String())
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, said[max(0, len(said)-most):])
	}
	return nil
}
