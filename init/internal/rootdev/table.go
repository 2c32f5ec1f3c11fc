package rootdev

import (
	"errors"
	"strings"
)

// Types of partition table.
const (
	tableGPT  = "gpt"
	tableDOS  = "dos"
	tablePMBR = "PMBR" // the protective MBR of a GPT that is gone or damaged
)

// A Table is the partition table of a disk.
type Table struct {
	Type  string // in blkid's spelling
	UUID  string // of a GPT the disk's GUID, of a DOS table its number as eight hexadecimal digits; "" if zero
	Parts []Part // in the order of the table
}

// A Part is an entry of a partition table.
type Part struct {
	Number      int    // as the kernel counts, from 1
	Start, Size uint64 // in sectors of 512 bytes
	Type        string // "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0x83"
	UUID        string // PARTUUID: of a DOS table "12345678-01"; "" without one
	Name        string // PARTLABEL, hostile; "" without one, as in every DOS table
	Flags       uint64 // attributes of GPT, boot indicator of DOS
}

// ByNumber returns the partition of that number.
func (t *Table) ByNumber(n int) (Part, bool) {
	return t.first(func(p Part) bool { return p.Number == n })
}

// ByUUID returns the first partition with that PARTUUID, in any case.
func (t *Table) ByUUID(uuid string) (Part, bool) {
	return t.first(func(p Part) bool { return p.UUID != "" && strings.EqualFold(p.UUID, uuid) })
}

// ByName returns the first partition with that PARTLABEL.
func (t *Table) ByName(name string) (Part, bool) {
	return t.first(func(p Part) bool { return p.Name != "" && p.Name == name })
}

func (t *Table) first(fits func(Part) bool) (Part, bool) {
	if t != nil {
		for _, p := range t.Parts {
			if fits(p) {
				return p, true
			}
		}
	}
	return Part{}, false
}

// table returns the partition table, or nil and errNot or an I/O error. It looks once.
func (d *device) table() (*Table, error) {
	if d.parsed == nil && d.tableErr == nil {
		d.parsed, d.tableErr = d.readTable()
	}
	return d.parsed, d.tableErr
}

func (d *device) readTable() (*Table, error) {
	if _, err := d.find([]magic{{510, "\x55\xaa"}}); err != nil {
		return nil, err
	}
	mbr, err := d.read(0, 512)
	if err != nil {
		return nil, err
	}
	if t, err := d.readDOS(mbr); !errors.Is(err, errNot) {
		return t, err
	}
	if !protective(mbr) {
		return nil, errNot
	}
	t, err := d.readGPT()
	if errors.Is(err, errNot) {
		return &Table{Type: tablePMBR}, nil
	}
	return t, err
}
