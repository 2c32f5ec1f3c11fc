package image

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"strings"

	"hapax/image/archive"
	"hapax/image/assets"
)

// release identifies the image to systemd, which takes a system with this file for an initramfs (initrd-release(5)).
const release = "ID=hapax\nNAME=hapax\nPRETTY_NAME=\"hapax initramfs\"\n"

// addSkeleton adds the folders that init mounts on, and the nodes that it needs before it has mounted devtmpfs: without
// /dev/console the kernel starts it with no standard streams at all.
func (b *builder) addSkeleton(context.Context) error {
	for _, dir := range []string{"bin", "dev", "etc", "lib/modules", "proc", "run", "sys", "sysroot"} {
		if err := b.add(archive.Dir(dir, 0o755), ""); err != nil {
			return err
		}
	}
	for _, e := range []archive.Entry{
		archive.Dir("tmp", fs.ModeSticky|0o777),
		archive.CharDevice("dev/console", 0o600, archive.Devno{Major: 5, Minor: 1}),
		archive.CharDevice("dev/kmsg", 0o600, archive.Devno{Major: 1, Minor: 11}),
		archive.CharDevice("dev/null", 0o666, archive.Devno{Major: 1, Minor: 3}),
		archive.Bytes("etc/initrd-release", 0o644, []byte(release)),
	} {
		if err := b.add(e, "part of every image"); err != nil {
			return err
		}
	}
	return nil
}

// addInit adds /init. It is stored as it is: one compression, that of the archive, is enough.
func (b *builder) addInit(context.Context) error {
	if b.spec.Init == "" {
		binary, err := assets.Init(b.spec.Arch.name())
		if err != nil {
			return fmt.Errorf("%w or give --init FILE", err)
		}
		return b.add(archive.Bytes("init", 0o755, binary), "part of every image")
	}
	return b.addExecutable("init", b.spec.Init, "--init")
}

// addShell adds /bin/sh, which the guard starts when a boot fails.
func (b *builder) addShell(context.Context) error {
	switch b.spec.Shell {
	case NoShell:
		return nil
	case URootShell:
		if arch := b.spec.Arch.name(); arch != runtime.GOARCH {
			return fmt.Errorf("the u-root shell inside of this hapax is for %s, not for %s: give --shell FILE", runtime.GOARCH, arch)
		}
		binary, commands, err := assets.URoot()
		if err != nil {
			return fmt.Errorf("%w or give --shell FILE", err)
		}
		return b.addURoot(binary, commands)
	}
	return b.addExecutable("bin/sh", b.spec.Shell, "--shell")
}

// addURoot adds u-root's binary with a link for each command, by whose name it knows what to do.
func (b *builder) addURoot(binary []byte, commands []string) error {
	if err := b.add(archive.Bytes("bbin/bb", 0o755, binary), "--shell"); err != nil {
		return err
	}
	for _, name := range commands {
		if err := b.add(archive.Symlink("bbin/"+name, "bb"), "--shell"); err != nil {
			return err
		}
	}
	return b.add(archive.Symlink("bin/sh", "../bbin/gosh"), "--shell")
}

// addExecutable adds an executable file under another name.
func (b *builder) addExecutable(name, file, why string) error {
	e, err := fileEntry(name, file)
	if err != nil {
		return err
	}
	if e.Size == 0 {
		return fmt.Errorf("%s is empty, so it cannot be /%s", file, name)
	}
	e.Mode = 0o755
	return b.add(e, why)
}

// checkInterpreters refuses programs that could not start in the image because their dynamic loader is not there. That
// would show only at the moment when the shell is needed.
func (b *builder) checkInterpreters(context.Context) error {
	for _, file := range []string{b.spec.Init, b.spec.Shell} {
		if file == "" || file == NoShell || file == URootShell {
			continue
		}
		loader, err := interpreter(file)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if loader != "" && !b.tree.Has(strings.TrimPrefix(path.Clean(loader), "/")) {
			return fmt.Errorf("%s needs %s, which is not in the image: take a static program, or add that and its "+
				"libraries with --program", file, loader)
		}
	}
	return nil
}

// interpreter returns the dynamic loader of an ELF program, "" for a static one and for any other file.
func interpreter(file string) (string, error) {
	f, err := elf.Open(file)
	if _, other := errors.AsType[*elf.FormatError](err); other || errors.Is(err, io.EOF) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		return strings.TrimRight(string(name), "\x00"), err
	}
	return "", nil
}
