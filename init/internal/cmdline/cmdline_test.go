package cmdline

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// defaults returns what an empty line gives.
func defaults() Params {
	return Params{LogLevel: Info, Timeout: 90 * time.Second, Drain: 5 * time.Second}
}

// TestParse checks the typed keys. A case that expects no Warnings fails on any.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want func(p *Params)
	}{
		{"", func(*Params) {}},
		{"BOOT_IMAGE=/vmlinuz console=ttyS0 mitigations=off", func(*Params) {}},

		{"root=/dev/vda1", func(p *Params) { p.Root = "/dev/vda1" }},
		{"root=UUID=5e-6f", func(p *Params) { p.Root = "UUID=5e-6f" }},
		{`root="LABEL=my root"`, func(p *Params) { p.Root = "LABEL=my root" }},
		{"root=/dev/vda root=/dev/vdb", func(p *Params) { p.Root = "/dev/vdb" }},
		{"root=/dev/vda root", func(p *Params) { p.Root = "/dev/vda" }},
		{"a=it's root=/dev/vda b", func(p *Params) { p.Root = "/dev/vda" }},
		{"root=/dev/vda -- root=/dev/vdb rw", func(p *Params) { p.Root = "/dev/vda" }},
		{"rootfstype=ext4 rootflags=noatime,data=ordered", func(p *Params) {
			p.RootFSType, p.RootFlags = "ext4", "noatime,data=ordered"
		}},
		{"ro rw", func(p *Params) { p.ReadWrite = true }},
		{"rw ro", func(*Params) {}},
		{"rw=1", func(*Params) {}},
		{"rw ro=1", func(p *Params) { p.ReadWrite = true }},
		{"init=/bin/sh", func(p *Params) { p.Init = "/bin/sh" }},
		{"init=../../x", func(p *Params) { p.Init = "../../x" }},
		{"quiet", func(p *Params) { p.Quiet = true }},
		{"rootdelay=3", func(p *Params) { p.RootDelay = 3 * time.Second }},

		{"rootwait", func(p *Params) { p.RootWait, p.Timeout = true, Forever }},
		{"rootwait=7", func(p *Params) { p.RootWait, p.Timeout = true, 7*time.Second }},
		{"rootwait=0", func(p *Params) { p.RootWait, p.Timeout = true, 0 }},
		{"rootwait hapax.timeout=7", func(p *Params) { p.RootWait, p.Timeout = true, 7*time.Second }},
		{"hapax.timeout=7 rootwait", func(p *Params) { p.RootWait, p.Timeout = true, 7*time.Second }},
		{"hapax.timeout=1min", func(p *Params) { p.Timeout = time.Minute }},
		{"hapax.timeout=infinity", func(p *Params) { p.Timeout = Forever }},
		{"hapax.timeout=0", func(p *Params) { p.Timeout = Forever }},
		{"hapax.watchdog=30", func(p *Params) { p.Watchdog = 30 * time.Second }},
		{"hapax.watchdog=1min,keep", func(p *Params) { p.Watchdog, p.KeepWatchdog = time.Minute, true }},
		{"hapax.exitrd=1", func(p *Params) { p.Exitrd = "1" }},
		{"hapax.drain=0", func(p *Params) { p.Drain, p.DrainGiven = 0, true }},
		{"hapax.drain=500ms", func(p *Params) { p.Drain, p.DrainGiven = 500*time.Millisecond, true }},
		{"hapax.drain=infinity", func(p *Params) { p.Drain, p.DrainGiven = Forever, true }},

		{"panic=10", func(p *Params) { p.Panic, p.HasPanic = 10, true }},
		{"panic=0", func(p *Params) { p.HasPanic = true }},
		{"panic=-1", func(p *Params) { p.Panic, p.HasPanic = -1, true }},
		{"panic=0x10", func(p *Params) { p.Panic, p.HasPanic = 16, true }},

		{"rd.modules_load=a,b modules_load=c,a", func(p *Params) { p.LoadModules = []string{"a", "b", "c"} }},
		{"rd.modules-load=virtio-blk,virtio_blk,", func(p *Params) { p.LoadModules = []string{"virtio-blk"} }},
		{"modules_load=", func(*Params) {}},
		{"rd.break", func(p *Params) { p.Break = []string{"pre-pivot"} }},
		{"rd.break=mount,cmdline rd.break=mount", func(p *Params) { p.Break = []string{"mount", "cmdline"} }},

		{"hapax.log=debug", func(p *Params) { p.LogLevel = Debug }},
		{"hapax.log=debug hapax.log=warn", func(p *Params) { p.LogLevel = Warn }},
		{"hapax.log=debug hapax.log=info", func(*Params) {}},
		{"hapax.trace", func(p *Params) { p.Trace = true }},
		{"hapax.report=console hapax.workers=3", func(p *Params) { p.ReportConsole, p.Workers = true, 3 }},
	} {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			want := defaults()
			tt.want(&want)
			if diff := cmp.Diff(&want, Parse(tt.line), cmpopts.IgnoreUnexported(Params{})); diff != "" {
				t.Errorf("Parse(%q) differs (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

// TestParseWarnings checks that a bad word is named once and changes nothing else.
func TestParseWarnings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, warning string }{
		{"hapax.timout=3", `"hapax.timout": unknown key, ignored; did you mean "hapax.timeout"?`},
		{"hapax.workes", `"hapax.workes": unknown key, ignored; did you mean "hapax.workers"?`},
		{"hapax.lag=debug", `"hapax.lag": unknown key, ignored; did you mean "hapax.log"?`},
		{"hapax.frobnicate=1", `"hapax.frobnicate": unknown key, ignored`},
		{"hapax.", `"hapax.": unknown key, ignored`},
		{"hapax.\x1b[2J=1", `"hapax.\x1b[2J": unknown key, ignored`},
		{"hapax.log=loud", `hapax.log="loud": want debug, info or warn; info kept`},
		{"hapax.log", `hapax.log="": want debug, info or warn; info kept`},
		{"hapax.report=file", `hapax.report="file": want console; ignored`},
		{"hapax.timeout=soon", `hapax.timeout="soon": want a time such as 90s, 2min or infinity; 1m30s kept`},
		{"hapax.timeout=-1", `hapax.timeout="-1": want a time such as 90s, 2min or infinity; 1m30s kept`},
		{"hapax.drain=1e9", `hapax.drain="1e9": want a time such as 5s or 500ms; 5s kept`},
		{"hapax.workers=-1", `hapax.workers="-1": want a number from 0 to 256; 0 kept`},
		{"hapax.workers=100000", `hapax.workers="100000": want a number from 0 to 256; 0 kept`},
		{"rootdelay=infinity", `rootdelay="infinity": want a time in seconds; 0s kept`},
		{"panic=maybe", `panic="maybe": want a number of seconds; ignored`},
		{"panic=4294967296", `panic="4294967296": want a number of seconds; ignored`},
		{"rd.break=lunch", `rd.break="lunch": no such point, ignored; there are cmdline, pre-mount, mount, pre-pivot`},
		{"rd.break=", `rd.break="": no such point, ignored; there are cmdline, pre-mount, mount, pre-pivot`},
	} {
		want := defaults()
		want.Warnings = []string{tt.warning}
		if diff := cmp.Diff(&want, Parse(tt.line), cmpopts.IgnoreUnexported(Params{})); diff != "" {
			t.Errorf("Parse(%q) differs (-want +got):\n%s", tt.line, diff)
		}
	}
}

func TestParseBadValueKeepsEarlierOne(t *testing.T) {
	t.Parallel()
	p := Parse("hapax.timeout=infinity hapax.timeout=x rootwait=x hapax.drain=1 hapax.drain=x")
	if p.Timeout != Forever || p.Drain != time.Second || !p.RootWait {
		t.Errorf("Timeout %v, Drain %v, RootWait %v; want Forever, 1s, true", p.Timeout, p.Drain, p.RootWait)
	}
	want := []string{
		`hapax.timeout="x": want a time such as 90s, 2min or infinity; infinity kept`,
		`rootwait="x": want a time in seconds; waiting without limit`,
		`hapax.drain="x": want a time such as 5s or 500ms; 1s kept`,
	}
	if diff := cmp.Diff(want, p.Warnings); diff != "" {
		t.Errorf("Warnings differ (-want +got):\n%s", diff)
	}
}

func TestLookupAndAll(t *testing.T) {
	t.Parallel()
	p := Parse(`console=tty0 ip=dhcp rd.shell console="ttyS0,115200 n8" my-key=1 -- console=no`)
	for _, tt := range []struct {
		key, value string
		ok         bool
	}{
		{"console", "ttyS0,115200 n8", true},
		{"rd.shell", "", true},
		{"my_key", "1", true},
		{"my-key", "1", true},
		{"consol", "", false},
		{"", "", false},
	} {
		if value, ok := p.Lookup(tt.key); value != tt.value || ok != tt.ok {
			t.Errorf("Lookup(%q) = %q, %v; want %q, %v", tt.key, value, ok, tt.value, tt.ok)
		}
	}
	if diff := cmp.Diff([]string{"tty0", "ttyS0,115200 n8"}, slices.Collect(p.All("console"))); diff != "" {
		t.Errorf("All(console) differs (-want +got):\n%s", diff)
	}
	for first := range p.All("console") {
		if first != "tty0" {
			t.Errorf("All(console) starts with %q", first)
		}
		break
	}
}

func TestBelow(t *testing.T) {
	t.Parallel()
	p := Parse(`sysctl.vm.swappiness=1 sysctl.=x sysctl a=b sysctl.kernel.panic="5" -- sysctl.no=1`)
	var got []string
	for rest, value := range p.Below("sysctl.") {
		got = append(got, rest+"="+value)
	}
	if diff := cmp.Diff([]string{"vm.swappiness=1", "=x", "kernel.panic=5"}, got); diff != "" {
		t.Errorf("Below(sysctl.) differs (-want +got):\n%s", diff)
	}
	for rest := range p.Below("sysctl.") {
		if rest != "vm.swappiness" {
			t.Errorf("Below begins with %q", rest)
		}
		break
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"", `foo="`, "a=it's root=/dev/vda b", `"root=a b"`, "a -- b", "hapax.timeout=1min hapax.x=\"", "=\x00",
		"BOOT_IMAGE=/boot/vmlinuz-6.1.0 root=UUID=8c3d631b-10a4-411a-bfc4-3c8f7f02b541 ro quiet rd.modules_load=a,b rd.break\n",
		strings.Repeat(`"=- `, 1024),
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if len(line) > 8192 { // twice what a kernel takes
			return
		}
		p := Parse(line)
		if len(p.words) > len(line) {
			t.Fatalf("%d words from %d bytes", len(p.words), len(line))
		}
		for _, w := range p.words {
			if strings.ContainsAny(w.key, "-\x00") || strings.Contains(w.value, "\x00") {
				t.Fatalf("word %+v holds what cannot be in one", w)
			}
		}
		if n := len(p.words); n > 0 {
			if value, ok := p.Lookup(p.words[n-1].key); !ok || value != p.words[n-1].value {
				t.Fatalf("Lookup(%q) = %q, %v; the last word has %q", p.words[n-1].key, value, ok, p.words[n-1].value)
			}
		}
		for _, warning := range p.Warnings {
			if strings.ContainsFunc(warning, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("warning with control characters: %q", warning)
			}
		}
		if p.Timeout < 0 || p.Drain < 0 || p.RootDelay < 0 || p.Workers < 0 {
			t.Fatalf("negative value: %+v", p)
		}
		for i, name := range p.LoadModules {
			if name == "" || slices.Contains(p.LoadModules[:i], name) {
				t.Fatalf("LoadModules %q", p.LoadModules)
			}
		}
	})
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]Params{
		"resume=UUID=1 resume_offset=0x10":                      {Resume: "UUID=1", ResumeOffset: 16},
		"noresume resume=/dev/vda2":                             {},
		"hapax.mode=standalone":                                 {Mode: Standalone},
		"hapax.mode=standalone hapax.mode=initramfs":            {Mode: Initramfs},
		"hapax.mode=alone":                                      {Warnings: []string{`hapax.mode="alone": want standalone or initramfs; ignored`}},
		"fsck.mode=force rd.shell=0":                            {Fsck: FsckForce, NoShell: true},
		"fsck.mode=skip rd.shell=no rd.shell rd.emergency=halt": {Fsck: FsckSkip, Emergency: "halt"},
		"rd.emergency=reboot rd.emergency=poweroff":             {Emergency: "poweroff"},
		"fsck.mode=perhaps rd.shell=x rd.emergency=panic resume_offset=-1": {Warnings: []string{
			`fsck.mode="perhaps": want auto, force or skip; ignored`, `rd.shell="x": want 0 or 1; ignored`,
			`rd.emergency="panic": want reboot, poweroff or halt; ignored`, `resume_offset="-1": want a number of pages; 0 kept`,
		}},
	} {
		p := Parse(line)
		got := Params{
			Mode: p.Mode, Resume: p.Resume, ResumeOffset: p.ResumeOffset, Fsck: p.Fsck, NoShell: p.NoShell, Emergency: p.Emergency, Warnings: p.Warnings,
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Params{}, word{})); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", line, diff)
		}
	}
}
