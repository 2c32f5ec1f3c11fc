// Package assets carries the binaries that `hapax build` puts into images, so that the host command is one file.
//
// `make build` places them in the folder built before it compiles bin/hapax: init, extra, u-root and u-root.commands (see
// image/shell), and init and extra of other architectures in folders of their names. A plain `go build` in a fresh clone embeds
// none of them and works all the same; what is missing is then reported by the function that gives it.
package assets

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"
)

//go:embed all:built
var built embed.FS

// ErrMissing reports a binary that was not there when this program was compiled.
var ErrMissing = errors.New("not part of this hapax: run make build")

// Init returns the binary that becomes /init on an architecture, as GOARCH has it. The caller must not change it.
func Init(arch string) ([]byte, error) { return readFor(arch, "init") }

// Extra returns the binary that images have for what /init does not do itself (init/extra). The caller must not change it.
func Extra(arch string) ([]byte, error) { return readFor(arch, "extra") }

// URoot returns the binary that holds u-root's commands and the names under which it is called, for the architecture of this
// program. The caller must not change either.
func URoot() (binary []byte, commands []string, err error) {
	binary, err = read("u-root")
	if err != nil {
		return nil, nil, err
	}
	list, err := read("u-root.commands")
	if err != nil {
		return nil, nil, err
	}
	return binary, strings.Fields(string(list)), nil
}

// readFor reads the binary of an architecture.
func readFor(arch, name string) ([]byte, error) {
	if arch == runtime.GOARCH {
		return read(name)
	}
	data, err := read(path.Join(arch, name))
	if err != nil {
		return nil, fmt.Errorf("%w ARCHES=%s", err, arch)
	}
	return data, nil
}

func read(name string) ([]byte, error) {
	data, err := built.ReadFile("built/" + name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrMissing)
	}
	return data, nil
}
