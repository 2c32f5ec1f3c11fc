package tests

import (
	"os"
	"path/filepath"
	"testing"

	"hapax/tests/internal/debian"
	"hapax/tests/internal/lab"
)

// Types of partitions, by the Discoverable Partitions Specification.
const (
	espType  = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	rootType = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" // of x86-64
)

// bootPartition makes an ESP from which systemd-boot starts a kernel.
func bootPartition(t *testing.T, l *lab.Lab, sector int64, k debian.Kernel, initrd, args string) lab.Partition {
	t.Helper()
	efi, err := l.EFI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "esp")
	if err := efi.WriteESP(t.Context(), file, int(sector), k.Vmlinuz, initrd, args); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return lab.Partition{Type: espType, UUID: espPartUUID, Name: "ESP", Bytes: info.Size(), Content: file}
}
