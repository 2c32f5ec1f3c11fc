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
	fail   map[string]error // by file system type
}

func newLab(t *testing.T, line string) *lab {
	t.Helper()
	params := cmdline.Parse(line)
	ref, err := rootdev.ParseRef(params.Root)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{disks: map[string]func() (io.ReaderAt, int64, error){}, fail: map[string]error{}}
	note := func(list *[]string, text string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		*list = append(*list, text)
	}
	l.hunt = &hunt{
		params: params,
		finder: rootdev.New(ref),
		out:    make(chan rootResult, 1),
		warnf:  func(format string, args ...any) { note(&l.warned, fmt.Sprintf(format, args...)) },
		load: func(_ context.Context, query string) error {
			note(&l.loads, query)
			return &modload.LoadError{Module: query, Op: "look up", Err: modload.ErrNotFound}
		},
		open: func(name string) (io.ReaderAt, int64, error) { return l.disks[name]() },
		mountFS: func(src, target, fstype, flags string, readWrite bool) error {
			note(&l.mounts, fmt.Sprint(src, " ", target, " ", fstype, " ", flags, " ", readWrite))
			return l.fail[fstype]
		},
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

func block(name string) *coldplug.Block { return &coldplug.Block{Name: name, Major: 254} }

func TestHuntMountsTheMatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=UUID="+uuidOf(2)+" rw rootflags=noatime")
		l.disks["vda"], l.disks["vdb"], l.disks["vdc"] = ext(1), ext(2), ext(2)
		l.disks["sr0"] = func() (io.ReaderAt, int64, error) { return nil, 0, errors.New("no medium found") }
		for _, name := range []string{"sr0", "vda", "vdb"} {
			l.found(block(name))
		}
		r := <-l.results()
		if r.err != nil || r.root == nil || r.root.Device != "/dev/vdb" || r.root.Type != "ext4" || r.root.UUID != uuidOf(2) {
			t.Fatalf("result = %+v, %+v", r, r.root)
		}
		// A second device with that UUID is reported and left alone.
		l.found(block("vdc"))
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
		l.found(block("vda"))
		if r := <-l.results(); r.err != nil || r.root.Type != "ext4" {
			t.Errorf("result = %+v", r)
		}
		l = newLab(t, "root=/dev/vda rootfstype=auto")
		l.disks["vda"] = ext(1)
		l.fail["ext4"] = errors.New("mount /dev/vda: input/output error")
		l.found(block("vda"))
		if r := <-l.results(); r.err == nil || !strings.Contains(r.err.Error(), "input/output error") {
			t.Errorf("result = %+v, want the error of mount", r)
		}
		l = newLab(t, "root=/dev/vda")
		l.disks["vda"] = func() (io.ReaderAt, int64, error) {
			return bytes.NewReader(make([]byte, 8192)), 8192, nil
		}
		l.found(block("vda"))
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
			l.found(block(fmt.Sprint("dead", i)))
		}
		l.found(block("vda"))
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
			l.event(&ev)
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
		want := []rootdev.Device{{Name: "sdb1", Devno: rootdev.Devno{Major: 8, Minor: 17}, Partition: true}}
		var got []rootdev.Device
		for _, s := range l.finder.Seen() {
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
