package tests

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// A conduct is a test module, the parameters that it gets from the kernel command line, and what they lead to.
type conduct struct {
	lab.TestModule
	params string // separated by blanks
	state  string
	calls  int    // of finit_module
	err    string // part of the error in the report
	result string // of each call, as guest.Calls names it; "" for one that does not return
}

// conducts returns the test modules. Numbers of errors are those of every architecture but alpha, mips, parisc and sparc.
func conducts() []conduct {
	module := func(name string) lab.TestModule { return lab.TestModule{Name: "hx_" + name} }
	provider := func(name string) lab.TestModule {
		return lab.TestModule{Name: "hx_" + name, Provides: "hx_from_" + name}
	}
	user := func(name, of string) lab.TestModule {
		return lab.TestModule{Name: "hx_" + name, Needs: "hx_from_" + of}
	}
	packed := func(name, suffix string) lab.TestModule { return lab.TestModule{Name: "hx_" + name, Pack: suffix} }
	refused := func(errno string, ret, calls int) conduct {
		return conduct{module(strings.ToLower(errno)), fmt.Sprintf("ret=%d", ret), "refused", calls, "refused by its init function", errno}
	}
	failed := func(errno string, ret, calls int) conduct {
		return conduct{module(strings.ToLower(errno)), fmt.Sprintf("ret=%d", ret), "failed", calls, "finit_module", errno}
	}
	cut := packed("cut", "zst")
	cut.Change = func(content []byte) ([]byte, error) { return content[:len(content)/2], nil }
	foreign := module("foreign")
	foreign.Change = func(ko []byte) ([]byte, error) { // in the vermagic
		return bytes.Replace(ko, []byte(" SMP "), []byte(" UMP "), 1), nil
	}
	gz := module("gz")
	gz.Change = gzipped // Debian's depmod knows no .ko.gz, and the name is no evidence for hapax
	return []conduct{
		{module("plain"), "", "live", 1, "", "0"},
		{gz, "", "live", 1, "", "0"},
		{packed("xz", "xz"), "", "live", 1, "", "0"},
		{packed("zst", "zst"), "", "live", 1, "", "0"},
		{module("positive"), "ret=1", "live", 1, "", "0"}, // the kernel warns and goes on
		{provider("slow"), "ms=2000", "live", 1, "", "0"},
		{user("after", "slow"), "", "live", 1, "", "0"},

		{provider("absent"), "ret=-19", "refused", 1, "refused by its init function", "ENODEV"},
		{user("orphan", "absent"), "", "failed", 0, "dependency hx_absent", ""},
		refused("ENXIO", -6, 1),
		refused("EEXIST", -17, 1),
		refused("EINTR", -4, 1),
		refused("EBUSY", -16, 2),
		failed("ENOMEM", -12, 2),
		failed("ENOENT", -2, 1),
		failed("EINVAL", -22, 1),

		{module("parameter"), "ret=many", "failed", 1, "invalid argument", "EINVAL"},
		{foreign, "", "failed", 1, "exec format error", "ENOEXEC"},
		{cut, "", "failed", 0, "unpack zstd: unexpected EOF", ""},

		{provider("hung"), "hang=1", "inserting", 1, "", ""},
		{user("behind", "hung"), "", "", 0, "", ""}, // never started: nothing to report at the end
	}
}

func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

// TestModules loads modules that do what no good module does, on a kernel that unpacks no module itself and on one that
// unpacks xz. Each comes to the end that its answer deserves, whatever the others do; one that hangs is named after ten
// seconds, with its stack, and holds up neither the others nor the way to the root.
func TestModules(t *testing.T) {
	l := needQEMU(t)
	for _, spec := range lab.Kernels()[:2] {
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, l, spec)
			all := conducts()
			m := bootConducts(t, l, k, all)
			m.Append += guest.TraceArgs
			m.Extra = []string{"-blockdev", "driver=file,read-only=on,node-name=root,filename=" + rootDisk(t, l, nil).File}
			v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
			if _, err := v.WaitLine(time.Minute, "hx_hung has been in its init function for 10 s"); err != nil {
				t.Fatal(err)
			}
			// With the root there, a hung module has one second more.
			root := map[string]any{"driver": "virtio-blk-pci", "id": "root", "bus": qemu.HotplugPort(0), "drive": "root"}
			if err := v.QMP.AddDevice(t.Context(), root); err != nil {
				t.Fatal(err)
			}
			var start guest.Start
			if err := guest.Await(v, time.Minute, "start", &start); err != nil {
				t.Fatal(err)
			}
			c := client(t, v, time.Minute)
			r := ask[report](t, c, guest.Report, "")
			checkConducts(t, all, r, ask[guest.Trace](t, c, guest.Finit, ""))
			log := ask[string](t, c, guest.Dmesg, "")
			_, after, named := strings.Cut(log, "hx_hung has been in its init function for 10 s (asked for by named /etc/modules-load.d/hapax.conf)")
			if !named || !strings.Contains(after, " [hx_hung]") {
				t.Error("the kernel's log does not show where hx_hung hangs")
			}
			checkLeftBehind(t, log, "hx_hung")
			t.Logf("%s: %d calls that returned, %d live, %d refused, %d failed; /sbin/init at %.2f s beside a hung module",
				k.Release, r.Finit, r.Live, r.Refused, r.Failed, start.Clock.Seconds())
		})
	}
}

// TestModuleOops loads a module whose init function runs into a bug, which ends the thread that called it, beside one that
// hangs. The boot goes on to its end. The kernel's recorder of system calls stops at an oops, so there are no figures.
func TestModuleOops(t *testing.T) {
	l, k := needFirst(t)
	hung := lab.TestModule{Name: "hx_hung"}
	m := bootConducts(t, l, k, []conduct{
		{TestModule: lab.TestModule{Name: "hx_oops"}, params: "oops=1"}, {TestModule: hung, params: "hang=1"},
		{TestModule: lab.TestModule{Name: "hx_plain"}},
	})
	m.Disks = []string{rootDisk(t, l, nil).File}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
	var start guest.Start
	if err := guest.Await(v, time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	c := client(t, v, time.Minute)
	r := ask[report](t, c, guest.Report, "")
	for name, want := range map[string]string{"hx_oops": "inserting", "hx_hung": "inserting", "hx_plain": "live", "virtio_blk": "live"} {
		if got := r.module(name).State; got != want {
			t.Errorf("report: %s is %q, want %s", name, got, want)
		}
	}
	log := ask[string](t, c, guest.Dmesg, "")
	if !strings.Contains(log, "kernel BUG at") {
		t.Error("hx_oops ran into no bug")
	}
	checkLeftBehind(t, log, "hx_hung", "hx_oops")
	t.Logf("%s: /sbin/init at %.2f s in spite of an oops and a hung module", k.Release, start.Clock.Seconds())
}

// bootConducts returns a machine that loads the test modules, with their parameters, on its way to a root.
func bootConducts(t *testing.T, l *lab.Lab, k debian.Kernel, all []conduct) qemu.Machine {
	t.Helper()
	modules := make([]lab.TestModule, len(all))
	names := make([]string, len(all))
	args := strings.ReplaceAll(bootArgs, "oops=panic ", "") + "hapax.drain=1 root=UUID=" + rootUUID + " "
	for i, c := range all {
		modules[i], names[i] = c.TestModule, c.Name
		for param := range strings.FieldsSeq(c.params) {
			args += c.Name + "." + param + " "
		}
	}
	dir, err := l.WithTestModules(t.Context(), k, t.Name(), modules)
	if err != nil {
		t.Fatal(err)
	}
	k.ModulesDir = dir
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal", "--modules", "extra/", "--force-load", strings.Join(names, ","))
	if err != nil {
		t.Fatal(err)
	}
	return qemu.Machine{Kernel: k.Vmlinuz, Initrd: image, CPUs: 2, Append: args}
}

// checkConducts compares each test module's end with its conduct, and the calls with those that the kernel recorded.
func checkConducts(t *testing.T, all []conduct, r report, trace guest.Trace) {
	t.Helper()
	results := map[string]int{}
	unfinished := 0
	for _, c := range all {
		m := r.module(c.Name)
		if m.State != c.state || !strings.Contains(m.Error, c.err) {
			t.Errorf("report: %+v, want %q and %q", m, c.state, c.err)
		}
		if c.result == "" {
			unfinished += c.calls
		} else {
			results[c.result] += c.calls
		}
	}
	// The others are Debian's own: live, or refused by ENODEV for want of their hardware.
	for _, m := range r.Modules {
		if strings.HasPrefix(m.Name, "hx_") {
			continue
		}
		switch {
		case m.State == "builtin":
		case m.State == "live":
			results["0"]++
		case m.State == "refused" && strings.Contains(m.Error, "no such device"):
			results["ENODEV"]++
		default:
			t.Errorf("report: %+v", m)
		}
	}
	if d := cmp.Diff(results, trace.Finit.Results); d != "" {
		t.Errorf("results of finit_module (-report +kernel):\n%s", d)
	}
	if r.Finit+unfinished != trace.Finit.Total || trace.Init.Total != 0 || trace.Lost {
		t.Errorf("report: %d calls, and %d have not returned; the kernel recorded %+v", r.Finit, unfinished, trace)
	}
	// EEXIST is what an init function said by itself.
	if want := results["EBUSY"]; r.Duplicates != want {
		t.Errorf("report: %d duplicates, want %d", r.Duplicates, want)
	}
}

// checkLeftBehind looks into the kernel's log for the modules that were still in their init functions at the end.
func checkLeftBehind(t *testing.T, log string, names ...string) {
	t.Helper()
	for _, name := range names {
		if !strings.Contains(log, name+" is still in its init function after hapax.drain=1s") {
			t.Errorf("the kernel's log does not tell that %s is left behind", name)
		}
	}
}
