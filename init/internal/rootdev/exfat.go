package rootdev

import (
	"encoding/binary"
	"fmt"
)

// exfatEntries bounds the directory entries that are searched for the label.
const exfatEntries = 4096

// readExFAT reads the boot sector of exFAT and, for the label, its root directory (Microsoft's exFAT
// specification, sections 3.1 and 7.3).
func readExFAT(d *device, _ magic) (*Info, error) {
	boot, err := d.read(0, 512)
	if err != nil {
		return nil, err
	}
	sectorLog, clusterLog := boot[108], boot[109]
	if sectorLog < 9 || sectorLog > 12 || clusterLog > 25-sectorLog {
		return nil, errNot
	}
	info := &Info{
		Type: "exfat", Usage: Filesystem,
		UUID:    fatSerial(boot[100:]),
		Version: fmt.Sprintf("%d.%d", boot[105], boot[104]),
	}
	info.Label, err = d.exfatLabel(boot)
	return info, err
}

// exfatLabel follows the clusters of the root directory to the entry with the label, "" if there is none.
func (d *device) exfatLabel(boot []byte) (string, error) {
	le := binary.LittleEndian
	sectorLog, clusterLog := boot[108], boot[109]
	table, heap := uint64(le.Uint32(boot[80:]))<<sectorLog, uint64(le.Uint32(boot[88:]))
	clusterSize := uint64(1) << (sectorLog + clusterLog)
	start := func(cluster uint32) uint64 { return (heap + uint64(cluster-2)<<clusterLog) << sectorLog }

	const entry, end, label = 32, 0x00, 0x83
	cluster := le.Uint32(boot[96:])
	at := start(cluster)
	for range exfatEntries {
		e, err := d.read(at, entry)
		if err != nil {
			return "", notError(err)
		}
		switch e[0] {
		case end:
			return "", nil
		case label:
			return trim(utf16String(e[2:2+min(2*int(e[1]), 22)], le)), nil
		}
		if at += entry; at%clusterSize == 0 {
			b, err := d.read(table+4*uint64(cluster), 4)
			if err != nil {
				return "", notError(err)
			}
			if cluster = le.Uint32(b); cluster < 2 || cluster > 0xffffff6 {
				return "", nil
			}
			at = start(cluster)
		}
	}
	return "", nil
}
