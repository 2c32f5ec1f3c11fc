package modindex

import (
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"", ""},
		{"virtio_blk", "virtio_blk"},
		{"virtio-blk", "virtio_blk"},
		{"-a--b-", "_a__b_"},
		{"usb:v05ACp12-d010[0-9]dc-", "usb:v05ACp12_d010[0-9]dc_"},
		{"[a-b]-[-]-", "[a-b]_[-]_"},
		{"a[b-[c-d]e-f", "a[b-[c-d]e_f"},
		{"a]-b", "a]_b"}, // libkmod refuses these two
		{"x[0-9 y-z", "x[0_9 y_z"},
		{"-]-[-", "_]_[_"},
	} {
		got := Normalize(c.name)
		if got != c.want {
			t.Errorf("Normalize(%q) = %q, want %q", c.name, got, c.want)
		}
		if again := Normalize(got); again != got {
			t.Errorf("Normalize(%q) = %q: not idempotent", got, again)
		}
	}
}

func TestNormalizeAllocatesNothing(t *testing.T) {
	for _, name := range []string{"pci:v00001AF4d00001001", strings.Repeat("d010[0-9]", 3)} {
		if n := testing.AllocsPerRun(100, func() { Normalize(name) }); n > 0 {
			t.Errorf("Normalize(%q), which has nothing to replace, allocates %v times", name, n)
		}
	}
}

func TestPathName(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"kernel/drivers/block/virtio_blk.ko", "virtio_blk"},
		{"kernel/x-y.ko.zst", "x_y"},
		{"foo.bar.ko", "foo"},
		{"/opt/a-b-c.ko", "a_b_c"},
		{"a.b/c[0-9].ko", "c[0_9]"}, // a path is no pattern
		{"", ""},
		{"dir/", ""},
	} {
		if got := NameOf(c.path); got != c.want {
			t.Errorf("NameOf(%q) = %q, want %q", c.path, got, c.want)
		}
	}
}

func TestBalanced(t *testing.T) {
	for pattern, want := range map[string]bool{
		"": true, "a-b": true, "[a]": true, "x[0-9]y[!a]": true, "[[]": true,
		"]": false, "[": false, "[a]]": false, "a]b[c]": false, "[a][": false,
	} {
		if got := balanced(pattern); got != want {
			t.Errorf("balanced(%q) = %v, want %v", pattern, got, want)
		}
	}
}
