package image

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"hapax/image/archive"
	"hapax/image/resolve"
	"hapax/tests/need"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// release61 is a module tree of which the universal set takes all but null_blk.
const release61 = `
-- modules.dep --
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/block/null_blk.ko:
kernel/drivers/virtio/virtio.ko:
kernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz
kernel/fs/fat/fat.ko.xz:
-- modules.alias --
alias virtio:d00000002v* virtio_blk
alias pci:v00001AF4d0000F000sv*sd*bc*sc*i* null_blk
alias fs-vfat vfat
-- modules.symbols --
-- modules.softdep --
softdep vfat pre: nls_utf8
-- modules.builtin --
kernel/fs/ext4/ext4.ko
-- modules.devname --
# Device nodes to trigger on-demand module loading.
null_blk nullb-control c10:1
virtio_blk virtio/control c10:2
-- modules.order --
kernel/fs/fat/fat.ko.xz
kernel/drivers/block/virtio_blk.ko
-- kernel/drivers/block/virtio_blk.ko --
virtio_blk
-- kernel/drivers/block/null_blk.ko --
null_blk
-- kernel/drivers/virtio/virtio.ko --
virtio
-- kernel/fs/fat/vfat.ko.xz --
vfat
-- kernel/fs/fat/fat.ko.xz --
fat
-- init --
#!/init
`

// testSpec returns a Spec over a fresh copy of the tree, uncompressed.
func testSpec(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "lib/modules/6.1-test")
	for _, f := range txtar.Parse([]byte(release61)).Files {
		writeFile(t, filepath.Join(tree, f.Name), string(f.Data), 0o644)
	}
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Output:      filepath.Join(dir, "out", "image"),
		ModulesDir:  tree,
		Init:        filepath.Join(tree, "init"),
		Compression: archive.None,
	}
}

func writeFile(t *testing.T, file, content string, perm fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, perm); err != nil {
		t.Fatal(err)
	}
}

// listing returns one line for each file of an image.
func listing(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines strings.Builder
	r := archive.NewReader(f, archive.Limits{})
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%-11v %d:%d %5d %s", h.Mode, h.UID, h.GID, h.Size, h.Name)
		if h.Link != "" {
			fmt.Fprintf(&lines, " -> %s", h.Link)
		}
		if h.Mode&fs.ModeDevice != 0 {
			fmt.Fprintf(&lines, " %d,%d", h.Dev.Major, h.Dev.Minor)
		}
		lines.WriteByte('\n')
	}
}

func TestBuildGolden(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.ForceLoad = []string{"null-blk", "fs-vfat"}
	shell := filepath.Join(filepath.Dir(spec.Output), "busybox")
	writeFile(t, shell, "#!x", 0o755)
	spec.Shell = shell
	result, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	got := listing(t, spec.Output)
	golden := filepath.Join("testdata", "listing.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("listing (-want +got; -update accepts it):\n%s", diff)
	}
	info, err := os.Stat(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	wantResult := Result{
		Output: spec.Output, Format: Initramfs, Release: "6.1-test", Modules: 5, Files: strings.Count(got, "\n"),
		Content: info.Size(), Size: info.Size(), Compression: archive.None,
	}
	for _, e := range result.Explain {
		if e.Name == "" || e.Why == "" || !strings.Contains(got, " "+e.Name) {
			t.Errorf("%+v explains nothing", e)
		}
	}
	result.Explain = nil
	if diff := cmp.Diff(wantResult, result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	image, err := os.ReadFile(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"null_blk\nvfat\n", "ID=hapax\n", "#!/init\n"} {
		if !bytes.Contains(image, []byte(content)) {
			t.Errorf("the image lacks %q", content)
		}
	}
}

func TestBuildModes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode  Mode
		rules string
		want  string
	}{
		{"", "", "virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz"},
		{Universal, "-virtio", "fat.ko.xz vfat.ko.xz"},
		{Universal, "null_blk", "null_blk.ko virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz"},
		{All, "", "null_blk.ko virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz"},
		{All, "-kernel/fs/,vfat", "null_blk.ko virtio_blk.ko virtio.ko fat.ko.xz vfat.ko.xz"},
	} {
		spec := testSpec(t)
		rules, err := resolve.ParseRules(tt.rules)
		if err != nil {
			t.Fatal(err)
		}
		spec.Mode, spec.Modules = tt.mode, rules
		if _, err := Build(t.Context(), spec); err != nil {
			t.Errorf("mode %q with %q: %v", tt.mode, tt.rules, err)
			continue
		}
		var got []string
		for line := range strings.Lines(listing(t, spec.Output)) {
			if name := strings.TrimSpace(line[strings.LastIndexByte(line, '/')+1:]); strings.Contains(name, ".ko") {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(strings.Fields(tt.want), got); diff != "" {
			t.Errorf("mode %q with %q (-want +got):\n%s", tt.mode, tt.rules, diff)
		}
	}
}

// Two builds share nothing but the Spec: other folders, other permissions and times of the sources, another umask (in
// a child, for it belongs to the whole process), another time zone.
func TestBuildIsReproducible(t *testing.T) {
	if os.Getenv("HAPAX_TEST_UMASK") != "" {
		syscall.Umask(0o077)
	}
	image := func() []byte {
		spec := testSpec(t)
		spec.Compression, spec.Packing = archive.Zstd, XZFiles
		spec.Time = time.Unix(1_700_000_000, 0)
		if os.Getenv("HAPAX_TEST_UMASK") != "" {
			old := filepath.Join(spec.ModulesDir, "kernel/drivers/virtio/virtio.ko")
			if err := errors.Join(os.Chmod(old, 0o600), os.Chtimes(old, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Build(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(spec.Output)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := image()
	if !bytes.Equal(first, image()) {
		t.Error("two builds in one process differ")
	}
	if copyTo := os.Getenv("HAPAX_TEST_UMASK"); copyTo != "" {
		if err := os.WriteFile(copyTo, first, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	other := filepath.Join(t.TempDir(), "image")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBuildIsReproducible$", "-test.cpu=1")
	child.Env = append(os.Environ(), "HAPAX_TEST_UMASK="+other, "TZ=Asia/Kolkata", "LC_ALL=de_DE.UTF-8", "TMPDIR="+t.TempDir())
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	second, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("a build with another umask, time zone and number of processors differs")
	}
}

func TestBuildFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(t *testing.T, s *Spec)
		want   string
	}{
		"exists":                {func(t *testing.T, s *Spec) { writeFile(t, s.Output, "old", 0o644) }, "use --force"},
		"folder, without force": {func(t *testing.T, s *Spec) { s.Output = filepath.Dir(s.Output) }, "not a regular file"},
		"folder":                {func(t *testing.T, s *Spec) { s.Output, s.Force = filepath.Dir(s.Output), true }, "not a regular file"},
		"no folder for it":      {func(t *testing.T, s *Spec) { s.Output = filepath.Join(s.Output, "x", "y") }, "no such file"},
		"no output":             {func(t *testing.T, s *Spec) { s.Output = "" }, "needed"},
		"no tree":               {func(t *testing.T, s *Spec) { s.ModulesDir += "-other" }, "6.1-test-other"},
		"mode":                  {func(t *testing.T, s *Spec) { s.Mode = "custom-made" }, `unknown mode "custom-made"`},
		"compression":           {func(t *testing.T, s *Spec) { s.Compression = "rar" }, `unknown compression "rar"`},
		"unknown module":        {func(t *testing.T, s *Spec) { s.Modules = []resolve.Rule{{Name: "virtio_bkl"}} }, "did you mean virtio_blk?"},
		"unknown force":         {func(t *testing.T, s *Spec) { s.ForceLoad = []string{"nope"} }, `"nope"`},
		"missing module": {func(t *testing.T, s *Spec) {
			if err := os.Remove(filepath.Join(s.ModulesDir, "kernel/drivers/virtio/virtio.ko")); err != nil {
				t.Fatal(err)
			}
		}, "virtio.ko, needed by virtio_blk: no such file"},
		"no init":        {func(t *testing.T, s *Spec) { s.Init += ".absent" }, "init.absent: no such file"},
		"empty init":     {func(t *testing.T, s *Spec) { writeFile(t, s.Init, "", 0o755) }, "is empty"},
		"folder as init": {func(t *testing.T, s *Spec) { s.Init = t.TempDir() }, "not a regular file"},
		"dynamic shell": {func(t *testing.T, s *Spec) {
			s.Shell, s.Root = "/bin/sh", t.TempDir() // nothing of which is the host's
		}, "which is not in the image: take a static program"},
		"absent include":    {func(t *testing.T, s *Spec) { s.Includes = []Include{{"/nonexistent/x", "/x"}} }, "/nonexistent"},
		"include as init":   {func(t *testing.T, s *Spec) { s.Includes = []Include{{s.Init, "/init"}} }, "init: file already exists"},
		"file as the root":  {func(t *testing.T, s *Spec) { s.Includes = []Include{{s.Init, "/"}} }, "a file cannot be the root of the image"},
		"absent modprobe-d": {func(t *testing.T, s *Spec) { s.ModprobeD = []string{"/nonexistent/d"} }, "modprobe-d: stat /nonexistent/d"},
		"link to a device": {func(t *testing.T, s *Spec) {
			s.Output, s.Force = filepath.Join(t.TempDir(), "link"), true
			if err := os.Symlink("/dev/full", s.Output); err != nil {
				t.Fatal(err)
			}
		}, "link is not a regular file"},
		"link in a circle": {func(t *testing.T, s *Spec) {
			s.Output, s.Force = filepath.Join(t.TempDir(), "link"), true
			if err := os.Symlink("link", s.Output); err != nil {
				t.Fatal(err)
			}
		}, "too many"},
		"profile of another architecture": {func(t *testing.T, s *Spec) {
			s.Mode, s.Profiles = FromProfile, []string{filepath.Join(t.TempDir(), "board.json")}
			writeFile(t, s.Profiles[0], `{"version":1,"arch":"pdp11"}`, 0o644)
		}, "board.json is of a machine with the architecture pdp11"},
		"socket": {func(t *testing.T, s *Spec) { s.Includes = []Include{{fifo(t), "/fifo"}} }, "neither a file, a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := testSpec(t)
			out := filepath.Dir(spec.Output)
			tt.change(t, &spec)
			before := fileNames(t, out)
			if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Build = %v, want an error with %q", err, tt.want)
			}
			if diff := cmp.Diff(before, fileNames(t, out)); diff != "" {
				t.Errorf("the failed build left (-before +after):\n%s", diff)
			}
		})
	}
}

// What a link leads to is the output, whether it is there or not.
func TestBuildBehindLinks(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "target")
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "deep/er"), 0o755), os.Symlink("deep/er", filepath.Join(dir, "in")),
		os.Symlink("in/hop", link), os.Symlink("../../target", filepath.Join(dir, "in/hop")))
	if err != nil {
		t.Fatal(err)
	}
	spec.Output = link
	if _, err := Build(t.Context(), spec); !errors.Is(err, fs.ErrExist) {
		t.Errorf("without force: %v", err)
	}
	spec.Force = true
	for range 2 {
		if _, err := Build(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("the link is %v now, %v", info, err)
		}
		if info, err := os.Lstat(target); err != nil || !info.Mode().IsRegular() {
			t.Errorf("its target is %v, %v", info, err)
		}
	}
}

func fifo(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The limits of the universal images of Debian's kernels, cloud and full ones, on the trees that HAPAX_TEST_MODULES
// names. An init of 4 MiB that does not compress stands for the real one.
func TestRealTreeSize(t *testing.T) {
	trees := need.Trees(t)
	const cloudLimit, fullLimit = 14_000_000, 26_000_000
	init := noiseInit(t)
	for _, dir := range trees {
		result, err := Build(t.Context(), Spec{Output: filepath.Join(t.TempDir(), "image"), ModulesDir: dir, Init: init})
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("%s: %d modules, %d bytes, unpacked %d", result.Release, result.Modules, result.Size, result.Content)
		limit := int64(fullLimit)
		if strings.Contains(result.Release, "cloud") {
			limit = cloudLimit
		}
		if result.Size > limit {
			t.Errorf("the image of %s has %d bytes, at most %d are allowed", result.Release, result.Size, limit)
		}
	}
}

// noiseInit returns a file of 4 MiB that does not compress, in the place of the real init.
func noiseInit(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "init")
	noise := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	if err := os.WriteFile(file, noise, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
