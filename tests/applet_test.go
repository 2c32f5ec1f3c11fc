package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/internal/debian"
	"hapax/tests/internal/lab"
	"hapax/tests/need"
)

// appletCommands are run with Debian's kmod and with the applets of init, which have to say and to return the same. TREE is
// where a kernel's lib/modules is, REL its release, KO a module's file in it, and XZ one that is compressed. A '#' and what follows says in which way the applets
// differ on purpose: "stdout" means that the first line alone is compared, "softdeps" that all of kmod's lines have to be
// there, and more may.
const appletCommands = `
modprobe -d TREE -S REL -D btrfs # softdeps
modprobe -d TREE -S REL -D virtio_blk num_request_queues=2
modprobe -d TREE -S REL -D virtio-blk
modprobe -d TREE -S REL -D ext4
modprobe -d TREE -S REL --show-depends fs-ext2
modprobe --show-dep --dirname=TREE --set-v REL loop
modprobe -d TREE -S REL loop -D
modprobe -Dd TREE -S REL loop
modprobe -dTREE -SREL -D loop max_part=3 "name=two words" 'q="is quoted"'
modprobe -d TREE -S REL -D nosuch
modprobe -d TREE -S REL -q -D nosuch
modprobe -d TREE -S REL -a -D nosuch loop floppy
modprobe -d TREE -S REL -a -D loop nosuch
modprobe -d TREE -S REL -D -- -a
modprobe -d TREE -S REL -D a]b
modprobe -d TREE -S REL -D pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00
modprobe -d TREE -S REL -R virtio:d00000002v00001AF4
modprobe -d TREE -S REL -R fs-ext4
modprobe -d TREE -S REL -R fs-btrfs
modprobe -d TREE -S REL -R net-pf-40
modprobe -d TREE -S REL -R nosuch
modprobe -d TREE -S REL -qR nosuch
modprobe -d TREE -S REL -Ra btrfs nosuch fs-xfs
modprobe -d TREE -S REL -R my-disk
modprobe -d TREE -S REL -D my-disk
modprobe -d TREE -S REL -D nbd
modprobe -d TREE -S REL -D has-install
modprobe -d TREE -S REL -i -D has-install
modprobe -d TREE -S REL -D zram a=1
modprobe -d TREE -S REL -iD zram a=1
modprobe -d TREE -S REL -D floppy
modprobe -d TREE -S REL -b -D floppy
modprobe -d TREE -S REL -bD spare
modprobe -d TREE -S REL -D spare
modprobe -d TREE -S REL -n loop
modprobe -d TREE -S REL -nv loop
modprobe -d TREE -S REL -nvq brd
modprobe -d TREE -S REL -n -v brd
modprobe -d TREE -S REL -n --first-time loop
modprobe -d TREE -S REL -n --first-time ext4
modprobe -d TREE -S REL -n --first-time brd
modprobe -d TREE -S REL -n -q --first-time loop
modprobe -d TREE -S REL --dry-run --all --verbose loop brd ext4
modprobe -d TREE -S REL --first-time ext4
modprobe -d TREE -S REL loop
modprobe -d TREE -S REL -v loop
modprobe -d TREE -S REL -nv -C conf/other.conf brd
modprobe -d TREE -S REL -nv -C conf/nosuch brd
modprobe -d TREE -S REL -nv --force brd
modprobe -d TREE -S REL -n -r loop
modprobe -d TREE -S REL -nvr loop
modprobe -d TREE -S REL -nvr virtio
modprobe -d TREE -S REL -nvr --remove-holders virtio_ring
modprobe -d TREE -S REL -nvr virtio_blk
modprobe -d TREE -S REL -nvr brd
modprobe -d TREE -S REL -nr --first-time brd
modprobe -d TREE -S REL -nr ext4
modprobe -d TREE -S REL -nr nosuch
modprobe -d TREE -S REL -nra nosuch virtio loop
modprobe -d TREE -S REL -nvr has-remove
modprobe -d TREE -S REL -nvri has-remove
modprobe -d TREE -S REL -nvr dm_mod
modprobe -d TREE -S REL -D -r loop
modprobe -d TREE -S REL -nvr -w 10 virtio
modprobe -d TREE -S REL -w ten -r virtio
modprobe -S none -D loop
modprobe -S none -R a:b
modprobe -S none -n -r loop
modprobe -d . -S none -D loop
modprobe
modprobe -Z
modprobe -qZ loop
modprobe --no-such
modprobe --force-
modprobe --show-
modprobe --all=3 loop
modprobe -d
modprobe --dirname
modprobe -V # stdout
modprobe -h # stdout
lsmod
lsmod -v
rmmod
rmmod nosuch
rmmod virtio
rmmod virtio_blk nosuch virtio-ring
rmmod -w loop
rmmod --forced loop
rmmod -h # stdout
insmod
insmod -
insmod nosuch.ko
insmod -x KO
insmod -V # stdout
modinfo -b TREE -k REL virtio_blk
modinfo -b TREE -k REL -F alias nvme
modinfo -b TREE -k REL -F parm loop
modinfo -b TREE -k REL -p virtio_blk
modinfo -b TREE -k REL -0 loop
modinfo -b TREE -k REL -d -F license loop
modinfo -b TREE -k REL -n loop ext4 nosuch
modinfo -b TREE -k REL -a btrfs
modinfo -b TREE -k REL -l ext4
modinfo -b TREE -k REL -F name ext4
modinfo -b TREE -k REL ext4
modinfo -b TREE -k REL fs-btrfs
modinfo -b TREE -k REL -m virtio-blk
modinfo -b TREE -k REL -m fs-btrfs
modinfo KO
modinfo -F vermagic KO
modinfo XZ
modinfo -F description XZ
modinfo conf/empty.ko
modinfo conf/text.ko
modinfo -b TREE -k none loop
modinfo
modinfo -x
`

// appletConfig is the modprobe.d of the comparison.
const appletConfig = `
alias my-disk loop
alias my-disk brd
alias spare brd
blacklist brd
options loop max_loop=4
options my-disk hw_queue_depth=9
install has-install echo installed $CMDLINE_OPTS
install zram /bin/true
remove has-remove echo removed
softdep nbd pre: loop post: brd
softdep dm_mod post: loop
`

func TestAppletsBesideKmod(t *testing.T) {
	l := needQEMU(t)
	k := kernel(t, l, lab.Kernels()[0])
	need.Root(t)
	s := newAppletScene(t, k, kernel(t, l, lab.Kernels()[1]))
	var commands, differences []string
	for line := range strings.Lines(strings.TrimSpace(appletCommands)) {
		command, differs, _ := strings.Cut(strings.TrimSpace(line), " # ")
		commands, differences = append(commands, command), append(differences, differs)
	}
	if len(commands) < 60 {
		t.Errorf("%d command lines, want at least 60", len(commands))
	}
	wants, gots := s.run(t, s.kmod, commands), s.run(t, s.applets, commands)
	for i, command := range commands {
		want, got := wants[i], gots[i]
		switch differences[i] {
		case "stdout":
			want.Stdout, got.Stdout = firstLine(want.Stdout), firstLine(got.Stdout)
		case "softdeps":
			got.Stdout = common(want.Stdout, got.Stdout)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-kmod +applet):\n%s", command, diff)
		}
	}
}

// common returns the lines of got that want has, too.
func common(want, got string) string {
	var kept strings.Builder
	for line := range strings.Lines(got) {
		if strings.Contains(want, line) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// An appletScene is a folder in which both programs see the same system, of which most is made up.
type appletScene struct {
	dir           string
	kmod, applets string // the folders that PATH begins with
	expand        *strings.Replacer
}

func newAppletScene(t *testing.T, k, packed debian.Kernel) *appletScene {
	t.Helper()
	s := &appletScene{dir: t.TempDir(), kmod: "/usr/sbin"}
	s.applets = filepath.Join(s.dir, "bin")
	const loop = "kernel/drivers/block/loop.ko"
	s.expand = strings.NewReplacer("TREE", k.Root, "REL", k.Release,
		"KO", filepath.Join(k.ModulesDir, loop), "XZ", filepath.Join(packed.ModulesDir, loop+".xz"))
	for name, text := range map[string]string{
		"modprobe.d/a.conf": appletConfig,
		"conf/other.conf":   "options brd rd_nr=1\n",
		"conf/text.ko":      "this is no module, but long enough to be one: " + strings.Repeat("x", 100),
		"conf/empty.ko":     "",
		"proc/cmdline":      "quiet brd.rd_size=4096 modprobe.blacklist=floppy\n",
		"proc/modules": "loop 40960 0 - Live 0x0000000000000000\nvirtio_blk 32768 1 - Live 0x0\n" +
			"virtio_ring 53248 1 virtio_blk, Live 0x0\nvirtio 16384 1 virtio_blk,virtio_ring, Live 0x0\n",
	} {
		s.write(t, name, text)
	}
	for name, refs := range map[string]int{"loop": 0, "virtio_blk": 1, "virtio_ring": 1, "virtio": 2, "dm_mod": 0} {
		s.write(t, "sys/module/"+name+"/initstate", "live\n")
		s.write(t, "sys/module/"+name+"/refcnt", fmt.Sprintln(refs))
		s.write(t, "sys/module/"+name+"/coresize", "40960\n")
		s.folder(t, "sys/module/"+name+"/holders")
	}
	for _, holder := range []string{"virtio_ring/holders/virtio_blk", "virtio/holders/virtio_blk", "virtio/holders/virtio_ring"} {
		s.folder(t, "sys/module/"+holder)
	}
	program := filepath.Join(s.dir, "init")
	build := exec.Command("go", "build", "-o", program, "hapax/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.folder(t, "bin")
	for _, name := range []string{"modprobe", "lsmod", "rmmod", "insmod", "modinfo"} {
		if err := os.Symlink(program, filepath.Join(s.applets, name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *appletScene) folder(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (s *appletScene) write(t *testing.T, name, text string) {
	t.Helper()
	s.folder(t, filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// An appletRun is what a command line came to.
type appletRun struct {
	Code, Stdout, Stderr string
}

// libkmodPlace is what Debian's libkmod says in front of its own messages: a line of its source, and where nobody has told
// it how to log, its name.
var libkmodPlace = regexp.MustCompile(`(?m)^(\w+: ERROR: )\.\./libkmod/\S+ \w+\(\) |^libkmod: ERROR \S+ \w+: .*\n`)

// run runs command lines with the programs in the folder bin, in a mount namespace of its own. The shell calls each program
// by the bare name, which is what getopt's messages begin with.
func (s *appletScene) run(t *testing.T, bin string, commands []string) []appletRun {
	t.Helper()
	script := "set -e; mkdir -p /etc/modprobe.d; for d in proc sys; do mount --bind $d /$d; done\n" +
		"mount --bind modprobe.d /etc/modprobe.d; set +e; PATH=" + bin + ":$PATH\n"
	out := t.TempDir()
	for i, command := range commands {
		script += fmt.Sprintf("%s >%s/%d.out 2>%[2]s/%[3]d.err; echo $? >%[2]s/%[3]d.code\n", s.expand.Replace(command), out, i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	runs := make([]appletRun, len(commands))
	for i := range runs {
		read := func(suffix string) string {
			b, err := os.ReadFile(fmt.Sprintf("%s/%d.%s", out, i, suffix))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		stderr := strings.ReplaceAll(libkmodPlace.ReplaceAllString(read("err"), "$1"), out, "")
		runs[i] = appletRun{strings.TrimSpace(read("code")), read("out"), stderr}
	}
	return runs
}
