package image_test

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image"
	"hapax/image/archive"
	"hapax/image/config"
)

// standalone builds an image with the settings of a hapax.toml, and returns its files and where links lead. Its root has a few
// static programs and accounts.
func standalone(t *testing.T, toml string, change func(*image.Spec)) (map[string]string, error) {
	t.Helper()
	dir := t.TempDir()
	program := emptyProgram(t)
	modules := "modules/6.1-test/modules."
	for name, content := range map[string]string{
		modules + "dep": "", modules + "alias": "", modules + "order": "", modules + "builtin": "", modules + "softdep": "", modules + "symbols": "",
		"root/etc/passwd":        "root:x:0:0:r:/root:/bin/bash\nwww:secret:33:44:w:/var/www:/bin/false\nother:x:5:5::/:/bin/sh\n",
		"root/etc/group":         "root:x:0:\ntty:x:5:www,other\nwww:x:44:\ndisk:x:6:other\n",
		"root/usr/sbin/dropbear": program, "root/bin/sh": program, "root/srv/web": program,
		"init": program, "extra": program, "hapax.toml": toml,
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := config.Read(filepath.Join(dir, "hapax.toml"))
	if err != nil {
		return nil, err
	}
	spec.Output, spec.ModulesDir, spec.Root = filepath.Join(dir, "image"), filepath.Join(dir, "modules/6.1-test"), filepath.Join(dir, "root")
	spec.Init, spec.Extra, spec.Mode = filepath.Join(dir, "init"), filepath.Join(dir, "extra"), image.Custom
	if change != nil {
		change(&spec)
	}
	if _, err = image.Build(t.Context(), spec); err != nil {
		return nil, err
	}
	return unpacked(t, spec.Output), nil
}

// emptyProgram is a static program that does nothing, not even end.
func emptyProgram(t *testing.T) string {
	t.Helper()
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64,
	}
	b, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unpacked returns the files of an image by name, and for links where they lead.
func unpacked(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string]string{}
	r := archive.NewReader(f, archive.Limits{})
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		content, err2 := io.ReadAll(r)
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if files[h.Name] = string(content); h.Link != "" {
			files[h.Name] = "-> " + h.Link
		}
	}
}

// The list of services of an image. /init reads the same golden file in a test of its own (init/internal/service), so what is
// written here is what is read there.
func TestServicesGolden(t *testing.T) {
	t.Parallel()
	toml, err := os.ReadFile("testdata/services.toml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := standalone(t, string(toml), func(s *image.Spec) { s.Shell = filepath.Join(s.Root, "bin/sh") })
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/services.golden"
	got := files["etc/hapax/services"]
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-golden +image):\n%s", diff)
	}
	if got, want := files["etc/passwd"], "root:x:0:0:root:/:/bin/sh\nwww:x:33:44:w:/var/www:/bin/false\n"; got != want {
		t.Errorf("/etc/passwd %q, want %q", got, want)
	}
	if got, want := files["etc/group"], "root:x:0:\ntty:x:5:www\nwww:x:44:\n"; got != want {
		t.Errorf("/etc/group %q, want %q", got, want)
	}
	for _, name := range []string{"usr/sbin/dropbear", "bin/sh", "srv/web", "usr/lib/hapax/extra"} {
		if files[name] == "" {
			t.Errorf("%s is not in the image", name)
		}
	}
	if got := files["usr/lib/hapax/hapax-base"]; got != "-> extra" {
		t.Errorf("hapax-base: %q", got)
	}
}

// An image that stays without services has what sets it up, and no other image has any of it.
func TestStandalone(t *testing.T) {
	t.Parallel()
	files, err := standalone(t, "standalone = true\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := files["etc/hapax/services"]; strings.Count(got, "\nservice ") != 2 || strings.Contains(got, "shell") {
		t.Errorf("services %q", got)
	}
	files, err = standalone(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if strings.Contains(name, "hapax/") {
			t.Errorf("%s is in an image that does not stay", name)
		}
	}
}

// An image's own accounts count, not those of the root; and one's own service takes the place of a standard one.
func TestServicesOverride(t *testing.T) {
	t.Parallel()
	files, err := standalone(t, `[[service]]
name = "network"
exec = "/bin/sh"
user = "me"
group = "us"
type = "oneshot"
`, func(s *image.Spec) {
		dir := t.TempDir()
		for name, text := range map[string]string{"passwd": "me:x:1:2:::\n", "group": "us:x:3:\nthem:x:4:me\n"} {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			s.Includes = append(s.Includes, image.Include{Source: file, Target: "/etc/" + name})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := files["etc/hapax/services"], `service network
exec /bin/sh
env HOME=
env USER=me
env LOGNAME=me
uid 1
gid 3
group 4
type oneshot
after base
`; !strings.HasSuffix(got, want) || strings.Count(got, "service network") != 1 {
		t.Errorf("services %q, want them to end with %q", got, want)
	}
	if files["etc/group"] != "us:x:3:\nthem:x:4:me\n" {
		t.Errorf("/etc/group %q", files["etc/group"])
	}
}

// Each mistake is told with the place of its table.
func TestServiceMistakes(t *testing.T) {
	t.Parallel()
	const x = "mode = \"custom\"\n[[service]]\nname = \"x\"\nexec = \"/bin/sh\"\n"
	for text, want := range map[string]string{
		"[[service]]\nexec = \"/bin/sh\"\n":                   "hapax.toml:1: service : \"\" is no name",
		"[[service]]\nname = \"settled\"\n":                   "no name for a service",
		"[[service]]\nname = \"a/b\"\n":                       "no name for a service",
		"[[service]]\nname = \"x\"\n":                         "hapax.toml:1: service x: exec is missing",
		"[[service]]\nname = \"x\"\nexec = \"sh\"\n":          "hapax.toml:3:8: service.exec: \"sh\" is no absolute path",
		"[[service]]\nname = \"x\"\nexec = \"/bin/absent\"\n": "hapax.toml:1: service x: program /bin/absent: ",
		x + "[[service]]\nname = \"x\"\nexec = \"/bin/sh\"\n": "hapax.toml:5: service x: there is another service of that name",
		x + "after = [\"y\"]\n":                               "hapax.toml:2: service x: after \"y\": there is no such service",
		x + "after = [\"shell\"]\n":                           "after \"shell\": there is no such service",
		x + "after = [\"x\"]\n":                               "hapax.toml:2: service x: it is after itself, by way of x",
		x + "after = [\"y\"]\n[[service]]\nname = \"y\"\nexec = \"/bin/sh\"\nafter = [\"x\"]\n": "it is after itself, by way of y",
		x + "user = \"nobody\"\n":                        "hapax.toml:2: service x: user \"nobody\" is not in the /etc/passwd",
		x + "group = \"nobody\"\n":                       "group \"nobody\" is not in the /etc/group",
		x + "env = [\"A\"]\n":                            "hapax.toml:5:8: service.env: \"A\": write \"NAME=VALUE\"",
		x + "args = [\"a\\u0000\"]\n":                    "holds a zero byte",
		x + "type = \"forking\"\n":                       "hapax.toml:5:8: service.type: unknown value",
		x + "restart = \"maybe\"\n":                      "hapax.toml:5:11: service.restart: unknown value",
		x + "type = \"oneshot\"\nrestart = \"always\"\n": "a oneshot ends",
		x + "type = \"oneshot\"\nready = \"fd:3\"\n":     "leave out ready",
		x + "ready = \"fd:1\"\n":                         "hapax.toml:5:9: service.ready: \"fd:1\": want a number from 3 to 9",
		x + "ready = \"tcp:0\"\n":                        "want a number from 1 to 65535",
		x + "ready = \"dbus\"\n":                         "unknown readiness",
		x + "ready = \"file:x\"\n":                       "no absolute path",
		x + "brake = \"10\"\n":                           "hapax.toml:5:9: service.brake: \"10\": write",
		x + "brake = \"0 in 1s, then 1s\"\n":             "write \"N in TIME",
		x + "restart-delay = \"1\"\n":                    "want a time",
		x + "stop-timeout = \"25h\"\n":                   "want a time",
		x + "stop-signal = \"FOO\"\n":                    "no signal",
		x + "tty = \"ttyS0\"\n":                          "use \"console\" or the path of a device",
		x + "tty = \"console\"\nlog = \"kmsg\"\n":        "leave out log",
		x + "log = \"syslog\"\n":                         "log: \"syslog\": use",
		x + "log-size = \"1M\"\n":                        "log-size is that of a file",
		x + "log = \"/x\"\nlog-size = \"1 MB\"\n":        "want bytes",
		x + "memory-max = \"0\"\n":                       "want bytes",
		x + "pids-max = -1\n":                            "pids-max is a number",
		x + "cpu-max = 0.001\n":                          "cpu-max one of processors",
		x + "cpu-weight = 10001\n":                       "cpu-weight is a number",
		x + "oom-score = 1001\n":                         "oom-score is a number",
		x + "restrat = \"no\"\n":                         "hapax.toml:5:1: unknown key service.restrat; did you mean restart?",
	} {
		_, err := standalone(t, text, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	// A file in the image that is none to start.
	_, err := standalone(t, "[[service]]\nname = \"x\"\nexec = \"/etc/passwd\"\n", func(s *image.Spec) {
		file := filepath.Join(t.TempDir(), "passwd")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		s.Includes = []image.Include{{Source: file, Target: "/etc/passwd"}}
	})
	if err == nil || !strings.Contains(err.Error(), "/etc/passwd in the image is no executable file") {
		t.Errorf("a file without x: %v", err)
	}
}
