package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// family kills the main process of a service with descendants, and stops the one that follows.
func (n *node1) family() {
	s := Spec{Name: "family", Args: []string{"family"}, StopTimeout: 100 * time.Millisecond, Restart: Always, Delay: 20 * time.Millisecond}
	if group := os.Getenv("CGROUP"); group != "" {
		s.Env = []string{"CGROUP=1", "GROUP=" + filepath.Join(group, "hapax/family")}
		defer func() {
			for _, dir := range []string{"hapax/family/sub/sub", "hapax/family/sub", "hapax/family", "hapax", "."} {
				must(os.Remove(filepath.Join(group, dir))) // which fails if anybody is in it
			}
		}()
	}
	n.manage(s)
	n.m.Start()
	count := func(want int) func() bool {
		return func() bool { return strings.Count(string(n.m.sys.Log("family")), "family") == want }
	}
	n.until("family", count(3))
	must(unix.Kill(n.m.find("family").proc.Pid(), unix.SIGKILL))
	n.until("another family", count(6))
	fmt.Println("processes", processes())
	go func() { _ = n.m.Ask(context.Background(), VerbStop, "family") }()
	n.until("end", func() bool { return n.state("family") == Stopped })
	fmt.Println("processes", processes())
}

// What a service has started ends with it, before the next one and when it is stopped: its process group, and by cgroup what has
// left that.
func TestFamily(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]string{"process group": "", "cgroup": testCgroup(t)} {
		t.Run(name, func(t *testing.T) {
			lines := inNamespace(t, "family", "CGROUP="+env)
			if got := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.HasPrefix(l, "processes") }); !slices.Equal(got, []string{"processes 3", "processes 0"}) {
				t.Errorf("printed %q", lines)
			}
		})
	}
}

// testCgroup makes a group of cgroup v2 for a test.
func testCgroup(t *testing.T) string {
	t.Helper()
	need.Root(t)
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		need.Unmet(t, "needs a cgroup2 file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	dir, err := os.MkdirTemp(root, "hapax-test-")
	if err != nil {
		need.Unmet(t, "needs a cgroup2 file system that can be written: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) }) // if the test has failed it may still be there
	return dir
}

// A group that was used before has nothing of its past: what is started in one that has been killed dies at once under some kernels.
func TestCgroupAnew(t *testing.T) {
	t.Parallel()
	root := testCgroup(t)
	defer func() { _ = os.Remove(filepath.Join(root, groupDir)) }()
	var last uint64
	for round := range 3 {
		g, err := newCgroup(root, "x", Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(string(g), &st); err != nil || st.Ino == last {
			t.Errorf("round %d: the group of before (%v)", round, err)
		}
		last = st.Ino
		if err := os.MkdirAll(filepath.Join(string(g), "sub/sub"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := cgroup(filepath.Join(root, groupDir, "x")).remove(); err != nil {
		t.Error(err)
	}
}

// A disk that does not answer holds a start for a moment, and has one look at a time.
func TestBeforeIsLimited(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ready")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var l Linux
	if st := l.before(file); st.Ino == 0 || l.looks.Load() {
		t.Errorf("a file that is there: inode %d, still looking %v", st.Ino, l.looks.Load())
	}
	l.looks.Store(true) // as one that hangs leaves it
	if st := l.before(file); st.Ino != 0 {
		t.Error("looked while another look was not answered")
	}
}
