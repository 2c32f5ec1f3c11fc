package rootdev

import (
	"errors"
	"strings"
	"testing"
)

func TestParseRoot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in     string
		want   Ref
		string string
	}{
		{"/dev/vda1", Ref{Kind: ByName, Value: "vda1"}, "/dev/vda1"},
		{"/dev/cciss/c0d0p1", Ref{Kind: ByName, Value: "cciss/c0d0p1"}, "/dev/cciss/c0d0p1"},
		{"/dev/disk", Ref{Kind: ByName, Value: "disk"}, "/dev/disk"},
		{`"/dev/sda"`, Ref{Kind: ByName, Value: "sda"}, "/dev/sda"},

		{"UUID=8C3D631B-10a4-411a-bfc4-3c8f7f02b541", Ref{Kind: ByUUID, Value: "8c3d631b-10a4-411a-bfc4-3c8f7f02b541"}, "UUID=8c3d631b-10a4-411a-bfc4-3c8f7f02b541"},
		{`UUID="ABCD-1234"`, Ref{Kind: ByUUID, Value: "abcd-1234"}, "UUID=abcd-1234"},
		{"/dev/disk/by-uuid/ABCD-1234", Ref{Kind: ByUUID, Value: "abcd-1234"}, "UUID=abcd-1234"},

		{"LABEL=root", Ref{Kind: ByLabel, Value: "root"}, "LABEL=root"},
		{`LABEL="my root"`, Ref{Kind: ByLabel, Value: "my root"}, `LABEL="my root"`},
		{"LABEL=a=b", Ref{Kind: ByLabel, Value: "a=b"}, "LABEL=a=b"},
		{"LABEL=../../etc", Ref{Kind: ByLabel, Value: "../../etc"}, "LABEL=../../etc"},
		{"LABEL=\xff\n", Ref{Kind: ByLabel, Value: "\xff\n"}, `LABEL="\xff\n"`},
		{`LABEL="`, Ref{Kind: ByLabel, Value: `"`}, `LABEL="\""`},
		{`/dev/disk/by-label/a\x20b\x2fc`, Ref{Kind: ByLabel, Value: "a b/c"}, `LABEL="a b/c"`},
		{`/dev/disk/by-label/\x5cx20`, Ref{Kind: ByLabel, Value: `\x20`}, `LABEL="\\x20"`},
		{"PARTUUID=0123ABCD-01", Ref{Kind: ByPartUUID, Value: "0123abcd-01"}, "PARTUUID=0123abcd-01"},
		{"PARTUUID=0123ABCD-01/PARTNROFF=-1", Ref{Kind: ByPartUUID, Value: "0123abcd-01", Offset: -1}, "PARTUUID=0123abcd-01/PARTNROFF=-1"},
		{`PARTUUID="a/PARTNROFF=2"`, Ref{Kind: ByPartUUID, Value: "a", Offset: 2}, "PARTUUID=a/PARTNROFF=2"},
		{"/dev/disk/by-partuuid/AB-01", Ref{Kind: ByPartUUID, Value: "ab-01"}, "PARTUUID=ab-01"},
		{"PARTLABEL=root a", Ref{Kind: ByPartLabel, Value: "root a"}, `PARTLABEL="root a"`},
		{`/dev/disk/by-partlabel/a\x2fb`, Ref{Kind: ByPartLabel, Value: "a/b"}, "PARTLABEL=a/b"},
		{"8:1", Ref{Kind: ByDevno, Devno: Devno{8, 1}}, "8:1"},
		{"254:1048575", Ref{Kind: ByDevno, Devno: Devno{254, 1048575}}, "254:1048575"},
		{"801", Ref{Kind: ByDevno, Devno: Devno{8, 1}}, "8:1"},
		{"0x10305", Ref{Kind: ByDevno, Devno: Devno{259, 5}}, "259:5"},
		{"10010301", Ref{Kind: ByDevno, Devno: Devno{259, 65537}}, "259:65537"},
		{`/dev/disk/by-label/\xzz\x2`, Ref{Kind: ByLabel, Value: `\xzz\x2`}, `LABEL="\\xzz\\x2"`},
	} {
		got, err := ParseRoot(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("ParseRoot(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
		if s := got.String(); s != tt.string {
			t.Errorf("ParseRoot(%q).String() = %s, want %s", tt.in, s, tt.string)
		}
		if strings.Contains(tt.string, `\`) {
			continue // escaped for a log, which is not to be read again
		}
		if again, err := ParseRoot(tt.string); err != nil || again != got {
			t.Errorf("ParseRoot(%q) = %+v, %v; want %+v again", tt.string, again, err, got)
		}
	}
}

// TestParseRootOnly is for the forms that need more than the contents of devices; resume= takes those of them
// that are a device.
func TestParseRootOnly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in       string
		want     Ref
		onDevice bool
		string   string
	}{
		{"/dev/disk/by-id/nvme-a_b-part1", Ref{Kind: ByLink, Value: "disk/by-id/nvme-a_b-part1"}, true, "/dev/disk/by-id/nvme-a_b-part1"},
		{"/dev/disk/by-id/virtio-a/b", Ref{Kind: ByLink, Value: "disk/by-id/virtio-a/b"}, true, "/dev/disk/by-id/virtio-a/b"},
		{"/dev/disk/by-path/pci-0000:00:03.0", Ref{Kind: ByLink, Value: "disk/by-path/pci-0000:00:03.0"}, true, "/dev/disk/by-path/pci-0000:00:03.0"},
		{"/dev/mapper/vg-root", Ref{Kind: ByLink, Value: "mapper/vg-root"}, true, "/dev/mapper/vg-root"},
		{"/dev/disk/by-diskseq/1", Ref{Kind: ByLink, Value: "disk/by-diskseq/1"}, true, "/dev/disk/by-diskseq/1"},
		{"gpt-auto", Ref{Kind: ByGPTAuto}, true, "gpt-auto"},
		{"virtiofs:my root", Ref{Kind: ByVirtioFS, Value: "my root"}, false, `virtiofs:"my root"`},
		{"9p:/dev/root", Ref{Kind: By9P, Value: "/dev/root"}, false, "9p:/dev/root"},
		{"overlay:/dev/vda", Ref{Kind: ByName, Value: "vda", Overlay: true}, true, "overlay:/dev/vda"},
		{`"overlay:LABEL=live"`, Ref{Kind: ByLabel, Value: "live", Overlay: true}, true, "overlay:LABEL=live"},
		{"overlay:gpt-auto", Ref{Kind: ByGPTAuto, Overlay: true}, true, "overlay:gpt-auto"},
	} {
		got, err := ParseRoot(tt.in)
		if err != nil || got != tt.want || got.OnDevice() != tt.onDevice || got.String() != tt.string {
			t.Errorf("ParseRoot(%q) = %+v (%s), %v; want %+v (%s)", tt.in, got, got, err, tt.want, tt.string)
		}
		ref, err := ParseResume(tt.in)
		if swap := tt.want.Kind == ByLink; swap != (err == nil) || swap && ref != tt.want {
			t.Errorf("ParseResume(%q) = %+v, %v", tt.in, ref, err)
		}
	}
	if (Ref{}).OnDevice() {
		t.Error("the zero Ref is on a device")
	}
}

func TestParseRootErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/dev/md/root":              "root=/dev/md/root: a link of udev is not supported yet in this version; use /dev/NAME, UUID=, LABEL=, PARTUUID= or PARTLABEL=",
		"/dev/mapper/../sda":        "root=/dev/mapper/../sda: mapper/../sda is no link below /dev",
		"/dev/mapper/":              "root=/dev/mapper/: mapper/ is no link below /dev",
		"":                          `root="": empty; use /dev/NAME, UUID= or LABEL=`,
		`""`:                        `root="\"\"": empty; use /dev/NAME, UUID= or LABEL=`,
		"/dev/":                     `root=/dev/: "" is no device name`,
		"/dev/../etc/passwd":        "root=/dev/../etc/passwd: ../etc/passwd is no device name",
		"/dev/x/../../y":            "root=/dev/x/../../y: x/../../y is no device name",
		"/dev//sda":                 "root=/dev//sda: /sda is no device name",
		"/dev/sd\x1b[a":             `root="/dev/sd\x1b[a": "sd\x1b[a" is no device name`,
		"PARTUUID=":                 `root=PARTUUID=: "" is no UUID`,
		"PARTUUID=a/b":              "root=PARTUUID=a/b: b after a PARTUUID is not PARTNROFF= and a number",
		"PARTUUID=a/PARTNROFF=":     "root=PARTUUID=a/PARTNROFF=: PARTNROFF= after a PARTUUID is not PARTNROFF= and a number",
		"PARTUUID=a/PARTNROFF=1x":   "root=PARTUUID=a/PARTNROFF=1x: PARTNROFF=1x after a PARTUUID is not PARTNROFF= and a number",
		"/dev/disk/by-partuuid/a/b": "root=/dev/disk/by-partuuid/a/b: a/b is no UUID",
		"/dev/disk/by-id/../../x":   "root=/dev/disk/by-id/../../x: disk/by-id/../../x is no link below /dev",
		"/dev/disk/by-id/":          "root=/dev/disk/by-id/: disk/by-id/ is no link below /dev",
		"/dev/disk/by-dname/x":      "root=/dev/disk/by-dname/x: this link of udev is not supported yet in this version; use /dev/NAME, UUID=, LABEL=, PARTUUID= or PARTLABEL=",
		"overlay:9p:x":              "root=overlay:9p:x: overlay: takes a block device",
		"overlay:":                  "root=overlay:: empty; use /dev/NAME, UUID= or LABEL=",
		"9p:a,b":                    "root=9p:a,b: a tag is 1 to 255 bytes without ',' and NUL",
		"9p:":                       "root=9p:: a tag is 1 to 255 bytes without ',' and NUL",
		"8:":                        "root=8:: this form is not supported yet in this version; use /dev/NAME, UUID=, LABEL=, PARTUUID= or PARTLABEL=",
		"8:1048576":                 "root=8:1048576: this form is not supported yet in this version; use /dev/NAME, UUID=, LABEL=, PARTUUID= or PARTLABEL=",
		"UUID=":                     `root=UUID=: "" is no UUID`,
		"UUID=../x":                 "root=UUID=../x: ../x is no UUID",
		"/dev/disk/by-uuid/a\\x2fb": `root="/dev/disk/by-uuid/a\\x2fb": a/b is no UUID`,
		"LABEL=":                    "root=LABEL=: a label is 1 to 1024 bytes without NUL",
		`/dev/disk/by-label/a\x00`:  `root="/dev/disk/by-label/a\\x00": a label is 1 to 1024 bytes without NUL`,
		"uuid=1":                    "root=uuid=1: this form is not supported yet in this version; use /dev/NAME, UUID=, LABEL=, PARTUUID= or PARTLABEL=",
	} {
		ref, err := ParseRoot(in)
		if err == nil || err.Error() != want {
			t.Errorf("ParseRoot(%q): error\n%v, want\n%v", in, err, want)
		}
		if ref != (Ref{}) {
			t.Errorf("ParseRoot(%q) = %+v beside its error", in, ref)
		}
		if got := errors.Is(err, ErrUnsupported); got != strings.Contains(want, "not supported") {
			t.Errorf("ParseRoot(%q): errors.Is(ErrUnsupported) = %v", in, got)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{
		"/dev/vda1", `UUID="A-1"`, "LABEL=a b", `/dev/disk/by-label/a\x2fb\x`, "/dev/disk/by-uuid/", "PARTUUID=x/PARTNROFF=-1", `"`,
		"8:1", "801", "overlay:9p:x", "virtiofs:a", "/dev/disk/by-id/../x", "gpt-auto",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRoot(s)
		if err != nil {
			return
		}
		if (ref.Value == "") != (ref.Kind == ByDevno || ref.Kind == ByGPTAuto) || strings.Contains(ref.Value, "\x00") {
			t.Errorf("ParseRoot(%q) = %+v", s, ref)
		}
		if (ref.Kind == ByName || ref.Kind == ByLink) && strings.Contains("/"+ref.Value+"/", "/../") {
			t.Errorf("ParseRoot(%q) leads out of /dev: %+v", s, ref)
		}
		if strings.ContainsFunc(ref.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("ParseRoot(%q) prints control characters: %q", s, ref)
		}
	})
}
