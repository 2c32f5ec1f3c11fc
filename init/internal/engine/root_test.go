package engine

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/rootdev"
)

func TestOverlayRoot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=overlay:/dev/vda rw rootflags=nodev")
		l.disks["vda"] = ext(1)
		l.plug("vda")
		if r := <-l.results(); r.err != nil || r.root.Device != "/dev/vda" || r.root.Type != "ext4" {
			t.Errorf("result = %+v, %+v", r, r.root)
		}
		want := []string{"/dev/vda /run/hapax/overlay/lower ext4 nodev false", "overlay /sysroot"}
		if diff := cmp.Diff(want, l.mounts); diff != "" {
			t.Errorf("mounts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"fs-ext4", "fs-overlay"}, l.loads); diff != "" {
			t.Errorf("modules asked for (-want +got):\n%s", diff)
		}
	})
}

// The mount of a share is tried for each device that could be it, and no other
// time.
func TestShareRoot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=9p:tag rootflags=cache=none")
		l.fail["9p"] = errors.New("no such file or directory")
		go l.share()
		synctest.Wait()
		if len(l.mounts) != 0 {
			t.Errorf("mounts before there is a device: %q", l.mounts)
		}
		l.kick()
		synctest.Wait()
		if l.lastRefusal() == "" {
			t.Error("nobody will know why the mount failed")
		}
		l.mu.Lock()
		delete(l.fail, "9p")
		l.mu.Unlock()
		l.kick()
		if r := <-l.results(); r.err != nil || r.root.Device != "tag" || r.root.Type != "9p" {
			t.Errorf("result = %+v, %+v", r, r.root)
		}
		try := "tag /sysroot 9p trans=virtio,version=9p2000.L,cache=none false"
		if diff := cmp.Diff([]string{try, try}, l.mounts); diff != "" {
			t.Errorf("mounts (-want +got):\n%s", diff)
		}
	})
}

// rd.break= holds the boot at its points until the guard says go.
func TestBreakPoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=/dev/vda rd.break=pre-mount,mount")
		l.disks["vda"] = ext(1)
		l.plug("vda")
		for _, want := range [][]string{{"pre-mount"}, {"pre-mount", "mount"}} {
			synctest.Wait()
			if diff := cmp.Diff(want, l.stops); diff != "" || len(l.mounts) > 0 {
				t.Errorf("stops (-want +got):\n%s%q mounted", diff, l.mounts)
			}
			l.resumed()
		}
		if r := <-l.results(); r.err != nil {
			t.Error(r.err)
		}
	})
}

// resume= is tried before the mount, waited for a while and then given up.
func TestResume(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{0, resumePatience / 2, 2 * resumePatience} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, "root=/dev/vda resume=/dev/vdb")
			l.disks["vda"], l.disks["vdb"] = ext(1), ext(2)
			l.hunt.wakeUp = func(s rootdev.Seen) error {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.mounts = append(l.mounts, "resume "+s.Name)
				return errors.New("nothing there")
			}
			l.plug("vda")
			time.Sleep(late)
			l.plug("vdb")
			if r := <-l.results(); r.err != nil {
				t.Error(r.err)
			}
			want := []string{"resume vdb", "/dev/vda /sysroot ext4  false"}
			if late > resumePatience {
				want = want[1:]
			}
			if diff := cmp.Diff(want, l.mounts); diff != "" {
				t.Errorf("%v late (-want +got):\n%s", late, diff)
			}
			if !slices.ContainsFunc(l.warned, func(s string) bool { return strings.Contains(s, "booting afresh") }) {
				t.Errorf("%v late: nothing said: %q", late, l.warned)
			}
		})
	}
}

// What holds no image of a hibernated system is left alone.
func TestRestoreLooksFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t, "root=/dev/vda resume=/dev/vdb resume_offset=1")
	l.disks["vdb"] = func() (io.ReaderAt, int64, error) { return bytes.NewReader(make([]byte, 16384)), 16384, nil }
	if err := l.restore(rootdev.Seen{Device: rootdev.Device{Name: "vdb"}}); err != nil {
		t.Error(err)
	}
	l.disks["vdb"] = func() (io.ReaderAt, int64, error) { return bytes.NewReader(nil), 0, nil }
	if err := l.restore(rootdev.Seen{Device: rootdev.Device{Name: "vdb"}}); err == nil {
		t.Error("no error for a device that cannot be read")
	}
}

func TestFsckPolicy(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{2: "", 8: "", 4: "has left errors", 6: "has left errors"} {
		l := newLab(t, "root=/dev/vda")
		err := l.checked("/sbin/fsck.ext4", "/dev/vda", unix.WaitStatus(code<<8))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("status %d: %v, want %q", code, err, want)
		}
		if (len(l.warned) == 1) != (want == "") {
			t.Errorf("status %d: warnings %q", code, l.warned)
		}
	}
	l := newLab(t, "root=/dev/vda")
	if err := l.checked("/sbin/fsck.ext4", "/dev/vda", unix.WaitStatus(unix.SIGKILL)); err == nil {
		t.Error("a checker that was killed passes")
	}
	for fstype, want := range map[string]string{"ext4": "-p -f", "f2fs": "-f", "vfat": "-p", "xfs": "", "squashfs": ""} {
		if got := strings.Join(fsckArgs(fstype, true), " "); got != want {
			t.Errorf("fsck.%s gets %q, want %q", fstype, got, want)
		}
	}
}

func TestParseLoaderPartition(t *testing.T) {
	t.Parallel()
	encode := func(s string) []byte {
		b := []byte{6, 0, 0, 0}
		for _, c := range s {
			b = append(b, byte(c), byte(c>>8))
		}
		return b
	}
	const uuid = "2b2f9a3e-6a1c-4d6b-8f0e-0d8a4f7f0001"
	for content, want := range map[string]string{
		string(encode(strings.ToUpper(uuid) + "\x00")): uuid,
		string(encode(uuid)):                           uuid,
		string(encode("\x00")):                         "",
		string(encode("../x\x00")):                     "",
		string(encode("é")):                            "",
		string(encode("\u0161")):                       "", // its low byte is a letter
		"":                                             "",
		strings.Repeat("a\x00", 100):                   "",
	} {
		got, err := parseLoaderPartition([]byte(content))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("parseLoaderPartition(%q) = %q, %v; want %q", content, got, err, want)
		}
	}
}

func FuzzParseLoaderPartition(f *testing.F) {
	f.Add([]byte("\x06\x00\x00\x002\x00b\x00-\x00\x00\x00"))
	f.Add([]byte("\x06\x00\x00"))
	f.Add([]byte("\x06\x00\x00\x00/\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		uuid, err := parseLoaderPartition(content)
		if (err == nil) != (uuid != "") || strings.Trim(uuid, "0123456789abcdef-") != "" {
			t.Errorf("parseLoaderPartition(%q) = %q, %v", content, uuid, err)
		}
	})
}

// A console notes what is written to it.
type console struct {
	mu    sync.Mutex
	lines []string
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, string(b))
	return len(b), nil
}

// After three seconds there is a line each second that says what is awaited,
// until nobody waits any more.
func TestProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=LABEL=a\u009bb hapax.timeout=90s")
		var c console
		go l.progress(&c)
		time.Sleep(4500 * time.Millisecond)
		l.say("mount of /dev/vda")
		l.leaving.Store(true)
		time.Sleep(time.Second)
		l.giveUp()
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{
			"hapax: waiting for root=LABEL=a?b, 3 s of 1m30s\n",
			"hapax: waiting for root=LABEL=a?b, 4 s of 1m30s\n",
			"hapax: waiting for mount of /dev/vda, 5 s\n",
		}
		if diff := cmp.Diff(want, c.lines); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

// A boot that is through in time says nothing.
func TestProgressIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=/dev/vda")
		var c console
		l.giveUp()
		l.progress(&c)
		if len(c.lines) > 0 {
			t.Errorf("lines: %q", c.lines)
		}
	})
}

func TestInSysfs(t *testing.T) {
	t.Parallel()
	if inSysfs(rootdev.Device{Devno: rootdev.Devno{Major: 4095, Minor: 1 << 19}}) {
		t.Error("a device that no kernel has is there")
	}
}
