package rootdev

import "strings"

// Type GUIDs of the Discoverable Partitions Specification (UAPI.2) that do not depend on the machine.
const (
	TypeESP      = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	TypeXBOOTLDR = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
	TypeSwap     = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
)

// NoAuto is the flag of a partition that must not be used without being named.
const NoAuto = 1 << 63

// RootType returns the type GUID of root partitions for a GOARCH, "" for one without.
func RootType(goarch string) string { return archType(goarch, 1) }

// UsrType returns the type GUID of /usr partitions for a GOARCH, "" for one without.
func UsrType(goarch string) string { return archType(goarch, 2) }

func archType(goarch string, column int) string {
	const table = `
		386      44479540-f297-41b2-9af7-d131d5f0458a 75250d76-8cc6-458e-bd66-bd47cc81a812
		amd64    4f68bce3-e8cd-4db1-96e7-fbcaf984b709 8484680c-9521-48c6-9c11-b0720656f69e
		arm      69dad710-2ce4-4e3c-b16c-21a1d49abed3 7d0359a3-02b3-4f0a-865c-654403e70625
		arm64    b921b045-1df0-41c3-af44-4c6f280d3fae b0e01050-ee5f-4390-949a-9101b17104e9
		loong64  77055800-792c-4f94-b39a-98c91b762bb6 e611c702-575c-4cbe-9a46-434fa0bf7e3f
		mips64le 700bda43-7a34-4507-b179-eeb93d7a7ca3 c97c1f32-ba06-40b4-9f22-236061b08aa8
		ppc64le  c31c45e6-3f39-412e-80fb-4809c4980599 15bb03af-77e7-4d4a-b12b-c0d084f7491c
		riscv64  72ec70a6-cf74-40e6-bd49-4bda08e8f224 beaec34b-8442-439b-a40b-984381ed097d
		s390x    5eead9a9-fe09-4a1e-a1d7-520d00531306 8a4f5770-50aa-4ed3-87b4-99b710db6fea`
	fields := strings.Fields(table)
	for i := 0; i < len(fields); i += 3 {
		if fields[i] == goarch {
			return fields[i+column]
		}
	}
	return ""
}

// AutoRoot returns the partition that root=gpt-auto means on a disk with this table: the one of type
// RootType(goarch) whose name is the newest version, the first of equals, if the loader was started from
// this disk, that is from its ESP or XBOOTLDR partition with the PARTUUID boot. The EFI variable
// LoaderDevicePartUUID of systemd-boot has it; "" never fits.
func (t *Table) AutoRoot(goarch, boot string) (Part, bool) {
	if t == nil || t.Type != tableGPT {
		return Part{}, false
	}
	p, ok := t.ByUUID(boot)
	if !ok || p.Type != TypeESP && p.Type != TypeXBOOTLDR {
		return Part{}, false
	}
	return t.newest(RootType(goarch))
}

// AutoPart returns the partition of a type that is to be used without being named, by the same rules but
// wherever the loader was: TypeSwap, UsrType(goarch).
func (t *Table) AutoPart(kind string) (Part, bool) {
	if t == nil || t.Type != tableGPT {
		return Part{}, false
	}
	return t.newest(kind)
}

func (t *Table) newest(kind string) (best Part, ok bool) {
	for _, p := range t.Parts {
		if kind == "" || p.Type != kind || p.Flags&NoAuto != 0 {
			continue
		}
		if !ok || compareVersions(p.Name, best.Name) > 0 {
			best, ok = p, true
		}
	}
	return best, ok
}

// compareVersions compares by the Version Format Specification (UAPI.10), as systemd does. It returns a
// number below, at or above zero.
func compareVersions(a, b string) int {
	for {
		a, b = strings.TrimLeftFunc(a, separator), strings.TrimLeftFunc(b, separator)
		if c := prefixed(&a, &b, '~'); c != 0 { // a pre-release, older than the end
			return c
		}
		if a == "" || b == "" {
			return len(a) - len(b)
		}
		for _, mark := range []byte("-^.") { // release, patched release, point release
			if c := prefixed(&a, &b, mark); c != 0 {
				return c
			}
		}
		x, y := leading(&a, digit), leading(&b, digit)
		if x == "" && y == "" {
			x, y = leading(&a, letter), leading(&b, letter)
		} else if x == "" || y == "" {
			return len(x) - len(y) // numbers are newer than letters
		} else if x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0"); len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
}

// prefixed takes mark off both strings. If only one has it that is the older one.
func prefixed(a, b *string, mark byte) int {
	x, y := len(*a) > 0 && (*a)[0] == mark, len(*b) > 0 && (*b)[0] == mark
	switch {
	case x && y:
		*a, *b = (*a)[1:], (*b)[1:]
	case x:
		return -1
	case y:
		return 1
	}
	return 0
}

// leading cuts off what is made of such characters at the start of s, and returns it.
func leading(s *string, in func(rune) bool) string {
	rest := strings.TrimLeftFunc(*s, in)
	head := (*s)[:len(*s)-len(rest)]
	*s = rest
	return head
}

func digit(r rune) bool     { return r >= '0' && r <= '9' }
func letter(r rune) bool    { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func separator(r rune) bool { return !digit(r) && !letter(r) && !strings.ContainsRune("~-^.", r) }
