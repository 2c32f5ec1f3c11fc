package modindex

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hapax/tests/need"
)

// A libkmod is tests/libkmod/lookup.c at work on one index: libkmod itself, without modprobe around it.
type libkmod struct {
	in  io.Writer
	out *bufio.Scanner
}

// newLibkmod builds the program and starts it. It ends with the test.
func newLibkmod(t testing.TB, dir string) libkmod {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lookup")
	if out, err := exec.Command("gcc", "-O2", "-Wall", "-Werror", "-o", program, "../../tests/libkmod/lookup.c", "-lkmod").CombinedOutput(); err != nil {
		t.Fatalf("gcc (packages gcc, libc6-dev and libkmod-dev): %v\n%s", err, out)
	}
	cmd := exec.Command(program, dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("tests/libkmod/lookup.c: %v", err)
		}
	})
	return libkmod{in, bufio.NewScanner(out)}
}

// ask sends one request and returns the answer.
func (k libkmod) ask(t testing.TB, format string, args ...any) string {
	t.Helper()
	if _, err := fmt.Fprintf(k.in, format+"\n", args...); err != nil {
		t.Fatal(err)
	}
	if !k.out.Scan() {
		t.Fatalf("tests/libkmod/lookup.c gives no answer: %v", k.out.Err())
	}
	return k.out.Text()
}

// bench has the program repeat the request, which has the number of times first, and reports the time that it took itself.
func (k libkmod) bench(b *testing.B, verb, query string) {
	text := k.ask(b, "%s", strings.TrimSpace(fmt.Sprintf("%s %d %s", verb, b.N, query)))
	ns, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(ns/float64(b.N), "ns/op")
}

// A plainList is what an initramfs does that has no trie: every alias of the
// text file, one after the other, with filepath.Match. booster is one.
type plainList [][2]string

func newPlainList(t testing.TB, dir string) (list plainList) {
	t.Helper()
	for line := range lines(readIndex(t, dir, "modules.alias")["modules.alias"]) {
		words := strings.Fields(line)
		list = append(list, [2]string{words[1], words[2]})
	}
	return list
}

func (l plainList) match(query string) (names []string) {
	for _, alias := range l {
		if ok, err := filepath.Match(alias[0], query); ok && err == nil {
			names = append(names, alias[1])
		}
	}
	return names
}

// fullTree returns the last of the trees, the one with the most aliases.
func fullTree(t testing.TB) string {
	t.Helper()
	list := need.Trees(t)
	return list[len(list)-1]
}

// What the three of BenchmarkIndex are measured at gives the same answers; the
// list has none where it says so.
func TestBenchmarksMeasureTheSame(t *testing.T) {
	dir := fullTree(t)
	x, k, list := open(t, dir), newLibkmod(t, dir), newPlainList(t, dir)
	for _, q := range benchQueries {
		got := x.Lookup(q.query).Names
		if want := appendNew(nil, strings.Fields(k.ask(t, "names %s", q.query))); !slices.Equal(want, got) {
			t.Errorf("%s: libkmod finds %q, Lookup %q", q.name, want, got)
		}
		if hit := strings.HasPrefix(q.name, "hit="); hit != (len(got) > 0) {
			t.Errorf("%s: Lookup(%q) = %q", q.name, q.query, got)
		}
		if want := list.match(q.query); !strings.HasSuffix(q.name, "=name") && len(appendNew(nil, want)) != len(got) {
			t.Errorf("%s: the list finds %q, Lookup %q", q.name, want, got)
		}
	}
}

// BenchmarkIndex puts hapax beside libkmod and beside a list of aliases, on the full tree.
func BenchmarkIndex(b *testing.B) {
	dir := fullTree(b)
	x, k, list := open(b, dir), newLibkmod(b, dir), newPlainList(b, dir)
	b.Run("open/by=hapax", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x, err := Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			x.Close()
		}
	})
	b.Run("open/by=libkmod", func(b *testing.B) { k.bench(b, "open", "") })
	b.Run("open/by=list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			newPlainList(b, dir)
		}
	})
	for _, q := range benchQueries {
		b.Run(q.name+"/by=hapax", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Lookup(q.query)
			}
		})
		b.Run(q.name+"/by=libkmod", func(b *testing.B) { k.bench(b, "lookup", q.query) })
		b.Run(q.name+"/by=list", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				list.match(q.query)
			}
		})
	}
}
