package modstats

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stormy is what Linux 6.12 shows, in its own layout, after systemd-udevd has coldplugged.
const stormy = "         Mods ever loaded\t42\n     Mods failed on kread\t0\nMods failed on decompress\t0\n" +
	"  Mods failed on becoming\t83\n      Mods failed on load\t16\n        Total module size\t11464704\n" +
	"      Total mod text size\t4194304\n       Failed kread bytes\t0\n  Failed decompress bytes\t0\n" +
	"    Failed becoming bytes\t228959096\n        Failed kmod bytes\t8578080\n Virtual mem wasted bytes\t237537176\n" +
	"         Average mod size\t171115\n    Average mod text size\t62602\n  Avg fail becoming bytes\t2758544\n" +
	"  Average fail load bytes\t536130\nDuplicate failed modules:\n" +
	"              Module-name\t How-many-times\t                   Reason\n" +
	"                kvm_intel\t              7\t                 Becoming\n" +
	"                irqbypass\t              6\t          Becoming & Load\n" +
	"                     load\t              1\t                     Load\n"

// calm is the same kernel after nothing went wrong, with white space as web pages show it.
const calm = "Mods ever loaded 42\nMods failed on kread 0\nMods failed on decompress 0\nMods failed on becoming 0\n" +
	"Mods failed on load 0\nVirtual mem wasted bytes 0\nDuplicate failed modules:\nmodule-name How-many-times Reason\n"

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want Stats
	}{
		"stormy": {stormy, Stats{
			Loaded: 42, FailedBecoming: 83, FailedLoad: 16, Wasted: 237537176,
			Duplicates: []Duplicate{{"kvm_intel", 7, "Becoming"}, {"irqbypass", 6, "Becoming & Load"}, {"load", 1, "Load"}},
		}},
		"calm":    {calm, Stats{Loaded: 42}},
		"no list": {calm[:strings.Index(calm, listHead)], Stats{Loaded: 42}},
	} {
		got, err := Parse(tt.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if s, _ := Parse(stormy); s.Failed() != 99 {
		t.Errorf("Failed = %d, want 99", s.Failed())
	}
}

func TestParseErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"count missing":   strings.Replace(calm, "Mods failed on load 0\n", "", 1),
		"waste missing":   strings.Replace(calm, "Virtual mem wasted bytes 0\n", "", 1),
		"no number":       strings.Replace(calm, "42", "many", 1),
		"negative":        strings.Replace(calm, "42", "-1", 1),
		"number alone":    "7\n",
		"short duplicate": calm + "kvm 7\n",
		"odd duplicate":   calm + "kvm seven Load\n",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%s: Parse = %+v, want an error", name, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(stormy)
	f.Add(calm)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if len(s.Duplicates) > strings.Count(text, "\n")+1 {
			t.Errorf("%d duplicates from %d lines", len(s.Duplicates), strings.Count(text, "\n")+1)
		}
		for _, d := range s.Duplicates {
			if d.Module == "" || d.Reason == "" || d.Times < 0 || strings.ContainsAny(d.Module, " \t\n") {
				t.Errorf("duplicate %+v", d)
			}
		}
	})
}
