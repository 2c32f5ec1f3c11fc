package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/report"
	"hapax/modload"
	"hapax/modload/modindex"
	"hapax/modload/modloadtest"
	"hapax/tests/need"
)

func TestMakeNodes(t *testing.T) {
	need.Root(t)
	t.Parallel()
	dev, out := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink(out, filepath.Join(dev, "out")), os.WriteFile(filepath.Join(dev, "kept"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	err := makeNodes(dev, []modindex.Devnode{
		{Name: "fuse", Char: true, Major: 10, Minor: 229},
		{Name: "net/tun", Char: true, Major: 10, Minor: 200},
		{Name: "cpu/0/x", Major: 7, Minor: 1 << 9},
		{Name: "kept", Char: true, Major: 1, Minor: 1},
		{Name: "out/side", Char: true, Major: 1, Minor: 1},
	})
	if err == nil || !strings.Contains(err.Error(), "out") {
		t.Errorf("a folder that leads out of /dev gives %v", err)
	}
	for name, want := range map[string]unix.Stat_t{
		"fuse":    {Mode: unix.S_IFCHR | 0o600, Rdev: unix.Mkdev(10, 229)},
		"net/tun": {Mode: unix.S_IFCHR | 0o600, Rdev: unix.Mkdev(10, 200)},
		"cpu/0/x": {Mode: unix.S_IFBLK | 0o600, Rdev: unix.Mkdev(7, 1<<9)},
		"kept":    {Mode: unix.S_IFREG | 0o644},
	} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dev, name), &st); err != nil || st.Mode != want.Mode || st.Rdev != want.Rdev {
			t.Errorf("%s: mode %o, number %x, %v; want %o, %x", name, st.Mode, st.Rdev, err, want.Mode, want.Rdev)
		}
	}
	if made, _ := os.ReadDir(out); len(made) > 0 {
		t.Errorf("made %v outside of /dev", made)
	}
}

func TestUnserved(t *testing.T) {
	t.Parallel()
	var u unserved
	u.add("pci:v1", modload.Origin{By: "/devices/a"})
	u.add("pci:v1", modload.Origin{By: "/devices/b"})
	u.add("usb:v2", modload.Origin{By: "/devices/c"})
	want := []report.Unserved{{Device: "/devices/a", Alias: "pci:v1"}, {Device: "/devices/c", Alias: "usb:v2"}}
	for _, dir := range []string{"", t.TempDir()} { // an image may have no index of what it lacks
		got, err := u.report(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("report: %v (-want +got):\n%s", err, diff)
		}
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "hapax.missing.bin"), []byte("rubbish that is no index"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := u.report(damaged); err == nil || len(got) != 2 {
		t.Errorf("a damaged index gives %v, %v", got, err)
	}
	for i := range maxUnserved + 10 {
		u.add(strings.Repeat("x", i+1), modload.Origin{})
	}
	if got, _ := u.report(""); len(got) != maxUnserved {
		t.Errorf("%d aliases are kept, want %d", len(got), maxUnserved)
	}
}

// Watchers see what ends while they watch; one that sleeps holds up nobody.
func TestWatchers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w watchers
		w.tell(modload.Module{Name: "early"})
		ctx, stop := context.WithCancel(t.Context())
		awake, asleep := w.add(ctx), w.add(ctx)
		for range 2 * watcherLag {
			w.tell(modload.Module{Name: "m"})
			if m := <-awake; m.Name != "m" {
				t.Fatalf("got %q", m.Name)
			}
		}
		stop()
		synctest.Wait()
		w.tell(modload.Module{Name: "late"})
		if n := len(slices.Collect(func(yield func(modload.Module) bool) {
			for m := range asleep {
				if !yield(m) {
					return
				}
			}
		})); n != watcherLag {
			t.Errorf("the sleeping watcher got %d, want %d", n, watcherLag)
		}
		if m, open := <-awake; open {
			t.Errorf("the channel of a watcher that has gone brings %q", m.Name)
		}
	})
}

const histogram = `# event histogram
#
# trigger info: hist:keys=common_pid,name:vals=hitcount:sort=hitcount:size=256 if wait==1 [active]
#

{ common_pid:         77, name: fs-btrfs                                           } hitcount:          1
{ common_pid:        123, name: crypto-ecb(aes)                                    } hitcount:          2

Totals:
    Hits: 3
    Entries: 2
    Dropped: 0
`

func TestParseHistogram(t *testing.T) {
	t.Parallel()
	got, err := parseHistogram([]byte(histogram))
	want := map[request]int{{77, "fs-btrfs"}: 1, {123, "crypto-ecb(aes)"}: 2}
	if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(request{})) {
		t.Errorf("parseHistogram = %v, %v; want %v", got, err, want)
	}
	if _, err := parseHistogram([]byte("{ common_pid: x, name: y } hitcount: 1\n")); err == nil {
		t.Error("a line that makes no sense gives no error")
	}
}

// Each call of the kernel is attributed once, and only if its thread inserts a module.
func TestTracer(t *testing.T) {
	t.Parallel()
	tracefs := t.TempDir()
	dir := filepath.Join(tracefs, "events/module/module_request")
	if openTracer(tracefs) != nil {
		t.Error("a tracer where there is no tracefs")
	}
	write := func(name, text string) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("hist", "")
	tr := openTracer(tracefs)
	write("hist", histogram)
	inserts := func(tid int) string { return map[int]string{123: "aesni"}[tid] }
	for i, want := range []string{"aesni", "aesni", ""} {
		if got := tr.thread("crypto-ecb(aes)", inserts); got != want {
			t.Errorf("request %d is attributed to %q, want %q", i, got, want)
		}
	}
	if got := tr.thread("fs-btrfs", inserts); got != "" {
		t.Errorf("a request of a stranger is attributed to %q", got)
	}
	tr.close()
	if b, err := os.ReadFile(filepath.Join(dir, "trigger")); err != nil || !strings.HasPrefix(string(b), "!hist:") {
		t.Errorf("after close the trigger is %q, %v", b, err)
	}
}

// A helper counts as on its way until one of its threads waits for our answer.
func TestHelperOnItsWay(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	process := func(pid, comm, wchan string) {
		task := filepath.Join(proc, pid, "task", pid)
		err := errors.Join(os.MkdirAll(task, 0o755),
			os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o644),
			os.WriteFile(filepath.Join(task, "wchan"), []byte(wchan), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	process("10", "bash", "do_wait")
	process("11", "modprobe", "__skb_wait_for_more_packets")
	if helperOnItsWay(proc) {
		t.Error("a helper that waits for us is taken for one on its way")
	}
	process("12", "modprobe", "0")
	if !helperOnItsWay(proc) {
		t.Error("a helper that does not wait yet is not seen")
	}
}

func TestRunCommand(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		`test "$MODPROBE_MODULE" = snd`: "",
		"exit 3":                        `"exit 3" ended with status 3`,
		"kill -9 $$":                    `"kill -9 $$" was ended by signal killed`,
	} {
		if err := runCommand("snd", command); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %q", command, err, want)
		}
	}
}

// What depmod or an administrator changes counts from the next request on.
func TestRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write := func(deps string) {
			fresh := filepath.Join(dir, "fresh")
			if err := errors.Join(os.WriteFile(fresh, []byte(deps), 0o644), os.Rename(fresh, filepath.Join(dir, "modules.dep"))); err != nil {
				t.Fatal(err)
			}
		}
		write("kernel/a.ko:\n")
		index, err := modindex.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		m := &modules{dir: dir, opened: index, stamp: stampOf(dir)}
		k := modloadtest.NewKernel(t)
		opt := modload.Options{Load: k.Load}
		opt.Index, opt.Config, opt.Params, _ = m.configured()
		m.sched = modload.New(opt)
		ask := func(name string) error {
			time.Sleep(2 * lookEvery)
			m.refresh(t.Errorf)
			return m.sched.Load(t.Context(), name)
		}
		if err := errors.Join(ask("a"), ask("a")); err != nil {
			t.Error(err)
		}
		if err := ask("b"); !errors.Is(err, modload.ErrNotFound) {
			t.Errorf("b before depmod: %v", err)
		}
		write("kernel/a.ko:\nkernel/b.ko: kernel/a.ko\n")
		if err := ask("b"); err != nil {
			t.Errorf("b after depmod: %v", err)
		}
		if got := k.Live(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("live: %v", got)
		}
	})
}
