package applet

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hapax/init/internal/control"
	"hapax/modload"
)

// socketVariable makes the test binary an applet that asks the engine at that socket.
const socketVariable = "APPLET_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(socketVariable); path != "" {
		os.Exit(run(&env{
			root: "/", client: &control.Client{Path: path}, stdout: bufio.NewWriter(os.Stdout), stderr: os.Stderr, getenv: os.Getenv,
		}, os.Args))
	}
	os.Exit(m.Run())
}

// A world is an engine, and a root folder with what applets read.
type world struct {
	t           *testing.T
	root        string
	socket      string
	guardSocket string
	vars        map[string]string

	mu  sync.Mutex // the race detector does not see that a socket is between test and engine
	log []string   // what the engine was asked to do

	do     func(modload.Call) ([]modload.Outcome, error)
	remove func(name string) error
}

// newWorld starts an engine that loads whatever it is asked for.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), vars: map[string]string{}}
	w.do = func(c modload.Call) ([]modload.Outcome, error) {
		return []modload.Outcome{{Module: c.Query, State: modload.Live, New: true}}, nil
	}
	w.remove = func(name string) error {
		return os.RemoveAll(filepath.Join(w.root, "sys/module", name))
	}
	dir, err := os.MkdirTemp("", "applet") // t.TempDir may be too long for an address
	if err != nil {
		t.Fatal(err)
	}
	w.socket, w.guardSocket = filepath.Join(dir, "control"), filepath.Join(dir, "guard")
	t.Cleanup(func() { os.RemoveAll(dir) })
	serve(t, w.socket, control.NewServer(worldEngine{w}, t.Logf))
	serve(t, w.guardSocket, control.NewGuardServer(worldGuard{w}, t.Logf))
	return w
}

// serve serves until the end of the test.
func serve(t *testing.T, path string, s *control.Server) {
	t.Helper()
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// worldGuard is the control.Guard of a world: it has the services web and db.
type worldGuard struct{ w *world }

func (g worldGuard) Command(_ context.Context, verb, name string) error {
	if name != "web" && name != "db" {
		return fmt.Errorf("%s: there is no such service", name)
	}
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	g.w.log = append(g.w.log, verb+" "+name)
	return nil
}

func (g worldGuard) Services(_ context.Context, name string) (any, error) {
	type status struct {
		Name     string `json:"name"`
		State    string `json:"state"`
		Seconds  int64  `json:"seconds"`
		Pid      int    `json:"pid,omitempty"`
		Starts   int    `json:"starts"`
		WaitsFor string `json:"waits_for,omitempty"`
		Ended    string `json:"ended,omitempty"`
	}
	web := status{Name: "web", State: "waiting", Seconds: 7, WaitsFor: "db"}
	db := status{Name: "db", State: "starting", Seconds: 1, Pid: 12, Starts: 3, Ended: "signal SIGSEGV"}
	switch name {
	case "":
		return []status{web, db}, nil
	case "web":
		return []status{web}, nil
	}
	return nil, fmt.Errorf("%s: there is no such service", name)
}

func (g worldGuard) Log(_ context.Context, name string) ([]byte, error) {
	return []byte(strings.Repeat("a line of "+name+" \xff\n", 4000)), nil
}

// worldEngine is the control.Backend of a world. Applets ask one thing after
// the other, and look at the log when they have ended.
type worldEngine struct{ w *world }

func (e worldEngine) Do(_ context.Context, c modload.Call) ([]modload.Outcome, error) {
	line := "load " + c.Query
	for _, part := range []struct {
		text string
		is   bool
	}{
		{"params=" + c.Params, c.Params != ""},
		{fmt.Sprint("flags=", c.Flags), c.Flags != 0},
		{"blacklist", c.Blacklist},
		{"ignore-install", c.IgnoreInstall},
		{"asker=" + c.Asker, c.Asker != ""},
	} {
		if part.is {
			line += " " + part.text
		}
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.log = append(e.w.log, line)
	return e.w.do(c)
}

func (e worldEngine) Remove(_ context.Context, name string, flags int) error {
	line := "remove " + name
	if flags&syscall.O_TRUNC != 0 {
		line += " by force"
	}
	if flags&syscall.O_NONBLOCK == 0 {
		line += " and wait"
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.log = append(e.w.log, line)
	return e.w.remove(name)
}

func (e worldEngine) Settle(context.Context) error { return nil }
func (e worldEngine) Reload() error                { return nil }

func (e worldEngine) Status() any {
	type counters struct {
		Live int `json:"live"`
	}
	return struct {
		Counters counters `json:"counters"`
		None     []int    `json:"none"`
		Release  string   `json:"release"`
		Roots    []string `json:"roots"`
	}{counters{42}, []int{}, "6.1", []string{"a", "b"}}
}

func (e worldEngine) Why(name string) (modload.Module, bool) {
	return modload.Module{
		Name: name, State: modload.Failed, Origin: modload.Origin{Kind: modload.Uevent, By: "/devices/pci \"0\""}, Asked: 3,
		Error: "load loop: open", Queued: 1.5, Begun: 2, Ended: 2.25,
	}, name == "loop"
}

func (e worldEngine) Trace(context.Context) <-chan modload.Module {
	ch := make(chan modload.Module, 1)
	ch <- modload.Module{Name: "loop", State: modload.Live, Origin: modload.Origin{Kind: modload.Named}}
	close(ch)
	return ch
}

// A result is what an applet came to.
type result struct {
	Code           int
	Stdout, Stderr string
	Log            []string
}

// run runs an applet. The words are separated by blanks, but for those in args.
func (w *world) run(command string, args ...string) result {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	w.asked()
	code := run(&env{
		root:   w.root,
		client: &control.Client{Path: w.socket},
		guard:  &control.Client{Path: w.guardSocket},
		stdout: bufio.NewWriter(&stdout),
		stderr: &stderr,
		getenv: func(key string) string { return w.vars[key] },
	}, append(strings.Fields(command), args...))
	return result{code, stdout.String(), stderr.String(), w.asked()}
}

// asked returns what the engine was asked since the last call.
func (w *world) asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	log := w.log
	w.log = nil
	return log
}

// write makes a file below the root.
func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// live puts a module into sysfs.
func (w *world) live(name string, refs int, holders ...string) {
	w.t.Helper()
	w.write("sys/module/"+name+"/initstate", "live\n")
	w.write("sys/module/"+name+"/refcnt", fmt.Sprintln(refs))
	for _, h := range append(holders, ".") {
		if err := os.MkdirAll(filepath.Join(w.root, "sys/module", name, "holders", h), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

// index writes a module index for the release "rel": lines of modules.dep, and of modprobe.d.
func (w *world) index(dep, config string) {
	w.t.Helper()
	w.write("lib/modules/rel/modules.dep", dep)
	w.write("lib/modules/rel/modules.alias", "alias net-pf-40 vsock\n")
	w.write("etc/modprobe.d/test.conf", config)
}
