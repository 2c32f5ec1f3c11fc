package rootdev

import (
	"encoding/binary"
	"fmt"
)

// The boot sectors of BitLocker: that of Windows Vista, of Windows 7 and later, and of BitLocker To Go,
// which is made to look like FAT.
const (
	bdeVista = "\xeb\x52\x90-FVE-FS-"
	bdeWin7  = "\xeb\x58\x90-FVE-FS-"
	bdeToGo  = "\xeb\x58\x90MSWIN4.1"
)

func bitLockerMagics() []magic { return []magic{{0, bdeVista}, {0, bdeWin7}, {0, bdeToGo}} }

// readBitLocker reads the boot sector and the start of the metadata that it points to, by the format's
// description of the libbde project.
func readBitLocker(d *device, m magic) (*Info, error) {
	info := &Info{Type: "BitLocker", Usage: Crypto}
	if m.bytes == bdeVista {
		return info, nil
	}
	boot, err := d.read(0, 512)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	at := le.Uint64(boot[440:])
	if m.bytes == bdeWin7 {
		at = le.Uint64(boot[176:])
		if serial := int32(le.Uint32(boot[67:])); serial != 0 {
			info.UUID = fmt.Sprintf("%016d", serial)
		}
	}
	if at == 0 {
		return nil, errNot
	}
	meta, err := d.read(at, 12)
	if err != nil {
		return nil, err
	}
	if string(meta[:8]) != "-FVE-FS-" {
		return nil, errNot
	}
	info.Version = fmt.Sprint(le.Uint16(meta[10:]))
	return info, nil
}

// isBitLocker tells whether d is BitLocker, which also looks like FAT.
func (d *device) isBitLocker() bool {
	m, err := d.find(bitLockerMagics())
	if err == nil {
		_, err = readBitLocker(d, m)
	}
	return err == nil
}
