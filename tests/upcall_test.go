package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// chained is how many modules the storm is about; in TestCircles each of them asks for the next one.
const chained = 20

// entropy is the modalias of a virtio entropy device, and an alias of the chained modules.
const entropy = "virtio:d00000004v*"

// chainLink returns the name of a chained module. All are as long.
func chainLink(i int) string { return fmt.Sprintf("hx_%d", 10+i) }

// The minor numbers of the devices that are aliases. The chained modules have those from 10 on.
const (
	minorSlow   = 100 // hx_slow, by an install command
	minorSlower = 101 // hx_slower
)

// char returns the alias of a character device. Linux leaves its major number to local use.
func char(minor int) string { return fmt.Sprintf("char-major-120-%d", minor) }

// opens returns an act that has the kernel ask for that alias.
func opens(minor int) string { return fmt.Sprintf("%s 120:%d", guest.Open, minor) }

// askers returns the modules of the tests of upcalls. What they do is up to their parameters.
func askers() []lab.TestModule {
	first := chainLink(0)
	all := []lab.TestModule{
		{Name: first, Aliases: []string{char(10), entropy}},
		{Name: "hx_slow", Aliases: []string{char(minorSlow)}},
		{Name: "hx_slower", Aliases: []string{char(minorSlower)}},
		{Name: "hx_binfmt", Aliases: []string{"binfmt-4241"}},
		{Name: "hx_self", Aliases: []string{"hx-self"}},
		{Name: "hx_own", Aliases: []string{"hx-both"}},
		{Name: "hx_other", Aliases: []string{"hx-both"}},
		{Name: "hx_base", Provides: "hx_from_base"},
		{Name: "hx_user", Needs: "hx_from_base"},
		{Name: "hx_first", Provides: "hx_from_first"},
		{Name: "hx_second"},
		{Name: "hx_third", Needs: "hx_from_first"},
		{Name: "hx_thread", Aliases: []string{"hx-thread"}},
	}
	for i := 1; i < chained; i++ {
		name := chainLink(i)
		all = append(all, lab.TestModule{Name: name, Base: first, Replace: []string{first, name, char(10), char(10 + i)}})
	}
	return all
}

// upcallConfig is the modprobe.d of the tests of upcalls.
const upcallConfig = `
install hx_begin /bin/sh do burst 200 'ACTS'
install hx_slow echo $CMDLINE_OPTS >/tmp/slow && modprobe -i hx_slow $CMDLINE_OPTS
install hx_base modprobe -i hx_base && modprobe -q hx_user
install hx_other modprobe hx_other
install hx_second false
softdep hx_second pre: hx_third
options hx_slow ms=1
`

// storming returns the acts that ask for each of the chained modules.
func storming() string {
	acts := make([]string, chained)
	for i := range acts {
		acts[i] = opens(10 + i)
	}
	return strings.Join(acts, ";")
}

// upcallImage returns an image with the test modules and all that the kernel may ask for in the tests, whose shell is the
// guest program. With a configuration its install commands are run by u-root's shell.
func upcallImage(t testing.TB, l *lab.Lab, k debian.Kernel, config string) string {
	t.Helper()
	dir, err := l.WithTestModules(t.Context(), k, "upcalls", askers())
	if err != nil {
		t.Fatal(err)
	}
	program, err := l.Guest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k.ModulesDir = dir
	args := []string{"--mode", "universal", "--shell", program, "--modules", "extra/,virtio_rng"}
	if config != "" {
		conf := filepath.Join(l.Build, "tests/upcall.conf")
		if err := os.WriteFile(conf, []byte(strings.ReplaceAll(config, "ACTS", storming())), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--modules", "xfs,btrfs,vfat,squashfs,overlay,net-pf-40,algif_hash,algif_skcipher,wp512,ctr,camellia_generic,"+
			"loop,tun,binfmt_misc,dummy,ip_tables,xt_limit",
			"--include", filepath.Join(l.Root, "bin/u-root")+":"+guest.RealShell, "--include", conf+":/etc/modprobe.d/upcall.conf")
	}
	image, err := l.HapaxImage(t.Context(), k, args...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// A kind is a way in which a program makes the kernel ask for a module.
type kind struct {
	act    string
	want   string // the act's errno
	asks   string // a request that is answered with success
	module string // that is live afterwards
}

// kinds returns what a guest tries. A file system has no device to be mounted from: the type is found, or ENODEV.
func kinds() []kind {
	return []kind{
		{"mount xfs none /tmp/m", "ENOENT", "fs-xfs", "xfs"},
		{"mount btrfs none /tmp/m", "ENOENT", "fs-btrfs", "btrfs"},
		{"mount vfat none /tmp/m", "ENOENT", "fs-vfat", "vfat"},
		{"mount squashfs none /tmp/m", "ENOENT", "fs-squashfs", "squashfs"},
		{"mount overlay none /tmp/m", "EINVAL", "fs-overlay", "overlay"},
		{"mount binfmt_misc none /tmp/m", "0", "fs-binfmt_misc", "binfmt_misc"},
		{"socket 40 1 0", "0", "net-pf-40", "vsock"},
		{"alg hash wp512", "0", "algif-hash", "wp512"},
		{"alg skcipher ctr(camellia)", "0", "crypto-camellia", "camellia_generic"},
		{"open /dev/loop-control", "0", "char-major-10-237", "loop"},
		{"open /dev/net/tun", "0", "char-major-10-200", "tun"},
		{"link dummy hx0", "0", "rtnl-link-dummy", "dummy"},
		{"match limit", "0", "ipt_limit", "xt_limit"},
	}
}

// TestUpcalls has the kernel ask for modules in every way that there is, of two kernels: all requests come through the
// engine, each module is inserted once, and nobody but the engine inserts any. Then modules are removed, and others come in
// by install commands.
func TestUpcalls(t *testing.T) {
	l := needQEMU(t)
	for _, spec := range lab.Kernels()[:2] {
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, l, spec)
			v := vm.Run(t, l.Logs(), vm.Config{Limit: 4 * time.Minute, Machine: qemu.Machine{
				Kernel: k.Vmlinuz, CPUs: 2, Initrd: upcallImage(t, l, k, upcallConfig), Append: bootArgs + "quiet " + guest.UpcallArgs,
			}})
			c := client(t, v, time.Minute)
			runs(t, c, 0, "/sbin/modprobe ip_tables") // else there is nobody who would ask for a match
			for _, k := range kinds() {
				command, argument, _ := strings.Cut(k.act, " ")
				if got := ask[string](t, c, command, argument); got != k.want {
					t.Errorf("%s: %s, want %s", k.act, got, k.want)
				}
			}
			tryForeign(t, c)
			checkUpcalls(t, c, kinds())
			tryRemoval(t, c)
			tryCommands(t, c)
			tryWithoutSocket(t, c)
		})
	}
}

// tryForeign executes a file of a format that the kernel does not know.
func tryForeign(t *testing.T, c guest.Client) {
	t.Helper()
	ask[any](t, c, guest.Write, "/tmp/foreign \x01xAB, a format that nobody knows")
	ask[any](t, c, guest.Chmod, "/tmp/foreign")
	if err := c.Ask(guest.Exec, "/tmp/foreign", nil); err == nil || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("a file of a foreign format: %v, want an exec format error", err)
	}
}

// tryWithoutSocket takes the engine's socket away: whoever asks is told so, and nobody waits.
func tryWithoutSocket(t *testing.T, c guest.Client) {
	t.Helper()
	const socket = "/run/hapax/control"
	before := len(ask[guest.Asks](t, c, guest.Asked, "").Requests)
	ask[any](t, c, guest.Rename, socket+" "+socket+".away")
	runs(t, c, 1, "/sbin/modprobe "+chainLink(1))
	if got := ask[string](t, c, guest.Mount, "hxnone none /tmp/m"); got != "ENODEV" {
		t.Errorf("mount of a type that nobody has: %s, want ENODEV", got)
	}
	for _, q := range ask[guest.Asks](t, c, guest.Asked, "").Requests[before:] {
		if q.Answer != 256 {
			t.Errorf("%+v, want the wait status of exit code 1", q)
		}
	}
	ask[any](t, c, guest.Rename, socket+".away "+socket)
	runs(t, c, 0, "/sbin/modprobe "+chainLink(1))
}

// TestUnknownType names a type for the root that the kernel does not have. The engine's mount asks for a module, and the
// engine is what answers.
func TestUnknownType(t *testing.T) {
	l, k := needFirst(t)
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Icount: true, Initrd: shellImage(t, l, k, "--mode", "universal"), Disks: []string{rootDisk(t, l, nil).File},
		Append: bootArgs + "quiet root=UUID=" + rootUUID + " rootfstype=hxnone " + guest.UpcallArgs,
	}})
	c := rescued(t, v, "hxnone")
	asked := false
	for _, q := range ask[guest.Asks](t, c, guest.Asked, "").Requests {
		if q.Name != "fs-hxnone" {
			continue
		}
		if asked = true; q.Answer != 256 || q.Took > time.Second {
			t.Errorf("%+v, want a quick no", q)
		}
	}
	if !asked {
		t.Error("the kernel did not ask for fs-hxnone")
	}
}

// checkUpcalls holds the engine's report against what the kernel recorded.
func checkUpcalls(t *testing.T, c guest.Client, kinds []kind) {
	t.Helper()
	got := look(t, c)
	asks, r := ask[guest.Asks](t, c, guest.Asked, ""), ask[report](t, c, guest.Report, "")
	checkUneventful(t, r, got)
	checkInserters(t, c, asks)
	answers := map[string]int{}
	var took time.Duration
	made := asks.NoWait
	for _, q := range asks.Requests {
		if q.Answer == -int(unix.ENOENT) {
			continue // of the kernel's own tests, before there was a helper
		}
		answers[q.Name] = q.Answer
		took = max(took, q.Took)
		made++
	}
	if r.Upcalls != made || asks.Open != 0 {
		t.Errorf("report: %d upcalls, the kernel made %d requests and waits for %d yet", r.Upcalls, made, asks.Open)
	}
	for _, k := range append(kinds, kind{asks: "binfmt-4241", module: "hx_binfmt"}) {
		if answer, asked := answers[k.asks]; !asked || answer != 0 {
			t.Errorf("%s: asked for is %t, answer %d", k.asks, asked, answer)
		}
		if state := r.module(k.module).State; state != "live" {
			t.Errorf("report: %s is %q, want live", k.module, state)
		}
	}
	t.Logf("%s: %d requests of the kernel, %d of them for what was on its way or there; %d calls for %d modules, all by the engine; slowest answer %.2f s",
		r.Kernel, r.Upcalls, r.UpcallHits, r.Finit, r.Live, took.Seconds())
}

// checkInserters checks that no process but the engine inserts modules.
func checkInserters(t *testing.T, c guest.Client, asks guest.Asks) {
	t.Helper()
	engines := map[string]bool{}
	for _, pid := range ask[[]int](t, c, guest.Pids, engineName) {
		engines[fmt.Sprint(pid)] = true
	}
	if asks.Lost || len(asks.Inserters) == 0 {
		t.Errorf("the record of the kernel is not complete: %d requests, inserters %v", len(asks.Requests), asks.Inserters)
	}
	for pid, calls := range asks.Inserters {
		if !engines[pid] {
			t.Errorf("process %s, which is not the engine, made %d calls that insert modules", pid, calls)
		}
	}
}

// engineName is the argv[0] of the engine.
const engineName = "hapax-engine"

// runs runs a command in the guest, which has to end with the given code, and returns what it prints.
func runs(t *testing.T, c guest.Client, code int, command string) string {
	t.Helper()
	got := ask[guest.Ended](t, c, guest.Exec, command)
	if got.Code != code {
		t.Errorf("%s: code %d, want %d; it said %q", command, got.Code, code, got.Output)
	}
	return got.Output
}

// loaded reports which of the modules are in the kernel.
func loaded(t *testing.T, c guest.Client, modules ...string) map[string]bool {
	t.Helper()
	here := map[string]bool{}
	for _, m := range ask[[]guest.Module](t, c, guest.Modules, "") {
		here[m.Name] = true
	}
	of := map[string]bool{}
	for _, name := range modules {
		of[name] = here[name]
	}
	return of
}
