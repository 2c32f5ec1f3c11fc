package rootdev

import (
	"errors"
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in     string
		want   Ref
		string string
	}{
		{"/dev/vda1", Ref{ByName, "vda1"}, "/dev/vda1"},
		{"/dev/cciss/c0d0p1", Ref{ByName, "cciss/c0d0p1"}, "/dev/cciss/c0d0p1"},
		{"/dev/disk", Ref{ByName, "disk"}, "/dev/disk"},
		{`"/dev/sda"`, Ref{ByName, "sda"}, "/dev/sda"},

		{"UUID=8C3D631B-10a4-411a-bfc4-3c8f7f02b541", Ref{ByUUID, "8c3d631b-10a4-411a-bfc4-3c8f7f02b541"}, "UUID=8c3d631b-10a4-411a-bfc4-3c8f7f02b541"},
		{`UUID="ABCD-1234"`, Ref{ByUUID, "abcd-1234"}, "UUID=abcd-1234"},
		{"/dev/disk/by-uuid/ABCD-1234", Ref{ByUUID, "abcd-1234"}, "UUID=abcd-1234"},

		{"LABEL=root", Ref{ByLabel, "root"}, "LABEL=root"},
		{`LABEL="my root"`, Ref{ByLabel, "my root"}, `LABEL="my root"`},
		{"LABEL=a=b", Ref{ByLabel, "a=b"}, "LABEL=a=b"},
		{"LABEL=../../etc", Ref{ByLabel, "../../etc"}, "LABEL=../../etc"},
		{"LABEL=\xff\n", Ref{ByLabel, "\xff\n"}, `LABEL="\xff\n"`},
		{`LABEL="`, Ref{ByLabel, `"`}, `LABEL="\""`},
		{`/dev/disk/by-label/a\x20b\x2fc`, Ref{ByLabel, "a b/c"}, `LABEL="a b/c"`},
		{`/dev/disk/by-label/\x5cx20`, Ref{ByLabel, `\x20`}, `LABEL="\\x20"`},
		{`/dev/disk/by-label/\xzz\x2`, Ref{ByLabel, `\xzz\x2`}, `LABEL="\\xzz\\x2"`},
	} {
		got, err := ParseRef(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("ParseRef(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
		if s := got.String(); s != tt.string {
			t.Errorf("ParseRef(%q).String() = %s, want %s", tt.in, s, tt.string)
		}
		if strings.Contains(tt.string, `\`) {
			continue // escaped for a log, which is not to be read again
		}
		if again, err := ParseRef(tt.string); err != nil || again != got {
			t.Errorf("ParseRef(%q) = %+v, %v; want %+v again", tt.string, again, err, got)
		}
	}
}

func TestParseRefErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"PARTUUID=1234-01":          "root=PARTUUID=1234-01: a reference by PARTUUID is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"PARTLABEL=x":               "root=PARTLABEL=x: a reference by PARTLABEL is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"/dev/disk/by-partuuid/1":   "root=/dev/disk/by-partuuid/1: a link of udev is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"/dev/disk/by-path/pci-0":   "root=/dev/disk/by-path/pci-0: a link of udev is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"/dev/mapper/vg-root":       "root=/dev/mapper/vg-root: a link of udev is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"8:1":                       "root=8:1: this form is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"gpt-auto":                  "root=gpt-auto: this form is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"virtiofs:tag":              "root=virtiofs:tag: this form is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
		"":                          `root="": empty; use /dev/NAME, UUID= or LABEL=`,
		`""`:                        `root="\"\"": empty; use /dev/NAME, UUID= or LABEL=`,
		"/dev/":                     `root=/dev/: "" is no device name`,
		"/dev/../etc/passwd":        "root=/dev/../etc/passwd: ../etc/passwd is no device name",
		"/dev/x/../../y":            "root=/dev/x/../../y: x/../../y is no device name",
		"/dev//sda":                 "root=/dev//sda: /sda is no device name",
		"/dev/sd\x1b[a":             `root="/dev/sd\x1b[a": "sd\x1b[a" is no device name`,
		"UUID=":                     `root=UUID=: "" is no UUID`,
		"UUID=../x":                 "root=UUID=../x: ../x is no UUID",
		"/dev/disk/by-uuid/a\\x2fb": `root="/dev/disk/by-uuid/a\\x2fb": a/b is no UUID`,
		"LABEL=":                    "root=LABEL=: a label is 1 to 1024 bytes without NUL",
		`/dev/disk/by-label/a\x00`:  `root="/dev/disk/by-label/a\\x00": a label is 1 to 1024 bytes without NUL`,
		"uuid=1":                    "root=uuid=1: this form is not supported yet in this version; use /dev/NAME, UUID= or LABEL=",
	} {
		ref, err := ParseRef(in)
		if err == nil || err.Error() != want {
			t.Errorf("ParseRef(%q): error\n%v, want\n%v", in, err, want)
		}
		if ref != (Ref{}) {
			t.Errorf("ParseRef(%q) = %+v beside its error", in, ref)
		}
		if got := errors.Is(err, ErrUnsupported); got != strings.Contains(want, "not supported") {
			t.Errorf("ParseRef(%q): errors.Is(ErrUnsupported) = %v", in, got)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"/dev/vda1", `UUID="A-1"`, "LABEL=a b", `/dev/disk/by-label/a\x2fb\x`, "/dev/disk/by-uuid/", "PARTUUID=x", `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRef(s)
		if err != nil {
			return
		}
		if ref.Value == "" || strings.Contains(ref.Value, "\x00") {
			t.Errorf("ParseRef(%q) = %+v", s, ref)
		}
		if ref.Kind == ByName && strings.Contains("/"+ref.Value+"/", "/../") {
			t.Errorf("ParseRef(%q) leads out of /dev: %+v", s, ref)
		}
		if strings.ContainsFunc(ref.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("ParseRef(%q) prints control characters: %q", s, ref)
		}
	})
}
