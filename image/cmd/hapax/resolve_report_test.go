package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// writeReport writes a boot.json.
func writeReport(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "boot.json")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

const someUnserved = `{"version":"x","kernel":"6.1-test","live":3,"modules":[],"unserved":[
	{"device":"/devices/pci0000:00/0000:00:03.0","alias":"` + sound + `","modules":["stale"]},
	{"device":"/devices/pci0000:00/0000:00:04.0","alias":"` + intelNIC + `"},
	{"device":"/devices/pnp0/00:01\u001b[2J","alias":"` + otherNIC + `","modules":[]},
	{"device":"/devices/LNXSYSTM:00","alias":"acpi:LNXSYSTM:"}
]}`

func TestResolveReport(t *testing.T) {
	t.Parallel()
	tree, conf := newTree(t)
	file := writeReport(t, someUnserved)
	code, stdout, stderr := hapax(t, "resolve", "--report", file, "--modules-dir", tree, "--config-dir", conf)
	want := `MODULES      DEVICE                            ALIAS
card         /devices/pci0000:00/0000:00:03.0  ` + sound + `
nic,nic_gpl  /devices/pci0000:00/0000:00:04.0  ` + intelNIC + `
nic_gpl      "/devices/pnp0/00:01\x1b[2J"      ` + otherNIC + `
3 of 4 devices without a module in the image would have one in ` + tree + "\n"
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitDone || stderr != "" {
		t.Errorf("hapax resolve --report = %d, %q (-want +got):\n%s", code, stderr, diff)
	}

	code, stdout, stderr = hapax(t, "resolve", "--json", "--report", file, "--modules-dir", tree, "--no-config")
	var got explanation
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitDone || stderr != "" {
		t.Fatalf("hapax resolve --report --json = %d, %q, %v", code, stderr, err)
	}
	wantJSON := explanation{Report: file, Kernel: "6.1-test", Dir: tree, Devices: []unserved{
		{"/devices/pci0000:00/0000:00:03.0", sound, []string{"card"}},
		{"/devices/pci0000:00/0000:00:04.0", intelNIC, []string{"nic", "nic_gpl"}},
		{"/devices/pnp0/00:01\x1b[2J", otherNIC, []string{"nic_gpl"}},
		{"/devices/LNXSYSTM:00", "acpi:LNXSYSTM:", []string{}},
	}}
	if diff := cmp.Diff(wantJSON, got); diff != "" {
		t.Errorf("hapax resolve --report --json (-want +got):\n%s", diff)
	}
}

func TestResolveReportOfNothing(t *testing.T) {
	t.Parallel()
	tree, _ := newTree(t)
	for _, text := range []string{`{"kernel":"6.1-test"}`, `{"kernel":"6.1-test","unserved":[]}`} {
		file := writeReport(t, text)
		code, stdout, stderr := hapax(t, "resolve", "--report", file, "--modules-dir", tree, "--no-config")
		if want := "0 of 0 devices without a module in the image would have one in " + tree + "\n"; code != exitDone || stdout != want || stderr != "" {
			t.Errorf("%s: hapax resolve --report = %d, %q, %q; want %q", text, code, stdout, stderr, want)
		}
		code, stdout, _ = hapax(t, "resolve", "--json", "--report", file, "--modules-dir", tree, "--no-config")
		if code != exitDone || !strings.Contains(stdout, `"devices": []`) {
			t.Errorf("%s: hapax resolve --report --json = %d, %q", text, code, stdout)
		}
	}
}

func TestResolveReportFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"", "no boot report: unexpected end of JSON input"},
		{"[]", "no boot report: json: "},
		{"{}", `no boot report: its kernel is ""`},
		{`{"kernel":"../../etc"}`, `no boot report: its kernel is "../../etc"`},
		{`{"kernel":".."}`, `no boot report: its kernel is ".."`},
		{`{"kernel":"6.1-nowhere"}`, "/lib/modules/6.1-nowhere: no modules.dep.bin"}, // the tree is that of the kernel in the report
	} {
		code, stdout, stderr := hapax(t, "resolve", "--report", writeReport(t, tt.text))
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, tt.want) || !isOneLine(stderr) {
			t.Errorf("hapax resolve --report of %s = %d, %q, %q; want %q", tt.text, code, stdout, stderr, tt.want)
		}
	}
}

// What another program wrote into the file is no reason to panic or to send control bytes to the terminal.
func FuzzReport(f *testing.F) {
	f.Add([]byte(someUnserved))
	f.Add([]byte(`{"kernel":"a","unserved":[{"alias":"\u0000"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		report, err := parseReport(data)
		if err != nil {
			return
		}
		if strings.ContainsRune(report.Kernel, '/') || report.Kernel == ".." || report.Kernel == "" {
			t.Errorf("kernel %q would leave /lib/modules", report.Kernel)
		}
		e := explanation{Dir: "/tree"}
		for _, u := range report.Unserved {
			e.Devices = append(e.Devices, unserved{u.Device, u.Alias, []string{"m"}})
		}
		var out strings.Builder
		if err := e.print(&out); err != nil {
			t.Error(err)
		}
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("the table has control bytes: %q", &out)
		}
	})
}
