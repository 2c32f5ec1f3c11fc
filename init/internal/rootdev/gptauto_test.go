package rootdev

import (
	"strings"
	"testing"
)

// TestCompareVersions holds the order that systemd documents for strverscmp_improved.
func TestCompareVersions(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"122.1 < 123~rc1-1 < 123 < 123-a < 123-a.1 < 123-1 < 123-1.1 < 123^post1 < 123.a-1 < 123.1-1 < 123a-1 < 124-1",
		"1 < 2 < 10 < 010a",
		"a < b < ba < 1",
		"foo-1 < foo-2 < foo-10",
	} {
		order := strings.Split(line, " < ")
		for i, a := range order {
			for j, b := range order {
				if c := compareVersions(a, b); c < 0 != (i < j) || c > 0 != (i > j) {
					t.Errorf("compareVersions(%s, %s) = %d", a, b, c)
				}
			}
		}
	}
	for _, same := range [][2]string{{"", ""}, {"1.01", "1.1"}, {"123_a", "123a"}, {"é1", "1"}, {"~", "~"}, {"^-", "^-"}} {
		if c := compareVersions(same[0], same[1]); c != 0 {
			t.Errorf("compareVersions(%s, %s) = %d", same[0], same[1], c)
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.2~a", "1^-.b")
	f.Fuzz(func(t *testing.T, a, b string) {
		if x, y := compareVersions(a, b), compareVersions(b, a); x < 0 != (y > 0) || x == 0 != (y == 0) {
			t.Errorf("%q and %q: %d and %d", a, b, x, y)
		}
	})
}

func TestAutoRoot(t *testing.T) {
	t.Parallel()
	root := RootType("amd64")
	disk := &Table{Type: tableGPT, Parts: []Part{
		{Number: 1, Type: TypeESP, UUID: "aa"},
		{Number: 2, Type: root, UUID: "r0", Name: "root_2", Flags: NoAuto},
		{Number: 3, Type: RootType("arm64"), UUID: "r1"},
		{Number: 4, Type: root, UUID: "r2", Name: "root_1.9"},
		{Number: 5, Type: root, UUID: "r3", Name: "root_1.10"},
		{Number: 6, Type: root, UUID: "r4", Name: "root_1.10"},
		{Number: 7, Type: TypeXBOOTLDR, UUID: "bb"},
		{Number: 8, Type: TypeSwap, UUID: "cc"},
	}}
	for _, tt := range []struct {
		arch, boot string
		want       int // 0 for none
	}{
		{"amd64", "AA", 5}, {"amd64", "bb", 5}, {"arm64", "aa", 3},
		{"riscv64", "aa", 0}, {"nonesuch", "aa", 0}, // the last has no type at all
		{"amd64", "", 0}, {"amd64", "r2", 0}, {"amd64", "elsewhere", 0},
	} {
		if p, ok := disk.AutoRoot(tt.arch, tt.boot); p.Number != tt.want || ok != (tt.want != 0) {
			t.Errorf("AutoRoot(%s, %s) = %+v, %v; want partition %d", tt.arch, tt.boot, p, ok, tt.want)
		}
	}
	if p, ok := disk.AutoPart(TypeSwap); !ok || p.Number != 8 {
		t.Errorf("swap: %+v, %v", p, ok)
	}
	dos := *disk
	dos.Type = tableDOS
	for _, table := range []*Table{nil, {}, &dos} {
		if p, ok := table.AutoRoot("amd64", "aa"); ok {
			t.Errorf("%+v: %+v", table, p)
		}
		if p, ok := table.AutoPart(TypeSwap); ok {
			t.Errorf("%+v: %+v", table, p)
		}
	}
}

// TestArchTypes: each GUID is one, and of one use.
func TestArchTypes(t *testing.T) {
	t.Parallel()
	seen := map[string]string{TypeESP: "ESP", TypeXBOOTLDR: "XBOOTLDR", TypeSwap: "swap"}
	for _, arch := range []string{"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"} {
		for use, id := range map[string]string{"root": RootType(arch), "usr": UsrType(arch)} {
			if ref, err := ParseRoot("PARTUUID=" + id); err != nil || ref.Value != id || len(id) != 36 || strings.Count(id, "-") != 4 {
				t.Errorf("%s of %s: %q", use, arch, id)
			}
			if other := seen[id]; other != "" {
				t.Errorf("%s of %s is also %s", use, arch, other)
			}
			seen[id] = use + " of " + arch
		}
	}
}
