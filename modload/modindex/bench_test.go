package modindex

import (
	"fmt"
	"path/filepath"
	"testing"

	"hapax/tests/need"
)

// benchTrees runs f on every real module tree.
func benchTrees(b *testing.B, f func(b *testing.B, dir string)) {
	list := need.Trees(b)
	for _, dir := range list {
		b.Run("tree="+filepath.Base(dir), func(b *testing.B) { f(b, dir) })
	}
}

func BenchmarkOpen(b *testing.B) {
	benchTrees(b, func(b *testing.B, dir string) {
		b.ReportAllocs()
		for b.Loop() {
			x, err := Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			x.Close()
		}
	})
}

func BenchmarkOpenText(b *testing.B) {
	benchTrees(b, func(b *testing.B, dir string) {
		text := writeIndex(b, readIndex(b, dir, twins...))
		b.ReportAllocs()
		for b.Loop() {
			x, err := Open(text)
			if err != nil {
				b.Fatal(err)
			}
			x.Close()
		}
	})
}

// The queries of a virtual machine's coldplug, one of each kind of bus.
var benchQueries = []struct{ name, query string }{
	{"hit=virtio", "virtio:d00000002v00001AF4"},
	{"hit=pci", "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00"},
	{"hit=usb", "usb:v0627p0001d0000dc00dsc00dp00ic03isc00ip00in00"},
	{"hit=name", "virtio-blk"},
	{"miss=acpi", "acpi:PNP0B00:PNP0B01:"},
	{"miss=pci", "pci:v00001B36d0000000Csv00001AF4sd00001100bcFFsc00i00"},
	{"miss=platform", "platform:pcspkr-none"},
	{"miss=cpu", "cpu:type:x86,ven0009fam000Fmod006B:feature:,0000,0001,0002,0003,0004,0005,0006,0007,0008,0009,000B,000C,000D,000E,000F,0010,0011,0013,0017,0018,0019,001A,002B,0034,003A,003B,003D"},
	{"miss=dmi", "dmi:bvnSeaBIOS:bvrrel-1.16.2-0-gea1b7a073390-prebuilt.qemu.org:bd04/01/2014:br0.0:svnQEMU:pnStandardPC(Q35+ICH9,2009):pvrpc-q35-7.2:cvnQEMU:ct1:cvrpc-q35-7.2:sku:"},
	{"miss=name", "no-such-module"},
}

func BenchmarkLookup(b *testing.B) {
	benchTrees(b, func(b *testing.B, dir string) {
		x := open(b, dir)
		for _, q := range benchQueries {
			b.Run(q.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					x.Lookup(q.query)
				}
			})
		}
	})
}

func BenchmarkModule(b *testing.B) {
	benchTrees(b, func(b *testing.B, dir string) {
		x := open(b, dir)
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := x.Module("btrfs"); !ok {
				b.Fatal("no btrfs")
			}
		}
	})
}

// A boot without modprobe.d files has to pay for looking, and no more.
func BenchmarkReadConfig(b *testing.B) {
	const line = "options a p=1\nalias b-* c\nblacklist d\nsoftdep e pre: f\n"
	few := map[string]string{}
	for i := range 20 {
		few[fmt.Sprintf("usr/lib/modprobe.d/%d.conf", i)] = line
	}
	for _, c := range []struct {
		name string
		root string
	}{
		{"files=0", b.TempDir()},
		{"files=20", writeConfig(b, few)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, problems := ReadConfig(ConfigDirs(c.root), "quiet"); problems != nil {
					b.Fatal(problems)
				}
			}
		})
	}
}

// What a configuration adds to a look-up: beside BenchmarkLookup's lines of the same name.
func BenchmarkViewLookup(b *testing.B) {
	benchTrees(b, func(b *testing.B, dir string) {
		lines := map[string]string{"none": "", "20": ""}
		for i := range 20 {
			lines["20"] += fmt.Sprintf("alias name-%d a\nalias pattern-%[1]d-* b\n", i)
		}
		for name, text := range lines {
			v := open(b, dir).With(config(b, text, ""))
			for _, q := range benchQueries {
				b.Run("aliases="+name+"/"+q.name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						v.Lookup(q.query)
					}
				})
			}
		}
	})
}
