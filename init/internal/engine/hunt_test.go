package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"hapax/coldplug"
	"hapax/init/internal/cmdline"
	"hapax/init/internal/rootdev"
	"hapax/modload"
	"hapax/uevent"
)

// A lab is a hunt whose disks, modules and mounts are made up.
type lab struct {
	*hunt
	disks map[string]func() (io.ReaderAt, int64, error)

	mu     sync.Mutex
	loads  []string
	mounts []string
	warned []string
	stops  []string         // of rd.break=
	fail   map[string]error // by file system type
	gone   map[string]bool  // devices that were unplugged
}

func newLab(t *testing.T, line string) *lab {
	t.Helper()
	params := cmdline.Parse(line)
	ref, err := rootdev.ParseRoot(params.Root)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{disks: map[string]func() (io.ReaderAt, int64, error){}, fail: map[string]error{}, gone: map[string]bool{}}
	note := func(list *[]string, text string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		*list = append(*list, text)
	}
	warnf := func(format string, args ...any) { note(&l.warned, fmt.Sprintf(format, args...)) }
	l.hunt = newHunt(params, ref)
	l.hunt.warnf = warnf
	l.hunt.nudge = func() {}
	l.hunt.ask = func(point string) { note(&l.stops, point) }
	l.hunt.check = func(string, string) error { return nil }
	l.hunt.present = func(d rootdev.Device) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.gone[d.Name]
	}
	l.hunt.load = func(_ context.Context, query string) error {
		note(&l.loads, query)
		return &modload.LoadError{Module: query, Op: "look up", Err: modload.ErrNotFound}
	}
	l.hunt.mountFS = func(src, target, fstype, flags string, readWrite bool) error {
		note(&l.mounts, fmt.Sprint(src, " ", target, " ", fstype, " ", flags, " ", readWrite))
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.fail[fstype]
	}
	l.hunt.overlay = func(target string) error {
		note(&l.mounts, "overlay "+target)
		return nil
	}
	if ref.OnDevice() {
		l.blocks = newBlocks(rootdev.New(ref, nil), warnf)
		l.blocks.open = func(name string) (io.ReaderAt, int64, error) { return l.disks[name]() }
		l.blocks.matched = l.hunt.matched
	}
	return l
}

// ext makes a device that holds the superblock of an ext4 with that UUID byte.
func ext(uuid byte) func() (io.ReaderAt, int64, error) {
	img := make([]byte, 64<<10)
	sb := img[1024:]
	sb[0x38], sb[0x39] = 0x53, 0xef      // magic
	sb[0x4c] = 1                         // dynamic revision
	sb[0x5c], sb[0x60] = 0x04, 0x40|0x02 // has_journal; extents, filetype
	copy(sb[0x68:], bytes.Repeat([]byte{uuid}, 16))
	return func() (io.ReaderAt, int64, error) { return bytes.NewReader(img), int64(len(img)), nil }
}

func uuidOf(b byte) string {
	h := strings.Repeat(fmt.Sprintf("%02x", b), 16)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// plug makes a device appear.
func (l *lab) plug(name string) {
	l.blocks.found("/devices/"+name, &coldplug.Block{Name: name, Major: 254})
}

func TestHuntMountsTheMatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=UUID="+uuidOf(2)+" rw rootflags=noatime")
		l.disks["vda"], l.disks["vdb"], l.disks["vdc"] = ext(1), ext(2), ext(2)
		l.disks["sr0"] = func() (io.ReaderAt, int64, error) { return nil, 0, errors.New("no medium found") }
		for _, name := range []string{"sr0", "vda", "vdb"} {
			l.plug(name)
		}
		r := <-l.results()
		if r.err != nil || r.root == nil || r.root.Device != "/dev/vdb" || r.root.Type != "ext4" || r.root.UUID != uuidOf(2) {
			t.Fatalf("result = %+v, %+v", r, r.root)
		}
		// A second device with that UUID is reported and left alone.
		l.plug("vdc")
		synctest.Wait()
		if diff := cmp.Diff([]string{"/dev/vdb /sysroot ext4 noatime true"}, l.mounts); diff != "" {
			t.Errorf("mounts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"fs-ext4"}, l.loads); diff != "" {
			t.Errorf("modules asked for (-want +got):\n%s", diff)
		}
		if !slices.ContainsFunc(l.warned, func(s string) bool { return strings.Contains(s, "vdc") }) {
			t.Errorf("nothing said of the duplicate: %q", l.warned)
		}
	})
}

func TestHuntTriesTheTypesInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=/dev/vda rootfstype=ext3,ext4")
		l.disks["vda"] = ext(1)
		l.fail["ext3"] = errors.New("mount /dev/vda: wrong type")
		l.plug("vda")
		if r := <-l.results(); r.err != nil || r.root.Type != "ext4" {
			t.Errorf("result = %+v", r)
		}
		l = newLab(t, "root=/dev/vda rootfstype=auto")
		l.disks["vda"] = ext(1)
		l.fail["ext4"] = errors.New("mount /dev/vda: input/output error")
		l.plug("vda")
		if r := <-l.results(); r.err == nil || !strings.Contains(r.err.Error(), "input/output error") {
			t.Errorf("result = %+v, want the error of mount", r)
		}
		l = newLab(t, "root=/dev/vda")
		l.disks["vda"] = func() (io.ReaderAt, int64, error) {
			return bytes.NewReader(make([]byte, 8192)), 8192, nil
		}
		l.plug("vda")
		if r := <-l.results(); r.err == nil || !strings.Contains(r.err.Error(), "rootfstype=") {
			t.Errorf("result = %+v, want an error with the remedy", r)
		}
	})
}

// A disk whose reads never end keeps a place and nothing else.
func TestHuntGoesOnBesideADeadDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=UUID="+uuidOf(2))
		dead := make(chan struct{})
		for i := range maxProbes - 1 {
			name := fmt.Sprint("dead", i)
			l.disks[name] = func() (io.ReaderAt, int64, error) {
				<-dead
				return nil, 0, errors.New("gone")
			}
		}
		l.disks["vda"] = ext(2)
		for i := range maxProbes - 1 {
			l.plug(fmt.Sprint("dead", i))
		}
		l.plug("vda")
		if r := <-l.results(); r.err != nil {
			t.Errorf("result = %+v", r)
		}
		close(dead)
	})
}

func TestHuntFollowsEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=/dev/sdb1")
		l.disks["sda"], l.disks["sdb1"] = ext(1), ext(2)
		send := func(msg string) {
			ev, err := uevent.Parse([]byte(strings.ReplaceAll(msg, "|", "\x00")))
			if err != nil {
				t.Fatal(err)
			}
			l.blocks.event(&ev)
			synctest.Wait()
		}
		send("add@/devices/a|ACTION=add|DEVPATH=/devices/a|SUBSYSTEM=block|MAJOR=8|MINOR=0|DEVNAME=sda|DEVTYPE=disk|SEQNUM=1|")
		send("remove@/devices/a|ACTION=remove|DEVPATH=/devices/a|SUBSYSTEM=block|MAJOR=8|MINOR=0|DEVNAME=sda|DEVTYPE=disk|SEQNUM=2|")
		send("change@/devices/b|ACTION=change|DEVPATH=/devices/b|SUBSYSTEM=block|MAJOR=8|MINOR=17|DEVNAME=sdb1|DEVTYPE=partition|SEQNUM=3|")
		send("add@/devices/c|ACTION=add|DEVPATH=/devices/c|SUBSYSTEM=block|SEQNUM=4|")
		r := <-l.results()
		if r.err != nil || r.root.Device != "/dev/sdb1" {
			t.Fatalf("result = %+v", r)
		}
		want := []rootdev.Device{{
			Name: "sdb1", Devno: rootdev.Devno{Major: 8, Minor: 17}, Partition: true, DevPath: "/devices/b",
		}}
		var got []rootdev.Device
		for _, s := range l.blocks.finder.Seen() {
			got = append(got, s.Device)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("devices seen (-want +got):\n%s", diff)
		}
	})
}

func TestNoHunt(t *testing.T) {
	t.Parallel()
	var h *hunt
	if h.results() != nil || h.deadline() != nil {
		t.Error("without root= there is something to wait for")
	}
	h.giveUp()
}
