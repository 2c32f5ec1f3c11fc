package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// resolveTree is a module tree, and a modprobe.d folder in conf.
const resolveTree = `
-- lib/modules/6.1-test/modules.dep --
kernel/drivers/net/nic.ko: kernel/lib/mii.ko
kernel/drivers/net/nic-gpl.ko: kernel/lib/mii.ko
kernel/lib/mii.ko:
kernel/lib/helper.ko:
kernel/lib/late.ko:
kernel/sound/card.ko: kernel/sound/core.ko
kernel/sound/core.ko:
/opt/far.ko:
-- lib/modules/6.1-test/modules.alias --
alias pci:v00008086d*sv*sd*bc02sc*i* nic
alias pci:v*d*sv*sd*bc02sc*i* nic-gpl
alias pci:v*d*sv*sd*bc04sc*i* card
alias net-pf-99 card
-- lib/modules/6.1-test/modules.softdep --
softdep nic pre: helper unknown
softdep nic post: late
-- lib/modules/6.1-test/modules.symbols --
alias symbol:mii_check mii
-- lib/modules/6.1-test/modules.builtin --
kernel/fs/ext4/ext4.ko
-- lib/modules/6.1-test/modules.order --
kernel/drivers/net/nic.ko
kernel/drivers/net/nic-gpl.ko
-- conf/a.conf --
options nic speed=10
options mii debug=1
alias eth0 nic
options eth0 duplex=full
blacklist nic_gpl
install fancy run $CMDLINE_OPTS
options fancy a=1
alias lost nowhere
deny core late
-- conf/ignored --
deny nic
`

// newTree writes resolveTree and returns its modules folder and its modprobe.d folder.
func newTree(t *testing.T) (tree, conf string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(resolveTree)).Files {
		file := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "lib/modules/6.1-test"), filepath.Join(dir, "conf")
}

const (
	intelNIC = "pci:v00008086d0000100Esv0sd0bc02sc00i00"
	otherNIC = "pci:v000010ECd00008139sv0sd0bc02sc00i00"
	sound    = "pci:v00008086d00002668sv0sd0bc04sc03i00"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	tree, conf := newTree(t)
	const noConfig = "--no-config"
	for _, tt := range []struct {
		args, want, errors string
	}{
		{noConfig + " nic-gpl", "nic_gpl", ""},
		{noConfig + " " + intelNIC + " ext4", "nic nic_gpl ext4", ""},
		{noConfig + " symbol:mii_check", "mii", ""},
		{noConfig + " nix nic", "nic", `hapax: no module or alias "nix" in TREE; did you mean nic?`},
		{noConfig + " usb:v1 far", "far", `hapax: no module or alias "usb:v1" in TREE`},
		{"--config-dir CONF eth0 fancy lost", "nic fancy nowhere", ""},
		{noConfig + " --depends nic", "insmod TREE/kernel/lib/mii.ko|insmod TREE/kernel/lib/helper.ko|" +
			"insmod TREE/kernel/drivers/net/nic.ko|insmod TREE/kernel/lib/late.ko", ""},
		{noConfig + " --depends far ext4 ext4", "insmod /opt/far.ko|builtin ext4|builtin ext4", ""},
		{noConfig + " --depends " + otherNIC, "insmod TREE/kernel/lib/mii.ko|insmod TREE/kernel/drivers/net/nic-gpl.ko", ""},
		{"--config-dir CONF --depends " + otherNIC, "", ""}, // blacklisted
		{"--config-dir CONF --depends nic_gpl", "insmod TREE/kernel/lib/mii.ko debug=1|insmod TREE/kernel/drivers/net/nic-gpl.ko", ""},
		{"--config-dir CONF --depends eth0", "insmod TREE/kernel/lib/mii.ko debug=1|insmod TREE/kernel/lib/helper.ko|" +
			"insmod TREE/kernel/drivers/net/nic.ko speed=10 duplex=full", ""},
		{"--config-dir CONF --depends fancy", "install run $CMDLINE_OPTS a=1", ""},
		{"--config-dir CONF --depends lost far", "insmod /opt/far.ko",
			"hapax: lost is an alias of nowhere, which is no module in TREE: correct the alias line"},
		{"--config-dir CONF --depends core card", "",
			"hapax: core is denied by CONF/a.conf:9|hapax: card needs core, which is denied by CONF/a.conf:9"},
	} {
		place := strings.NewReplacer("TREE", tree, "CONF", conf)
		code, stdout, stderr := hapax(t, append([]string{"resolve", "--modules-dir", tree}, strings.Fields(place.Replace(tt.args))...)...)
		want := strings.ReplaceAll(tt.want, "|", "\n")
		if !strings.Contains(tt.args, "--depends") {
			want = strings.ReplaceAll(tt.want, " ", "\n")
		}
		wantCode := exitDone
		if tt.errors != "" {
			wantCode = exitFailed
		}
		// The kernel command line of this machine may have options for a module too, but hardly for these.
		if diff := cmp.Diff(place.Replace(want), strings.TrimSuffix(stdout, "\n")); diff != "" || code != wantCode {
			t.Errorf("hapax resolve %s = %d, want %d (-want +got):\n%s", tt.args, code, wantCode, diff)
		}
		if diff := cmp.Diff(place.Replace(strings.ReplaceAll(tt.errors, "|", "\n")), strings.TrimSuffix(stderr, "\n")); diff != "" {
			t.Errorf("hapax resolve %s: errors (-want +got):\n%s", tt.args, diff)
		}
	}
}

func TestResolveJSON(t *testing.T) {
	t.Parallel()
	tree, conf := newTree(t)
	code, stdout, stderr := hapax(t, "resolve", "--json", "--depends", "--modules-dir", tree, "--config-dir", conf, "eth0", "nix", "fancy", "ext4")
	var got resolved
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitFailed || !isOneLine(stderr) {
		t.Fatalf("hapax resolve --json = %d, %q, %v", code, stderr, err)
	}
	want := resolved{Dir: tree, Queries: []answer{
		{Query: "eth0", Modules: []string{"nic"}, ByAlias: true, Steps: []step{
			{Action: "insmod", Module: "mii", Path: tree + "/kernel/lib/mii.ko", Options: "debug=1"},
			{Action: "insmod", Module: "helper", Path: tree + "/kernel/lib/helper.ko"},
			{Action: "insmod", Module: "nic", Path: tree + "/kernel/drivers/net/nic.ko", Options: "speed=10 duplex=full"},
		}},
		{Query: "nix", Modules: []string{}, Error: `no module or alias "nix" in ` + tree + "; did you mean nic?"},
		{Query: "fancy", Modules: []string{"fancy"}, Steps: []step{
			{Action: "install", Module: "fancy", Command: "run $CMDLINE_OPTS", Options: "a=1"},
		}},
		{Query: "ext4", Modules: []string{"ext4"}, Steps: []step{{Action: "builtin", Module: "ext4"}}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hapax resolve --json (-want +got):\n%s", diff)
	}
	if strings.Contains(stdout, "null") {
		t.Errorf("hapax resolve --json prints null:\n%s", stdout)
	}
}

func TestResolveStdin(t *testing.T) {
	t.Parallel()
	tree, _ := newTree(t)
	for _, tt := range []struct{ stdin, want, err string }{
		{"nic-gpl\n\n  card \r\nfar", "mii\nnic_gpl\ncard\nfar\next4\n", ""},
		{"", "mii\next4\n", ""},
		{"nic\n" + strings.Repeat("x", 1<<20), "mii\nnic\n", "stdin: bufio.Scanner: token too long"},
	} {
		cmd := newResolve()
		var stdout, stderr bytes.Buffer
		cmd.SetIn(strings.NewReader(tt.stdin))
		cmd.SetOut(&stdout)
		cmd.SetErr(&stderr)
		cmd.SetArgs([]string{"--no-config", "--modules-dir", tree, "mii", "-", "ext4"})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		got := ""
		if err := cmd.Execute(); err != nil {
			got = err.Error()
		}
		if stdout.String() != tt.want || got != tt.err || stderr.Len() > 0 {
			t.Errorf("hapax resolve - with %.40q = %q, %q, %q; want %q, %q", tt.stdin, &stdout, &stderr, got, tt.want, tt.err)
		}
	}
}

func TestResolveWrongUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"", "requires at least 1 arg(s), only received 0 (see hapax resolve --help)"},
		{"--report x --depends", "none of the others can be"},
		{"--report x y", "--report has the aliases: give no others"},
		{"--no-config --config-dir x y", "none of the others can be"},
	} {
		code, stdout, stderr := hapax(t, append([]string{"resolve"}, strings.Fields(tt.args)...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) || !isOneLine(stderr) {
			t.Errorf("hapax resolve %s = %d, %q, %q; want 2 and one line with %q", tt.args, code, stdout, stderr, tt.want)
		}
	}
}

func TestResolveFailures(t *testing.T) {
	t.Parallel()
	tree, _ := newTree(t)
	for _, tt := range []struct{ args, want string }{
		{"--modules-dir /nonexistent/6.1 x", "run depmod -b /nonexistent 6.1"},
		{"--modules-dir " + tree + " --config-dir /nonexistent nic", "--config-dir: stat /nonexistent: no such file"},
		{"--report /nonexistent", "open /nonexistent: no such file"},
	} {
		code, stdout, stderr := hapax(t, append([]string{"resolve"}, strings.Fields(tt.args)...)...)
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, tt.want) || !isOneLine(stderr) {
			t.Errorf("hapax resolve %s = %d, %q, %q; want 1 and one line with %q", tt.args, code, stdout, stderr, tt.want)
		}
	}
	damaged := filepath.Join(tree, "modules.alias.bin") // a header, and a root behind the end
	if err := os.WriteFile(damaged, []byte("\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x0c"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := hapax(t, "resolve", "--modules-dir", tree, "--no-config", sound, "far")
	if code != exitFailed || stdout != "far\n" || !strings.Contains(stderr, damaged+" is damaged: ") {
		t.Errorf("hapax resolve in a damaged tree = %d, %q, %q", code, stdout, stderr)
	}
}

func TestResolveWarns(t *testing.T) {
	t.Parallel()
	tree, conf := newTree(t)
	file := filepath.Join(conf, "b.conf")
	if err := os.WriteFile(file, []byte("\nnonsense nic\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := hapax(t, "resolve", "--modules-dir", tree, "--config-dir", conf, "nic")
	if want := "hapax: warning: " + file + `:2: unknown keyword "nonsense"` + "\n"; code != exitDone || stdout != "nic\n" || stderr != want {
		t.Errorf("hapax resolve with a bad line = %d, %q, %q; want %q", code, stdout, stderr, want)
	}
}

func TestResolveCompletion(t *testing.T) {
	t.Parallel()
	tree, _ := newTree(t)
	for typed, want := range map[string]string{
		"nic":  "nic\nnic_gpl\n",
		"nic-": "nic-gpl\n",
		"x":    "",
	} {
		code, stdout, _ := hapax(t, "__completeNoDesc", "resolve", "--modules-dir", tree, typed)
		names, _, ok := strings.Cut(stdout, ":4\n") // no files
		if code != exitDone || names != want || !ok {
			t.Errorf("completion of %q = %d, %q; want %q", typed, code, stdout, want)
		}
	}
	if _, stdout, _ := hapax(t, "__completeNoDesc", "resolve", "--modules-dir", "/nonexistent", "n"); stdout != ":4\n" {
		t.Errorf("completion without a tree: %q", stdout)
	}
}
