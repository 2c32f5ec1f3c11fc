package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image"
	"hapax/image/archive"
	"hapax/image/resolve"
	"hapax/image/strict"
	"hapax/tests/need"
)

// write writes files into a folder and returns the first one's path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "hapax.toml")
}

func TestRead(t *testing.T) {
	t.Parallel()
	file := write(t, map[string]string{
		"hapax.toml":               "mode = \"all\"\nmodules = [\"nvme\", \"-drbd\"]\nforce = true\ncompression = \"xz\"\n",
		"hapax.toml.d/10-a.toml":   "# later\nmode = \"custom\"\nmodules = [\"kernel/fs/\"]\ninclude = [\"/etc/a:/b\"]\n",
		"hapax.toml.d/20-b.toml":   "force = false\nshell = \"u-root\"\nfirmware = [\"x/*.bin\"]\n",
		"hapax.toml.d/30.disabled": "nonsense",
		"hapax.toml.d/.tmp.toml":   "nonsense",
	})
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	want := image.Spec{
		Mode: image.Custom, Compression: archive.XZ, Shell: "u-root", Firmware: []string{"x/*.bin"},
		Modules:  []resolve.Rule{{Name: "nvme"}, {Name: "drbd", Remove: true}, {Folder: "kernel/fs/"}},
		Includes: []image.Include{{Source: "/etc/a", Target: "/b"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}

// Drop-ins count even if the file is not there, but only the default one may be absent.
func TestReadAbsent(t *testing.T) {
	t.Parallel()
	file := write(t, map[string]string{"hapax.toml.d/a.toml": "mode = \"all\"\n"})
	if _, err := Read(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Read of a file that is not there = %v", err)
	}
	if _, err := os.Stat(DefaultFile); err == nil {
		need.Unmet(t, "this machine has a %s", DefaultFile)
	}
	if _, err := Read(DefaultFile); err != nil {
		t.Errorf("Read of the default file, which is not there = %v", err)
	}
}

// A file with each kind of mistake: where it is and what was meant.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"moduls = []\n":                           ":1:1: unknown key moduls; did you mean modules?",
		"force = true\n\n  qqqqqqqq = 1\n":        ":3:3: unknown key qqqqqqqq",
		"mode = \"hots\"\n":                       `:1:8: mode: unknown value "hots": use one of ["universal" "host"`,
		"mode = 3\n":                              `:1:1: unknown value "3"`,
		"compression = \"rar\"\n":                 `:1:15: compression: unknown compression "rar"`,
		"module-compression = \"lz4\"\n":          ":1:22: ",
		"format = \"tar\"\n":                      ":1:10: ",
		"modules = [\"a\", \"/lib/x\"]\n":         `:1:17: "/lib/x" is absolute`,
		"modules = [\"a,b\"]\n":                   "is 2 rules, not one",
		"modules = \"a\"\n":                       ":1:11: ",
		"include = [\n  \"ok\",\n  \":/x\",\n]\n": ":3:3: ",
		"force = \"yes\"\n":                       ":1:9: ",
		"mode = \"all\"\nmode = \"all\"\n":        ":2:1: ",
		"[mode]\n":                                ":1:2: ",
		"mode = \n":                               ":1:",
		"a = 1\nb = 2\n":                          "hapax.toml:2:1: unknown key b",
		"\xff":                                    ":1:1: ",
		"modules = [7]\n":                         ":1:1: modules: a string is wanted",
		"include = [\"a\", true]\n":               ":1:1: include: a string is wanted",
		"service = [{name = \"a\", exec = \"/a\", type = \"foo\"}]\n": ":1:45: service.type: ",
		"output = \"/x\"\n":            "unknown key output",
		"Progress = \"x\"\n":           "unknown key Progress",
		strings.Repeat("#\n", maxSize): "a file of settings has at most",
	} {
		file := write(t, map[string]string{"hapax.toml": text})
		_, err := Read(file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%.60q: %v, want an error about the file with %q", text, err, want)
		}
	}
	file := write(t, map[string]string{"hapax.toml": "", "hapax.toml.d/x.toml": "mod = 1\n"})
	if _, err := Read(file); err == nil || !strings.Contains(err.Error(), "hapax.toml.d/x.toml:1:1: unknown key mod; did you mean mode?") {
		t.Errorf("a mistake in a drop-in = %v", err)
	}
}

// A list of a drop-in goes behind that of the file, in a table too.
func TestTableLists(t *testing.T) {
	t.Parallel()
	file := write(t, map[string]string{
		"hapax.toml":          "[network]\ndhcp = true\nmtu = 1400\ndns = [\"192.0.2.1\"]\n",
		"hapax.toml.d/a.toml": "[network]\ndns = [\"192.0.2.2\"]\nmtu = 1300\n",
		"hapax.toml.d/b.toml": "force = true\n",
	})
	spec, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	want := image.Network{DHCP: true, MTU: 1300}
	want.DNS = append(want.DNS, "192.0.2.1", "192.0.2.2")
	if diff := cmp.Diff(want, spec.Network); diff != "" {
		t.Errorf("network (-want +got):\n%s", diff)
	}
	if got := Overlay(spec, image.Spec{}, func(string) bool { return false }).Network; !cmp.Equal(got, want) {
		t.Errorf("below flags: %+v", got)
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	file := image.Spec{Mode: image.All, Force: true, Shell: "u-root", Modules: []resolve.Rule{{Name: "a"}}, Compression: archive.XZ}
	flags := image.Spec{Output: "out", Mode: image.Universal, Modules: []resolve.Rule{{Name: "b"}}, Compression: archive.LZ4, ForceLoad: []string{"c"}}
	given := map[string]bool{"compression": true, "modules": true, "force-load": true, "force": true}
	got := Overlay(file, flags, func(flag string) bool { return given[flag] })
	want := image.Spec{
		Output: "out", Mode: image.All, Shell: "u-root", Modules: []resolve.Rule{{Name: "a"}, {Name: "b"}},
		Compression: archive.LZ4, ForceLoad: []string{"c"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Overlay (-want +got):\n%s", diff)
	}
	file = image.Spec{Mode: image.FromProfile, Profiles: []string{"machine.json"}}
	given["mode"] = true
	if got := Overlay(file, image.Spec{Mode: image.All}, func(flag string) bool { return given[flag] }); len(got.Profiles) > 0 {
		t.Errorf("mode all has the profiles of the file: %q", got.Profiles)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("mode = \"all\"\nmodules = [\"a\", \"-b\"]\n[x]\ny = 1\n"))
	f.Add([]byte("format = \"tar\""))
	f.Add([]byte("include = [\"a:b\"]\nforce = true"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec image.Spec
		if err := strict.Decode("hapax.toml", data, &spec); err != nil && !strings.Contains(err.Error(), "hapax.toml:") {
			t.Errorf("%v gives no place", err)
		}
	})
}
