package applet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/modload"
)

func check(t *testing.T, what string, got, want result) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// What is asked of the engine. The root folder is empty: to ask takes no file.
func TestModprobeAsks(t *testing.T) {
	for _, test := range []struct{ command, options, want string }{
		{command: "modprobe -q -- fs-ext4", want: "load fs-ext4"},
		{command: "modprobe loop max_loop=4 b", want: "load loop params=max_loop=4 b"},
		{command: "modprobe -bi loop", want: "load loop blacklist ignore-install"},
		{command: "modprobe --force loop", want: "load loop flags=3"},
		{command: "modprobe --force-vermagic loop", want: "load loop flags=2"},
		{command: "modprobe --force-modversion loop", want: "load loop flags=1"},
		{command: "modprobe -a loop brd", want: "load loop,load brd"},
		{command: "modprobe loop", options: "-b", want: "load loop blacklist"},
		{command: "modprobe loop", options: `"-i" '-b'`, want: "load loop blacklist ignore-install"},
		{command: "modprobe -S " + release() + " loop", want: "load loop"}, // which is the engine's own
		{command: "hapaxctl modprobe loop", want: "load loop"},
	} {
		w := newWorld(t)
		w.vars["MODPROBE_OPTIONS"] = test.options
		check(t, test.command, w.run(test.command), result{Log: strings.Split(test.want, ",")})
	}
	w := newWorld(t)
	w.vars["MODPROBE_MODULE"] = "dm_mod"
	check(t, "asker", w.run("modprobe loop", "name=two words"), result{Log: []string{`load loop params=name="two words" asker=dm_mod`}})
}

func release() string {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	return unix.ByteSliceToString(uts.Release[:])
}

func TestModprobeAnswers(t *testing.T) {
	failed := func(err error) error { return &modload.LoadError{Module: "x", Op: "finit_module", Err: err} }
	live := modload.Outcome{Module: "x", State: modload.Live, New: true}
	old := modload.Outcome{Module: "x", State: modload.Live}
	with := func(err error) modload.Outcome { return modload.Outcome{Module: "x", State: modload.Failed, Err: err} }
	for _, test := range []struct {
		name, flags string
		outcomes    []modload.Outcome
		err         error
		code        int
		stderr      string
	}{
		{name: "there", outcomes: []modload.Outcome{old}},
		{name: "first time", flags: "--first-time", outcomes: []modload.Outcome{live}},
		{name: "second time", flags: "--first-time", outcomes: []modload.Outcome{old}, code: 1,
			stderr: "modprobe: ERROR: could not insert 'x': Module already in kernel\n"},
		{name: "the last one decides", outcomes: []modload.Outcome{with(failed(unix.ENODEV)), live},
			stderr: "modprobe: ERROR: could not insert 'x': No such device\n"},
		{name: "the last one fails", outcomes: []modload.Outcome{live, with(failed(unix.ENOEXEC))}, code: 1,
			stderr: "modprobe: ERROR: could not insert 'x': Exec format error\n"},
		{name: "quiet", flags: "-q", outcomes: []modload.Outcome{with(failed(unix.ENOEXEC))}, code: 1},
		{name: "symbol", outcomes: []modload.Outcome{with(failed(unix.ENOENT))}, code: 1,
			stderr: "modprobe: ERROR: could not insert 'x': Unknown symbol in module, or unknown parameter (see dmesg)\n"},
		{name: "no errno", outcomes: []modload.Outcome{with(failed(modload.ErrLoop))}, code: 1,
			stderr: "modprobe: ERROR: could not insert 'x': load x: finit_module: the request waits for itself\n"},
		{name: "blacklisted", outcomes: []modload.Outcome{with(modload.ErrBlacklisted)}},
		{name: "blacklisted for the kernel", flags: "-q", err: modload.ErrBlacklisted, code: 1},
		{name: "ended", err: modload.ErrDraining, code: 1, stderr: "modprobe: ERROR: could not insert 'x': loading has ended\n"},
	} {
		w := newWorld(t)
		w.do = func(modload.Call) ([]modload.Outcome, error) { return test.outcomes, test.err }
		got := w.run("modprobe " + test.flags + " x")
		check(t, test.name, result{Code: got.Code, Stderr: got.Stderr}, result{Code: test.code, Stderr: test.stderr})
	}
	w := newWorld(t)
	w.do = func(modload.Call) ([]modload.Outcome, error) { return nil, modload.ErrNotFound }
	if got := w.run("modprobe -a x y"); got.Code != 1 || len(got.Log) != 2 || strings.Count(got.Stderr, "modprobe: WARNING: Module ") != 2 {
		t.Errorf("unknown modules with -a: %+v", got)
	}
	w.socket += ".gone"
	if got := w.run("modprobe x"); got.Code != 1 || !strings.Contains(got.Stderr, "no engine is running") {
		t.Errorf("without an engine: %+v", got)
	}
}

// The kernel starts its helper without standard files.
func TestModprobeWithoutStdio(t *testing.T) {
	w := newWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for socket, want := range map[string]int{w.socket: 0, w.socket + ".gone": 1} {
		pid, err := syscall.ForkExec(self, []string{"/sbin/modprobe", "-q", "--", "net-pf-40"}, &syscall.ProcAttr{
			Env: []string{"HOME=/", "TERM=linux", socketVariable + "=" + socket},
		})
		if err != nil {
			t.Fatal(err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != want {
			t.Errorf("%s: status %#x, %v; want exit %d", socket, status, err, want)
		}
	}
	if diff := cmp.Diff([]string{"load net-pf-40"}, w.asked()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// Another folder of modules: the engine gets the files, in order.
func TestModprobeElsewhere(t *testing.T) {
	w := newWorld(t)
	w.index("a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko:\nvsock.ko:\n",
		"options a x=1\noptions b y=2\nsoftdep a pre: d\ninstall vsock echo $CMDLINE_OPTS $MODPROBE_MODULE >"+w.root+"/ran\nblacklist d\nalias dd d\n")
	w.live("c", 1)
	dir := w.root + "/lib/modules/rel/"
	flags := "modprobe -d " + w.root + " -S rel "
	got := w.run(flags + "a z=3")
	check(t, "a", got, result{Log: []string{"load " + dir + "b.ko params=y=2 ", "load " + dir + "d.ko", "load " + dir + "a.ko params=x=1 z=3"}})
	check(t, "blacklisted", w.run(flags+"dd"), result{})
	w.do = func(c modload.Call) ([]modload.Outcome, error) {
		if strings.HasSuffix(c.Query, "a.ko") || strings.HasSuffix(c.Query, "d.ko") {
			return []modload.Outcome{{Module: "x", State: modload.Live, New: true}}, nil
		}
		return []modload.Outcome{{Module: "b", State: modload.Failed, Err: &modload.LoadError{Module: "b", Op: "x", Err: unix.EINVAL}}}, nil
	}
	check(t, "a failed dependency", w.run(flags+"a"), result{
		Code: 1, Stderr: "modprobe: ERROR: could not insert 'a': Invalid argument\n", Log: []string{"load " + dir + "b.ko params=y=2 "},
	})
	got = w.run(flags + "-v vsock p=1")
	if ran, err := os.ReadFile(w.root + "/ran"); err != nil || string(ran) != "p=1 vsock\n" || got.Code != 0 ||
		!strings.HasPrefix(got.Stdout, "install echo $CMDLINE_OPTS") {
		t.Errorf("install command: %+v, %q, %v", got, ran, err)
	}
}

func TestModprobeRemoves(t *testing.T) {
	setup := func(t *testing.T) *world {
		w := newWorld(t)
		w.index("a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko:\ne.ko:\nr.ko:\n",
			"softdep a pre: d post: e\nremove r echo $MODPROBE_MODULE >"+w.root+"/ran\n")
		w.live("a", 0)
		w.live("b", 1, "a")
		w.live("c", 2, "a", "b")
		w.live("d", 0)
		w.live("e", 0)
		// What nobody needs any more has no reference.
		w.remove = func(name string) error {
			os.RemoveAll(filepath.Join(w.root, "sys/module", name))
			switch name {
			case "a":
				w.live("b", 0)
			case "b":
				w.live("c", 0)
			}
			return nil
		}
		return w
	}
	for _, test := range []struct {
		args string
		want result
	}{
		{"a", result{Log: []string{"remove e", "remove a", "remove b", "remove c", "remove d"}}},
		{"-i a", result{Log: []string{"remove a", "remove b", "remove c"}}},
		{"-f d", result{Log: []string{"remove d by force"}}},
		{"b", result{Code: 1, Stderr: "modprobe: FATAL: Module b is in use.\n"}},
		{"-a b d", result{Code: 1, Stderr: "modprobe: WARNING: Module b is in use.\n", Log: []string{"remove d"}}},
		{"--remove-holders b", result{Log: []string{"remove e", "remove a", "remove b", "remove c", "remove d", "remove b", "remove c"}}},
		{"nosuch", result{Code: 1, Stderr: "modprobe: FATAL: Module nosuch not found.\n"}},
		{"r", result{}},
	} {
		w := setup(t)
		got := w.run("modprobe -d " + w.root + " -S rel -r " + test.args)
		check(t, test.args, got, test.want)
		if ran, err := os.ReadFile(w.root + "/ran"); (err == nil) != (test.args == "r") || err == nil && string(ran) != "r\n" {
			t.Errorf("%s: remove command wrote %q, %v", test.args, ran, err)
		}
	}
	w := setup(t)
	tries := 0
	w.remove = func(string) error {
		if tries++; tries < 4 {
			return &modload.LoadError{Module: "d", Op: "delete_module", Err: modload.ErrInUse}
		}
		return nil
	}
	check(t, "wait", w.run("modprobe -d "+w.root+" -S rel -r -w 60000 d"), result{Log: []string{"remove d", "remove d", "remove d", "remove d"}})
	tries = -1 << 30
	begun := time.Now()
	check(t, "wait in vain", result{Code: w.run("modprobe -d " + w.root + " -S rel -r -w 20 d").Code}, result{Code: 1})
	if waited := time.Since(begun); waited < 20*time.Millisecond {
		t.Errorf("gave up after %v, want 20 ms at least", waited)
	}
	check(t, "in use", w.run("modprobe -d "+w.root+" -S rel -r d"), result{
		Code: 1, Stderr: "modprobe: ERROR: could not remove 'd': Resource temporarily unavailable\n", Log: []string{"remove d"},
	})
}

func TestInsmodAndRmmod(t *testing.T) {
	w := newWorld(t)
	w.write("x.ko", "x")
	file := w.root + "/x.ko"
	check(t, "insmod", w.run("insmod -f "+file+" a=1 b"), result{Log: []string{"load " + file + " params=a=1 b flags=3"}})
	t.Chdir(w.root)
	check(t, "relative", w.run("insmod x.ko"), result{Log: []string{"load " + file}})
	for err, text := range map[error]string{
		unix.ENOEXEC: "Invalid module format", unix.EINVAL: "Invalid parameters", unix.ENOENT: "Unknown symbol in module",
		unix.EPERM: "Operation not permitted", nil: "File exists",
	} {
		w.do = func(modload.Call) ([]modload.Outcome, error) {
			return []modload.Outcome{{Module: "x", State: modload.Live, Err: err}}, nil
		}
		got := w.run("insmod x.ko")
		check(t, text, result{Code: got.Code, Stderr: got.Stderr}, result{Code: 1, Stderr: "insmod: ERROR: could not insert module x.ko: " + text + "\n"})
	}
	w.live("x", 0)
	check(t, "rmmod", w.run("rmmod x.ko"), result{Log: []string{"remove x"}})
	w.remove = func(string) error { return errors.New("odd") }
	check(t, "rmmod -f", w.run("rmmod -f no-such"), result{Code: 1, Log: []string{"remove no_such by force"},
		Stderr: "rmmod: ERROR: could not remove 'no_such': odd\nrmmod: ERROR: could not remove module no-such: odd\n"})
}
