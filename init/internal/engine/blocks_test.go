package engine

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hapax/init/internal/rootdev"
	"hapax/uevent"
)

// remove sends the event of a device that is unplugged.
func (l *lab) remove(t *testing.T, name string) {
	t.Helper()
	ev, err := uevent.Parse([]byte(strings.ReplaceAll(
		"remove@/devices/x|ACTION=remove|DEVPATH=/devices/"+name+"|SUBSYSTEM=block|MAJOR=254|MINOR=0|DEVNAME="+name+"|DEVTYPE=disk|SEQNUM=1|", "|", "\x00")))
	if err != nil {
		t.Fatal(err)
	}
	l.blocks.event(&ev)
}

// A disk that goes while it is read leaves no record behind, and is not the
// root, whatever was read of it; its duplicate is.
func TestUnpluggedWhileRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=UUID="+uuidOf(2))
		slow := make(chan struct{})
		l.disks["vda"] = func() (io.ReaderAt, int64, error) {
			<-slow
			return ext(2)()
		}
		l.disks["vdb"] = ext(2)
		l.plug("vda")
		synctest.Wait()
		l.remove(t, "vda")
		close(slow)
		synctest.Wait()
		if _, known := l.blocks.finder.Record("vda"); known || len(l.mounts) > 0 {
			t.Errorf("a disk that is gone is known: %v, mounts %q", known, l.mounts)
		}
		l.plug("vdb")
		if r := <-l.results(); r.err != nil || r.root.Device != "/dev/vdb" {
			t.Errorf("result = %+v", r)
		}
	})
}

// A root that goes before it is mounted is waited for again.
func TestUnpluggedBeforeItsMount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=UUID="+uuidOf(2)+" rootdelay=1")
		l.disks["vda"], l.disks["vdb"] = ext(2), ext(2)
		l.fail["ext4"] = errors.New("mount on /sysroot: no such device or address")
		l.plug("vda")
		synctest.Wait()
		l.mu.Lock()
		l.gone["vda"] = true
		l.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if l.leaving.Load() || len(l.out) > 0 {
			t.Fatal("the hunt is over although the disk went")
		}
		delete(l.fail, "ext4")
		l.plug("vdb")
		if r := <-l.results(); r.err != nil || r.root.Device != "/dev/vdb" {
			t.Errorf("result = %+v", r)
		}
		if !slices.ContainsFunc(l.warned, func(s string) bool { return strings.Contains(s, "vda was unplugged") }) {
			t.Errorf("nothing said of it: %q", l.warned)
		}
	})
}

// A root that goes makes place for the second disk of its UUID.
func TestDuplicateTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=UUID="+uuidOf(2)+" rootdelay=1")
		l.disks["vda"], l.disks["vdb"] = ext(2), ext(2)
		l.gone["vda"] = true
		l.hunt.mountFS = failFirst(l.hunt.mountFS)
		l.plug("vda")
		synctest.Wait()
		l.plug("vdb")
		if r := <-l.results(); r.err != nil || r.root.Device != "/dev/vdb" {
			t.Errorf("result = %+v", r)
		}
	})
}

// failFirst makes the first mount fail.
func failFirst(mount func(src, target, fstype, flags string, readWrite bool) error) func(src, target, fstype, flags string, readWrite bool) error {
	first := true
	return func(src, target, fstype, flags string, readWrite bool) error {
		if first {
			first = false
			return errors.New("no such device")
		}
		return mount(src, target, fstype, flags, readWrite)
	}
}

// Links are made once they are released, follow what is news of a device, and
// go with it.
func TestLinker(t *testing.T) {
	t.Parallel()
	dev := t.TempDir()
	finder := rootdev.New(rootdev.Ref{}, nil)
	l, err := newLinker(dev, rootdev.SysDir(t.TempDir()), finder, func(format string, args ...any) { t.Errorf(format, args...) })
	if err != nil {
		t.Fatal(err)
	}
	device := rootdev.Device{Name: "vda", DevPath: "/devices/x/block/vda", Diskseq: "7"}
	offer := func(uuid byte) {
		if _, err := finder.Offer(device, ext(uuid)); err != nil {
			t.Fatal(err)
		}
		l.touch("vda")
	}
	link := func(uuid byte) bool {
		target, err := os.Readlink(filepath.Join(dev, "disk/by-uuid", uuidOf(uuid)))
		return err == nil && target == "../../vda"
	}
	offer(1)
	if link(1) {
		t.Error("a link was made while they are held")
	}
	l.release()
	if err := await(func() bool { return link(1) }); err != nil {
		t.Fatal(err)
	}
	offer(2)
	if err := await(func() bool { return link(2) && !link(1) }); err != nil {
		t.Fatal(err)
	}
	finder.Remove("vda")
	l.touch("vda")
	if err := await(func() bool {
		_, err := os.Stat(filepath.Join(dev, "disk"))
		return errors.Is(err, os.ErrNotExist)
	}); err != nil {
		t.Error("links have outlived their disk")
	}
}
