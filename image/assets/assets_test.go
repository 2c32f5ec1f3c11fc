package assets

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The same test serves a clone that has built nothing and one after `make build`.
func TestBuiltOrMissing(t *testing.T) {
	t.Parallel()
	binary, err := Init(runtime.GOARCH)
	checkBinary(t, "init", binary, err)
	binary, err = Extra(runtime.GOARCH)
	checkBinary(t, "extra", binary, err)
	binary, commands, err := URoot()
	checkBinary(t, "u-root", binary, err)
	if err == nil && !slices.Contains(commands, "gosh") {
		t.Errorf("u-root has no shell among its commands %q", commands)
	}
	if _, err := Init("none"); !errors.Is(err, ErrMissing) || !strings.HasSuffix(err.Error(), "make build ARCHES=none") {
		t.Errorf("Init of an architecture that nobody has = %v", err)
	}
	for _, loader := range []string{"insmod", "rmmod", "modprobe"} {
		if slices.Contains(commands, loader) {
			t.Errorf("u-root has %s: the engine is the only loader", loader)
		}
	}
}

func checkBinary(t *testing.T, name string, binary []byte, err error) {
	t.Helper()
	switch {
	case err != nil && !errors.Is(err, ErrMissing):
		t.Errorf("%s: %v, want ErrMissing", name, err)
	case err == nil && !bytes.HasPrefix(binary, []byte("\x7fELF")):
		t.Errorf("%s begins with %.4q, not as an ELF file", name, binary)
	}
}
