package rootdev

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"
)

// swapMin is the least size of swap space: ten pages.
const swapMin = 10 * 4096

// tuxOnIce begins a device that TuxOnIce has hibernated to, which leaves the signature of swap as it was.
const tuxOnIce = "\xed\xc3\x02\xe9\x98\x56\xe5\x0c"

// atPageEnds returns magics that end ten bytes before the end of the first page, for every size of page.
func atPageEnds(magics []magic, words ...string) []magic {
	for page := int64(4096); page <= 65536; page *= 2 {
		for _, word := range words {
			magics = append(magics, magic{page - 10, word})
		}
	}
	return magics
}

func swapMagics() []magic { return atPageEnds(nil, "SWAP-SPACE", "SWAPSPACE2") }

func suspendMagics() []magic {
	return atPageEnds([]magic{{0, tuxOnIce}}, "S1SUSPEND", "S2SUSPEND", "ULSUSPEND", "LINHIB0001")
}

// readSwap reads swap space (linux/swap.h, union swap_header).
func readSwap(d *device, m magic) (*Info, error) {
	if b, err := d.read(0, len(tuxOnIce)); err != nil || string(b) == tuxOnIce {
		return nil, errNot
	}
	if m.bytes == "SWAP-SPACE" {
		return &Info{Type: "swap", Usage: Other, Version: "0"}, nil
	}
	h, err := d.read(1024, 512)
	if err != nil {
		return nil, err
	}
	version, lastPage := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint32(h[4:])
	if version != 1 && bits.ReverseBytes32(version) != 1 || lastPage == 0 {
		return nil, errNot
	}
	return swapInfo(h, "swap", "1"), nil
}

// readSuspend reads swap space that holds the image of a hibernated system.
func readSuspend(d *device, m magic) (*Info, error) {
	h, err := d.read(1024, 512)
	if err != nil {
		return nil, err
	}
	version := strings.ToLower(m.bytes)
	if m.bytes == tuxOnIce {
		version = "tuxonice"
	}
	return swapInfo(h, "swsuspend", version), nil
}

// swapInfo takes the names from the header at 1024: version, last page, number of bad pages, UUID, label,
// padding. Where the padding is not clear it is taken for the boot code of something older.
func swapInfo(h []byte, kind, version string) *Info {
	info := &Info{Type: kind, Usage: Other, Version: version}
	if binary.LittleEndian.Uint64(h[172:]) == 0 {
		info.UUID = formatUUID([16]byte(h[12:]))
		info.Label = cString(h[28:44])
	}
	return info
}

// Hibernated reports whether r holds the image of a system that the kernel has hibernated: the signature at
// the end of the first page of the swap space, which begins at offset pages. A swap file has one within the
// file system that r is.
func Hibernated(r io.ReaderAt, offset uint64) (bool, error) {
	const signature = "S1SUSPEND" // HIBERNATE_SIG in kernel/power/swap.c
	page := uint64(os.Getpagesize())
	if offset >= 1<<63/page {
		return false, fmt.Errorf("offset of %d pages is behind the end of any device", offset)
	}
	buf := make([]byte, len(signature))
	if n, err := r.ReadAt(buf, int64(offset*page+page-10)); n < len(buf) {
		return false, fmt.Errorf("read the header of the swap space: %w", err)
	}
	return string(buf) == signature, nil
}
