package vm

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"hapax/image/qemu"
	"hapax/tests/need"
)

// ready is what the echo guest prints first.
const ready = "echo guest ready"

// echoKernel returns a file that QEMU boots as a Linux kernel and whose real-mode part prints ready on the serial line
// and then sends back each byte that it gets. So a test decides itself what its console shows.
func echoKernel() []byte {
	const (
		entry, code, text = 0x200, 0x230, 0x260 // offsets in the file and in the segment that ds holds
		sectors           = 2                   // the boot sector and one of setup
	)
	k := make([]byte, (sectors+1)*512)
	k[0x1f1] = sectors - 1
	copy(k[entry:], []byte{0xeb, code - entry - 2}) // jmp code
	copy(k[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(k[0x206:], 0x0202) // boot protocol 2.02
	k[0x211] = 1                                     // LOADED_HIGH: setup goes to 0x10000
	copy(k[code:], []byte{
		0xbe, text & 0xff, text >> 8, // mov $text, %si
		0xfc,       // cld
		0xac,       // 1: lodsb
		0x84, 0xc0, // test %al, %al
		0x74, 0x06, // jz 2f
		0xba, 0xf8, 0x03, // mov $0x3f8, %dx
		0xee,       // out %al, %dx
		0xeb, 0xf5, // jmp 1b
		0xba, 0xfd, 0x03, // 2: mov $0x3fd, %dx
		0xec,       // in %dx, %al
		0xa8, 0x01, // test $1, %al: a byte has come
		0x74, 0xf8, // jz 2b
		0xba, 0xf8, 0x03, // mov $0x3f8, %dx
		0xec,       // in %dx, %al
		0xee,       // out %al, %dx
		0xeb, 0xf1, // jmp 2b
	})
	copy(k[text:], ready+"\r\n")
	return k
}

// echoMachine returns a machine that boots echoKernel.
func echoMachine(t *testing.T) qemu.Machine {
	t.Helper()
	need.Tools(t, qemu.Binary)
	kernel := filepath.Join(t.TempDir(), "echo")
	if err := os.WriteFile(kernel, echoKernel(), 0o644); err != nil {
		t.Fatal(err)
	}
	return qemu.Machine{Kernel: kernel, MemoryMiB: 32, Accel: qemu.TCG}
}
