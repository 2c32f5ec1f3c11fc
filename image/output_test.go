package image

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"hapax/image/archive"
)

// A build that is stopped in its middle, or fails there, leaves the old image whole.
func TestBuildStopped(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	writeFile(t, spec.Output, "old", 0o644)
	spec.Force = true
	ctx, cancel := context.WithCancel(t.Context())
	spec.Progress = func(done, total int64) {
		if done > 1000 {
			cancel()
		}
	}
	if _, err := Build(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("Build = %v, want context.Canceled", err)
	}
	spec.Progress = func(done, total int64) { // the last file is cut while the first ones are written
		if err := os.Truncate(filepath.Join(spec.ModulesDir, "kernel/fs/fat/vfat.ko.xz"), 1); err != nil {
			t.Error(err)
		}
	}
	if _, err := Build(t.Context(), spec); !errors.Is(err, archive.ErrChanged) {
		t.Errorf("Build over a shrinking file = %v, want ErrChanged", err)
	}
	if old, err := os.ReadFile(spec.Output); err != nil || string(old) != "old" {
		t.Errorf("the old image is %q, %v", old, err)
	}
	if names := fileNames(t, filepath.Dir(spec.Output)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestBuildForce(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	writeFile(t, spec.Output, "old", 0o644)
	spec.Force = true
	var last, whole int64
	spec.Progress = func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last, whole = done, total
	}
	if _, err := Build(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if old, err := os.ReadFile(spec.Output); err != nil || string(old) == "old" {
		t.Errorf("the old image is still there: %v", err)
	}
	if last == 0 || last != whole {
		t.Errorf("progress ended at %d of %d", last, whole)
	}
}

// A file that came while the image was built is not replaced either.
func TestBuildLosesRaceWithoutForce(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.Progress = func(done, total int64) {
		if done == total {
			writeFile(t, spec.Output, "other", 0o644)
		}
	}
	if _, err := Build(t.Context(), spec); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Build = %v, want fs.ErrExist", err)
	}
	if other, err := os.ReadFile(spec.Output); err != nil || string(other) != "other" {
		t.Errorf("the other file is %q, %v", other, err)
	}
}

// Builds of one path at the same time leave the whole image of one of them.
func TestBuildsAtOnce(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.Force = true
	errs := make(chan error)
	const builds = 8
	for range builds {
		go func() {
			_, err := Build(t.Context(), spec)
			errs <- err
		}()
	}
	for range builds {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	got, err := os.ReadFile(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	spec.Output += ".alone"
	if _, err := Build(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want the %d of a build alone", len(got), len(want))
	}
	if names := fileNames(t, filepath.Dir(spec.Output)); len(names) != 2 {
		t.Errorf("left behind: %v", names)
	}
}
