// Package disk lays out disks that UEFI starts from: a GUID partition table with an EFI system partition and, if wanted,
// a root partition.
//
// It needs no privileges, no devices and no other programs. All numbers that a disk has to make it unlike others are
// derived from what is on it, so the same files give the same bytes.
package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"hapax/image/disk/fat"
	"hapax/image/sparse"
)

// A Spec says what is on a disk.
type Spec struct {
	ESP        []fat.File // of the EFI system partition; needed
	ESPSize    int64      // bytes; default what the files need and a quarter more
	SectorSize int        // 512 (the default) or 4096
	Root       *Root      // the second partition; nil for none
	Time       time.Time  // of the files of the EFI system partition
}

// A Root is what a root partition holds.
type Root struct {
	Content  *io.SectionReader
	GUID     GUID
	ReadOnly bool // the file system cannot be written to, so the partition is marked so
}

// NewRoot returns a root partition with a content, such as a file system's image. It reads all of it for the GUID.
func NewRoot(content *io.SectionReader) (*Root, error) {
	image := sparse.New(content.Size())
	image.PutReader(0, content)
	if content.Size() == 0 {
		return nil, errors.New("the root file system is an empty file")
	}
	sum, err := image.Sum()
	if err != nil {
		return nil, fmt.Errorf("read the root file system: %w", err)
	}
	return &Root{Content: content, GUID: deriveGUID("root", sum[:]), ReadOnly: readOnly(content)}, nil
}

// readOnly recognises the file systems that are never written to: squashfs and erofs.
func readOnly(content io.ReaderAt) bool {
	word := func(at int64) uint32 {
		var b [4]byte
		if _, err := content.ReadAt(b[:], at); err != nil {
			return 0 // too short for either
		}
		return binary.LittleEndian.Uint32(b[:])
	}
	return word(0) == 0x73717368 || word(1024) == 0xe0f5e1e2
}

const (
	alignment = 1 << 20
	label     = "HAPAX"

	// attributeReadOnly is bit 60 of the Discoverable Partitions Specification.
	attributeReadOnly = 1 << 60
)

// New lays out a disk for machines of a Go architecture: amd64 or arm64.
func New(spec Spec, arch string) (*sparse.Image, error) {
	if spec.SectorSize == 0 {
		spec.SectorSize = 512
	}
	if spec.SectorSize != 512 && spec.SectorSize != 4096 {
		return nil, fmt.Errorf("disk: sectors of %d bytes: use 512 or 4096", spec.SectorSize)
	}
	rootType, err := rootType(arch)
	if err != nil {
		return nil, err
	}
	sector := int64(spec.SectorSize)
	files := fat.Spec{
		Files: spec.ESP, SectorSize: spec.SectorSize, Size: spec.ESPSize, Hidden: uint32(alignment / sector), Time: spec.Time,
	}
	for _, f := range spec.ESP {
		files.Free += f.Content.Size() / 4
	}
	esp, system, err := NewESP(files)
	if err != nil {
		return nil, err
	}
	partitions := []Partition{system}
	end := alignment + align(esp.Size())
	if spec.Root != nil {
		first := end
		end += align(spec.Root.Content.Size())
		p := Partition{Name: "root", Type: rootType, GUID: spec.Root.GUID, First: first / sector, Last: end/sector - 1}
		if spec.Root.ReadOnly {
			p.Attributes = attributeReadOnly
		}
		partitions = append(partitions, p)
	}
	image := sparse.New(end + alignment)
	image.PutImage(alignment, esp)
	if spec.Root != nil {
		image.PutReader(partitions[1].First*sector, spec.Root.Content)
	}
	return image, WriteGPT(image, spec.SectorSize, partitions)
}

// NewESP lays out an EFI system partition. The volume gets its label, its serial number and the partition's GUID here: both
// are derived from what is on it. The partition begins at the hidden sectors.
func NewESP(spec fat.Spec) (*sparse.Image, Partition, error) {
	if len(spec.Files) == 0 {
		return nil, Partition{}, errors.New("disk: an EFI system partition without files starts nothing")
	}
	spec.Label = label
	image, err := fat.New(spec)
	if err != nil {
		return nil, Partition{}, err
	}
	sum, err := image.Sum()
	if err != nil {
		return nil, Partition{}, fmt.Errorf("disk: %w", err)
	}
	spec.Serial = binary.LittleEndian.Uint32(sum[:])
	if image, err = fat.New(spec); err != nil {
		return nil, Partition{}, err
	}
	first := int64(spec.Hidden)
	return image, Partition{
		Name: "EFI system partition", Type: kind(typeESP), GUID: deriveGUID("esp", sum[:]),
		First: first, Last: first + image.Size()/int64(spec.SectorSize) - 1,
	}, nil
}

func rootType(arch string) (GUID, error) {
	switch arch {
	case "amd64":
		return kind(typeRootAMD64), nil
	case "arm64":
		return kind(typeRootARM64), nil
	}
	return GUID{}, fmt.Errorf("disk: no kind of root partition is known for %s", arch)
}

// align rounds up to where a partition may begin.
func align(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
