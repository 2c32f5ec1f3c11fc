package engine

import (
	"os"
	"path/filepath"

	"hapax/init/internal/rootdev"
)

// udevData holds udev's database, one file for each device.
const udevData = "/run/udev/data"

// keepMapped leaves the udev of the real root in dir what it has to know of
// mapped devices.
func (e *engine) keepMapped(dir string) {
	if e.blocks == nil {
		return
	}
	for _, s := range e.blocks.finder.Seen() {
		entry := rootdev.MappedEntry(rootdev.SysDir(e.sysfs), s)
		if entry == "" {
			continue
		}
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "b"+s.Devno.String()), []byte(entry), 0o644)
		}
		if err != nil {
			e.log.Warnf("%v", err)
		}
	}
}
