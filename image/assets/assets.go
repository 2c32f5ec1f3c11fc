// Package assets carries the binaries that `hapax build` puts into images, so that the host command is one file.
//
// `make build` places them in the folder built before it compiles bin/hapax: init, extra, u-root and u-root.commands (see
// image/shell). A plain `go build` in a fresh clone embeds none of them and works all the same; what is missing is then
// reported by the function that gives it.
package assets

import (
	"embed"
	"errors"
	"fmt"
	"strings"
)

//go:embed all:built
var built embed.FS

// ErrMissing reports a binary that was not there when this program was compiled.
var ErrMissing = errors.New("not part of this hapax: run `make build`")

// Init returns the binary that becomes /init. The caller must not change it.
func Init() ([]byte, error) { return read("init") }

// Extra returns the binary that images have for what /init does not do itself (init/extra). The caller must not change it.
func Extra() ([]byte, error) { return read("extra") }

// URoot returns the binary that holds u-root's commands and the names under which it is called. The caller must not
// change either.
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

func read(name string) ([]byte, error) {
	data, err := built.ReadFile("built/" + name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrMissing)
	}
	return data, nil
}
