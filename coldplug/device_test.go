package coldplug

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseModalias(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		want          []string
	}{
		{"empty", "", nil},
		{"empty line", "\n", nil},
		{"one", "pci:v00001AF4d00001045sv00001AF4sd00001045bcFFscFFi00\n", []string{"pci:v00001AF4d00001045sv00001AF4sd00001045bcFFscFFi00"}},
		{"no newline", "virtio:d00000005v00001AF4", []string{"virtio:d00000005v00001AF4"}},
		{"ACPI with device tree data", "acpi:PRP0001:\nof:NledsT(null)Cgpio-leds\n", []string{"acpi:PRP0001:", "of:NledsT(null)Cgpio-leds"}},
		{"repeated line", "acpi:PNP0501:\nacpi:PNP0501:\n", []string{"acpi:PNP0501:"}},
		{"inner space stays", "dmi:bvnQEMU Inc:bd04/01/2014:\n", []string{"dmi:bvnQEMU Inc:bd04/01/2014:"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, parseModalias([]byte(tt.content))); diff != "" {
			t.Errorf("%s: parseModalias(%q) (-want +got):\n%s", tt.name, tt.content, diff)
		}
	}
}

func TestParseUevent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		content string
		aliases []string
		block   *Block
		kind    kind
	}{
		{"empty", "", nil, nil, kindDevice},
		{
			"value with = and an empty line behind it, as cpu devices have", "DRIVER=processor\nMODALIAS=cpu:type:x86,a=b\n\n",
			[]string{"cpu:type:x86,a=b"}, nil, kindDevice,
		},
		{"two aliases", "MODALIAS=acpi:PRP0001:\nMODALIAS=of:NledsT\n", []string{"acpi:PRP0001:", "of:NledsT"}, nil, kindDevice},
		{
			"disk", "MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1\nDEVTYPE=disk\nDISKSEQ=2\n",
			nil, &Block{Name: "nvme0n1", Major: 259, Diskseq: "2"}, kindDisk,
		},
		{
			"partition", "MAJOR=259\nMINOR=1\nDEVNAME=nvme0n1p1\nDEVTYPE=partition\nDISKSEQ=2\nPARTN=1\nPARTNAME=root=a b\nPARTUUID=0a-1b\n",
			nil, &Block{Name: "nvme0n1p1", Major: 259, Minor: 1, Partition: true, Diskseq: "2", Partn: "1", PartName: "root=a b", PartUUID: "0a-1b"}, kindDevice,
		},
		{"another type of device", "MAJOR=189\nMINOR=0\nDEVNAME=bus/usb/001/001\nDEVTYPE=usb_device\n", nil, nil, kindDevice},
		{"disk without a name", "MAJOR=259\nMINOR=0\nDEVTYPE=disk\n", nil, nil, kindDevice},
		{"disk without a number", "MINOR=0\nDEVNAME=sda\nDEVTYPE=disk\n", nil, nil, kindDevice},
		{"number out of range", "MAJOR=8\nMINOR=4294967296\nDEVNAME=sda\nDEVTYPE=disk\n", nil, nil, kindDevice},
		{"net interface", "INTERFACE=eth0\nIFINDEX=2\n", nil, nil, kindNet},
		{"lines without =", "MODALIAS\n=x\nMODALIAS=y", []string{"y"}, nil, kindDevice},
	}
	for _, tt := range tests {
		aliases, block, kind := parseUevent([]byte(tt.content))
		if diff := cmp.Diff(tt.aliases, aliases); diff != "" {
			t.Errorf("%s: aliases (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.block, block); diff != "" {
			t.Errorf("%s: block (-want +got):\n%s", tt.name, diff)
		}
		if kind != tt.kind {
			t.Errorf("%s: kind = %v, want %v", tt.name, kind, tt.kind)
		}
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add([]byte("DRIVER=processor\nMODALIAS=cpu:type:x86,ven0000\n\n"))
	f.Add([]byte("MAJOR=259\nMINOR=1\nDEVNAME=nvme0n1p1\nDEVTYPE=partition\nPARTN=1\nPARTNAME=root=a b\n"))
	f.Add([]byte("MODALIAS=a\nMODALIAS=b\nMODALIAS=a"))
	f.Fuzz(func(t *testing.T, content []byte) {
		fromLines := parseModalias(content)
		aliases, block, _ := parseUevent(content)
		for _, a := range append(aliases, fromLines...) {
			if a == "" || a != strings.TrimSpace(a) || strings.Contains(a, "\n") {
				t.Errorf("alias %q is empty, not trimmed or two lines", a)
			}
		}
		if block != nil && block.Name == "" {
			t.Error("block device without a name")
		}
	})
}
