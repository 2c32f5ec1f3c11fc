package rootdev

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// holding returns an Opener of a device with these contents.
func holding(dev []byte) Opener {
	return func() (io.ReaderAt, int64, error) { return bytes.NewReader(dev), int64(len(dev)), nil }
}

// labelled returns an Opener of an ext4 with the label and the usual UUID.
func labelled(label string) Opener {
	s := ext4Super()
	s.label = label
	return holding(s.device())
}

func failing(err error) Opener {
	return func() (io.ReaderAt, int64, error) { return nil, 0, err }
}

func named(name string) Device { return Device{Name: name} }

func mustRef(t *testing.T, s string) Ref {
	t.Helper()
	ref, err := ParseRoot(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestFinderMatches(t *testing.T) {
	t.Parallel()
	journal := super{0, extJournalDev, 0, "root", testUUID}.device()
	damaged := ext4Super().device()
	damaged[1024] ^= 1
	for _, tt := range []struct {
		name, ref string
		open      Opener
		want      bool
	}{
		{"by UUID", "UUID=8C3D631B-10A4-411A-BFC4-3C8F7F02B541", labelled(""), true},
		{"by another UUID", "UUID=8c3d631b-10a4-411a-bfc4-000000000000", labelled(""), false},
		{"by label", "LABEL=root", labelled("root"), true},
		{"by label with a slash", `/dev/disk/by-label/a\x2fb`, labelled("a/b"), true},
		{"labels have case", "LABEL=Root", labelled("root"), false},
		{"by name", "/dev/vda", labelled(""), true},
		{"by name of another", "/dev/vdb", labelled(""), false},
		{"by name, contents unknown", "/dev/vda", holding(make([]byte, 4096)), true},
		{"by name, damaged: mount will say so", "/dev/vda", holding(damaged), true},
		{"by name, unreadable", "/dev/vda", holdingFaulty(), false},
		{"by name, no medium", "/dev/vda", failing(syscall.ENOMEDIUM), false},
		{"by UUID, damaged", "UUID=" + testUUIDText, holding(damaged), false},
		{"by UUID of a journal", "UUID=" + testUUIDText, holding(journal), false},
		{"by label of a journal", "LABEL=root", holding(journal), false},
	} {
		f := New(mustRef(t, tt.ref), nil)
		match, _ := f.Offer(named("vda"), tt.open)
		root, ok := f.Root()
		if match != tt.want || ok != tt.want || (ok && root.Name != "vda") {
			t.Errorf("%s: match %v, root %q %v; want %v", tt.name, match, root.Name, ok, tt.want)
		}
	}
	if match, err := New(Ref{}, nil).Offer(named("vda"), labelled("")); match || err != nil {
		t.Errorf("Finder without a reference: %v, %v", match, err)
	}
}

func holdingFaulty() Opener {
	return func() (io.ReaderAt, int64, error) { return faulty{syscall.EIO}, 4096, nil }
}

// TestFinderDuplicate: the first one wins, the second is told and never matches.
func TestFinderDuplicate(t *testing.T) {
	t.Parallel()
	f := New(mustRef(t, "UUID="+testUUIDText), nil)
	if match, err := f.Offer(named("vdb1"), labelled("a")); !match || err != nil {
		t.Fatalf("first: %v, %v", match, err)
	}
	for range 2 {
		match, err := f.Offer(named("vda1"), labelled("b"))
		var dup *DuplicateError
		if match || !errors.As(err, &dup) || dup.First != "vdb1" || dup.Second != "vda1" {
			t.Fatalf("second: %v, %v", match, err)
		}
	}
	if match, err := f.Offer(named("vdb1"), labelled("a")); match || err != nil {
		t.Errorf("the root offered again: %v, %v; want no second match", match, err)
	}
	want := []string{
		"vda1: 4096 bytes, ext4, UUID=" + testUUIDText + ", LABEL=b, duplicate",
		"vdb1: 4096 bytes, ext4, UUID=" + testUUIDText + ", LABEL=a",
	}
	if diff := cmp.Diff(want, lines(f)); diff != "" {
		t.Errorf("Seen differs (-want +got):\n%s", diff)
	}

	f.Remove("vdb1")
	if root, ok := f.Root(); ok {
		t.Errorf("root %v after its removal", root)
	}
	if match, err := f.Offer(named("vda1"), labelled("b")); !match || err != nil {
		t.Errorf("duplicate after the removal of the root: %v, %v", match, err)
	}
}

func TestFinderSeen(t *testing.T) {
	t.Parallel()
	f := New(mustRef(t, "UUID="+testUUIDText), nil)
	for _, tt := range []struct {
		name string
		open Opener
		err  string
	}{
		{"sr0", failing(syscall.ENOMEDIUM), "probe sr0: no medium found"},
		{"sda", holdingFaulty(), "probe sda: read 512 bytes at 0: input/output error"},
		{"nvme0n1", holding(make([]byte, 512)), ""},
		{"vda", holding(super{0, extJournalDev, 0, "x\x1b y", ""}.device()), ""},
		{"vdb", holding(make([]byte, 9)), ""},
	} {
		_, err := f.Offer(named(tt.name), tt.open)
		if got := fmt.Sprint(err); (err != nil || tt.err != "") && got != tt.err {
			t.Errorf("Offer(%s): %v, want %s", tt.name, err, tt.err)
		}
	}
	f.Remove("vdb")
	f.Remove("never seen")
	want := []string{
		"nvme0n1: 512 bytes: no file system that is known here",
		"sda: 4096 bytes: read 512 bytes at 0: input/output error",
		"sr0: 0 bytes: no medium found",
		`vda: 4096 bytes, jbd, LABEL="x\x1b y"`,
	}
	if diff := cmp.Diff(want, lines(f)); diff != "" {
		t.Errorf("Seen differs (-want +got):\n%s", diff)
	}
}

func lines(f *Finder) []string {
	var s []string
	for _, seen := range f.Seen() {
		s = append(s, seen.String())
	}
	return s
}

func TestFinderRefusesHostileNames(t *testing.T) {
	t.Parallel()
	f := New(Ref{}, nil)
	for _, name := range []string{"", "..", "../vda", "a/../../b", "/vda", "a//b", "a/", "v\nda", "v da", "v\x00", string(make([]byte, 300))} {
		_, err := f.Offer(named(name), func() (io.ReaderAt, int64, error) {
			t.Errorf("%q was opened", name)
			return nil, 0, syscall.ENOENT
		})
		if err == nil {
			t.Errorf("Offer(%q) has no error", name)
		}
	}
	if n := len(f.Seen()); n != 0 {
		t.Errorf("%d records of refused names", n)
	}
}

// A closing device notes that it was closed.
type closing struct {
	io.ReaderAt
	closed *bool
}

func (c closing) Close() error { *c.closed = true; return nil }

func TestFinderCloses(t *testing.T) {
	t.Parallel()
	closed := false
	f := New(Ref{}, nil)
	if _, err := f.Offer(named("vda"), func() (io.ReaderAt, int64, error) {
		return closing{bytes.NewReader(nil), &closed}, 0, nil
	}); err != nil || !closed {
		t.Errorf("error %v, closed %v", err, closed)
	}
}

// TestFinderOneWinner offers twins from many goroutines: exactly one of them becomes the root.
func TestFinderOneWinner(t *testing.T) {
	t.Parallel()
	f := New(mustRef(t, "UUID="+testUUIDText), nil)
	const devices = 32
	results := make([]bool, devices)
	var wg sync.WaitGroup
	for i := range devices {
		wg.Go(func() { results[i], _ = f.Offer(named(fmt.Sprintf("vd%d", i)), labelled("")) })
	}
	wg.Wait()
	winners := 0
	for i, match := range results {
		if match {
			winners++
			if root, _ := f.Root(); root.Name != fmt.Sprintf("vd%d", i) {
				t.Errorf("vd%d matched but the root is %s", i, root.Name)
			}
		}
	}
	duplicates := 0
	for _, s := range f.Seen() {
		if s.Duplicate {
			duplicates++
		}
	}
	if winners != 1 || duplicates != devices-1 {
		t.Errorf("%d winners and %d duplicates, want 1 and %d", winners, duplicates, devices-1)
	}
}
