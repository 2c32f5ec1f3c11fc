package rootdev

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	t.Parallel()
	const ro = unix.MS_RDONLY
	for _, tt := range []struct {
		options string
		rw      bool
		flags   uintptr
		data    string
	}{
		{"", false, ro, ""},
		{"", true, 0, ""},
		{"ro", true, ro, ""},
		{"rw", false, 0, ""},
		{"rw,ro", true, ro, ""},
		{"defaults", false, ro, ""},
		{"noatime,nodev,nosuid,noexec", true, unix.MS_NOATIME | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC, ""},
		{"nodev,dev,noexec,exec,nosuid,suid,sync,async", true, 0, ""},
		{"noatime,relatime", true, unix.MS_RELATIME, ""},
		{"strictatime,noatime", true, unix.MS_NOATIME, ""},
		{"noatime,atime", true, 0, ""},
		{"relatime,norelatime", true, 0, ""},
		{"strictatime,nostrictatime", true, 0, ""},
		{"nodiratime,lazytime,dirsync,iversion,nosymfollow,silent", true,
			unix.MS_NODIRATIME | unix.MS_LAZYTIME | unix.MS_DIRSYNC | unix.MS_I_VERSION | unix.MS_NOSYMFOLLOW | unix.MS_SILENT, ""},
		{"data=ordered,noatime,errors=remount-ro", true, unix.MS_NOATIME, "data=ordered,errors=remount-ro"},
		{",,a,,b,", true, 0, "a,b"},
		{`context="system_u:object_r:x:s0:c1,ro",ro`, true, ro, `context="system_u:object_r:x:s0:c1,ro"`},
		{`a="b,ro`, true, 0, `a="b,ro`},
		{"_netdev,nofail,x-systemd.growfs,X-mount.mkdir,comment=hi,user,subvol=@", true, 0, "subvol=@"},
		{"bind", true, 0, "bind"}, // no flag of ours: the file system refuses it
		{"RO", true, 0, "RO"},
	} {
		flags, data, err := parseOptions(tt.options, tt.rw)
		if err != nil || flags != tt.flags || data != tt.data {
			t.Errorf("parseOptions(%q, %v) = %#x, %q, %v; want %#x, %q", tt.options, tt.rw, flags, data, err, tt.flags, tt.data)
		}
	}
	for _, options := range []string{"a\x00b", "a\nb", strings.Repeat("a", maxData+1)} {
		if _, _, err := parseOptions(options, true); err == nil {
			t.Errorf("parseOptions(%.10q) has no error", options)
		}
	}
	if _, data, err := parseOptions(strings.Repeat("a", maxData), true); err != nil || len(data) != maxData {
		t.Errorf("a full page of options: %d bytes, %v", len(data), err)
	}
}

func TestMountTries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, fstype, options string
		rw                    bool
		answers               map[string]error // by type; unknown types fail the test
		tried                 []string
		err                   string
	}{
		{name: "one type", fstype: "ext4", rw: true, answers: map[string]error{"ext4": nil}, tried: []string{"ext4 0x0"}},
		{name: "read-only is the default", fstype: "ext4", answers: map[string]error{"ext4": nil}, tried: []string{"ext4 0x1"}},
		{name: "list", fstype: "xfs,ext4,btrfs", answers: map[string]error{"xfs": unix.EINVAL, "ext4": nil}, tried: []string{"xfs 0x1", "ext4 0x1"}},
		{name: "all fail", fstype: "xfs,ext4", answers: map[string]error{"xfs": unix.ENODEV, "ext4": unix.EINVAL}, tried: []string{"xfs 0x1", "ext4 0x1"},
			err: "mount on /sysroot: /dev/vda as xfs: no such device: the kernel does not know this file system; put its module into the image; " +
				"/dev/vda as ext4: invalid argument: another file system, or a damaged one; the kernel log says which"},
		{name: "not a matter of the type", fstype: "xfs,ext4", answers: map[string]error{"xfs": unix.EIO}, tried: []string{"xfs 0x1"},
			err: "mount on /sysroot: /dev/vda as xfs: input/output error"},
		{name: "write-protected", fstype: "ext4", rw: true, answers: map[string]error{"ext4": unix.EROFS}, tried: []string{"ext4 0x0"},
			err: "mount on /sysroot: /dev/vda as ext4: read-only file system: the device is write-protected; boot with ro instead of rw"},
		{name: "bad option", fstype: "ext4", options: "frob", answers: map[string]error{"ext4": unix.EINVAL}, tried: []string{"ext4 0x1 frob"},
			err: `mount on /sysroot: /dev/vda as ext4: invalid argument: another file system, a damaged one, or a bad option in "frob"; the kernel log says which`},
		{name: "damaged", fstype: "ext4", answers: map[string]error{"ext4": unix.EBADMSG}, tried: []string{"ext4 0x1"},
			err: "mount on /sysroot: /dev/vda as ext4: bad message: the file system is damaged; check it with fsck"},
		{name: "gone", fstype: "ext4", answers: map[string]error{"ext4": unix.ENXIO}, tried: []string{"ext4 0x1"},
			err: "mount on /sysroot: /dev/vda as ext4: no such device or address: the device is gone or has no medium"},
		{name: "no type", fstype: "", err: "mount on /sysroot: /dev/vda: unknown file system; say which by rootfstype="},
		{name: "only auto", fstype: "auto,", err: "mount on /sysroot: /dev/vda: unknown file system; say which by rootfstype="},
		{name: "hostile options", fstype: "ext4", options: "\x1b", err: `rootflags="\x1b": control character`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var tried []string
			mount := func(source, target, fstype string, flags uintptr, data string) error {
				answer, ok := tt.answers[fstype]
				if !ok || source != "/dev/vda" || target != "/sysroot" {
					t.Fatalf("unexpected mount(%q, %q, %q)", source, target, fstype)
				}
				tried = append(tried, strings.TrimSpace(fmt.Sprintf("%s %#x %s", fstype, flags, data)))
				return answer
			}
			err := mountBy(mount, "/dev/vda", "/sysroot", tt.fstype, tt.options, tt.rw)
			if diff := cmp.Diff(tt.tried, tried); diff != "" {
				t.Errorf("calls differ (-want +got):\n%s", diff)
			}
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("error\n%v, want\n%s", err, tt.err)
			}
			for _, errno := range tt.answers {
				if err != nil && !errors.Is(err, errno) {
					t.Errorf("%v does not wrap %v", err, errno)
				}
			}
		})
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add(`ro,a="b,c",noatime`, true)
	f.Add(`,,"`, false)
	f.Fuzz(func(t *testing.T, options string, rw bool) {
		flags, data, err := parseOptions(options, rw)
		if err != nil {
			return
		}
		if len(data) > len(options) || strings.Contains(data, "\x00") {
			t.Errorf("data %q", data)
		}
		// What is passed on holds no flag any more: a second reading finds none.
		if again, rest, err := parseOptions(data, true); err != nil || again != 0 || rest != data {
			t.Errorf("flags %#x data %q; read again %#x %q %v", flags, data, again, rest, err)
		}
	})
}
