package rootdev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

// mkfs makes an image of size KiB.
func mkfs(t *testing.T, size int64, command string, args ...string) string {
	t.Helper()
	need.Tools(t, command)
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size<<10), f.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command, append(append([]string{"-q", "-F"}, args...), image)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return image
}

// blkid returns what libblkid finds in image, the zero Info for nothing (exit status 2) and ErrAmbiguous for
// several signatures (exit status 8).
func blkid(t *testing.T, image string) (Info, error) {
	t.Helper()
	need.Tools(t, "blkid")
	out, err := exec.Command("blkid", "-p", "-o", "udev", image).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return Info{}, ErrUnknown
	}
	if errors.As(err, &exit) && exit.ExitCode() == 8 {
		return Info{}, ErrAmbiguous
	}
	if err != nil {
		t.Fatalf("blkid: %v", err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[key] = decodeLink(value)
		if again := encodeLink(values[key]); strings.HasSuffix(key, "_ENC") && again != value {
			t.Errorf("%s=%s is encoded as %s here", key, value, again)
		}
	}
	return Info{
		Type: values["ID_FS_TYPE"], Usage: Usage(values["ID_FS_USAGE"]), Version: values["ID_FS_VERSION"],
		UUID: values["ID_FS_UUID_ENC"], SubUUID: values["ID_FS_UUID_SUB_ENC"], Label: values["ID_FS_LABEL_ENC"],
		TableType: values["ID_PART_TABLE_TYPE"], TableUUID: values["ID_PART_TABLE_UUID"],
	}, nil
}

func probeFile(t *testing.T, image string) (Info, error) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return Probe(f, st.Size())
}

// TestProbeAgainstBlkid compares with libblkid for what mke2fs can make.
func TestProbeAgainstBlkid(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		command, options string
		label            string // an argument of its own: it may hold spaces
	}{
		{"mkfs.ext2", "", ""},
		{"mkfs.ext3", "", ""},
		{"mkfs.ext4", "", ""},
		{"mkfs.ext2", "-b 4096 -I 128", "x"},
		{"mkfs.ext2", "-r 0", ""},
		{"mkfs.ext3", "-b 1024", "  leading and  "},
		{"mkfs.ext4", "-b 2048", "../../etc/x"},
		{"mkfs.ext4", "-b 65536", "a/b"},
		{"mkfs.ext4", "", "0123456789abcdef"},
		{"mkfs.ext4", "", "\xff\xfe non-utf8"},
		{"mkfs.ext4", "", `back\x2fslash`},
		{"mkfs.ext4", "", "tab\tnew\nline"},
		{"mkfs.ext4", "", "vo\u00ecl\u00e0"},
		{"mkfs.ext4", "-U 00000000-0000-0000-0000-000000000000", "zero"},
		{"mkfs.ext4", "-U ABCDEF01-2345-6789-abcd-ef0123456789", ""},
		{"mkfs.ext4", "-O ^has_journal", ""},
		{"mkfs.ext4", "-O ^metadata_csum,uninit_bg", ""},
		{"mkfs.ext4", "-O metadata_csum_seed", ""},
		{"mkfs.ext4", "-O ^extent,^64bit,^flex_bg,^metadata_csum,^huge_file,^dir_nlink,^extra_isize", ""},
		{"mkfs.ext4", "-O ^has_journal,^extent,^64bit,^flex_bg,^metadata_csum,^huge_file,^dir_nlink,^extra_isize", ""},
		{"mkfs.ext4", "-O bigalloc,casefold,encrypt,verity,project,quota,mmp", ""},
		{"mkfs.ext4", "-O meta_bg,^resize_inode", ""},
		{"mkfs.ext2", "-O ext_attr,dir_index,meta_bg,^resize_inode", ""},
		{"mkfs.ext4", "-O inline_data,ea_inode,large_dir", ""},
		{"mkfs.ext4", "-O journal_dev", "journal"},
		{"mkfs.ext2", "-O journal_dev", ""},
	} {
		t.Run(fmt.Sprintf("%d %s %s", i, tt.command, tt.options), func(t *testing.T) {
			t.Parallel()
			args := append([]string{"-L", tt.label}, strings.Fields(tt.options)...)
			image := mkfs(t, 8<<10, tt.command, args...)
			want, err := blkid(t, image)
			if err != nil {
				t.Fatalf("blkid: %v: the case compares nothing", err)
			}
			got, err := probeFile(t, image)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("differs from blkid (-blkid +Probe):\n%s", diff)
			}
		})
	}
}
