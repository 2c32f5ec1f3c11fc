package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hapax/tests/internal/debian"
	"hapax/tests/internal/lab"
	"hapax/tests/need"
)

// buildRuns is how often each image is built. The least of each figure counts: the host's other work only adds to it.
const buildRuns = 5

// A cost is what a program took with all that it started.
type cost struct {
	wall, processor time.Duration
	memory          int64 // bytes, of the largest process
}

// measure runs a command to its end.
func measure(b *testing.B, cmd *exec.Cmd) cost {
	b.Helper()
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		b.Fatal("no account of the process")
	}
	return cost{time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), usage.Maxrss << 10}
}

func (c cost) least(other cost) cost {
	if c == (cost{}) {
		return other
	}
	return cost{min(c.wall, other.wall), min(c.processor, other.processor), min(c.memory, other.memory)}
}

// BenchmarkBuild builds an image of Debian's full 6.12 kernel that boots any usual machine, with hapax and with what Debian has for
// that, and prints the table of docs/bench-image.md.
func BenchmarkBuild(b *testing.B) {
	need.Root(b)
	l, err := openLab()
	if err != nil {
		b.Fatal(err)
	}
	hapax, err := l.Hapax(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	trees := lab.Trees()
	k, err := l.Kernel(b.Context(), trees[len(trees)-1])
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for b.Loop() {
		fmt.Printf("\n%s, the least of %d runs\n\n", k.Release, buildRuns)
		fmt.Println("| | modules | image | time | processor time | memory |")
		fmt.Println("|---|---|---|---|---|---|")
		for _, compression := range []string{"lz4", "zstd"} {
			file := filepath.Join(dir, "hapax-"+compression)
			row(b, hapax, "hapax, universal, "+compression, file, buildRuns, func() *exec.Cmd {
				return exec.CommandContext(b.Context(), hapax, "build", "--force", "--modules-dir", k.ModulesDir, "--compression", compression, file)
			})
		}
		for _, peer := range []struct{ name, build string }{
			{"initramfs-tools", "mkinitramfs -o /boot/initrd " + k.Release},
			{"dracut", "dracut --force --quiet --no-hostonly --kver " + k.Release + " /boot/initrd"},
		} {
			root := peerRoot(b, l, k, peer.name)
			row(b, hapax, peer.name, filepath.Join(root, "boot/initrd"), 1, func() *exec.Cmd {
				cmd := exec.CommandContext(b.Context(), "sh", "-c", `mount --make-rprivate / && mount -t proc proc "$0/proc" && exec chroot "$0" `+peer.build, root)
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
				return cmd
			})
		}
	}
}

// peerRoot returns a Debian with a maker of images and the modules of k.
func peerRoot(b *testing.B, l *lab.Lab, k debian.Kernel, name string) string {
	b.Helper()
	root := b.TempDir()
	if err := l.FreshDebian(b.Context(), root, "systemd-sysv,zstd,"+name); err != nil {
		b.Fatal(err)
	}
	tool(b, "cp", "-r", filepath.Dir(k.ModulesDir), filepath.Join(root, "lib/"))
	tool(b, "cp", k.Config, filepath.Join(root, "boot/"))
	return root
}

// row builds an image some times and prints what it took.
func row(b *testing.B, hapax, name, file string, runs int, build func() *exec.Cmd) {
	b.Helper()
	var least cost
	for range runs {
		least = least.least(measure(b, build()))
	}
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	modules, err := exec.CommandContext(b.Context(), hapax, "ls", "--modules", file).Output()
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("| %s | %d | %.1f MB | %.2f s | %.2f s | %.0f MB |\n", name, strings.Count(string(modules), "\n"), float64(info.Size())/1e6,
		least.wall.Seconds(), least.processor.Seconds(), float64(least.memory)/1e6)
}
