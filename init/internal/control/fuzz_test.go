package control

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/modload"
)

func FuzzRequest(f *testing.F) {
	for _, r := range []request{
		{verb: verbLoad, call: modload.Call{Query: "pci:v*", Params: "a=1", Flags: 3, Asker: "x", Blacklist: true, IgnoreInstall: true}},
		{verb: verbRemove, name: "loop", flag: 2048},
		{verb: verbWhy, name: "loop"},
		{verb: verbTrace},
	} {
		f.Add(r.encode())
	}
	f.Add([]byte("hapax/1\x00load\x00query=x\x00flags=-1\x00query=y"))
	f.Add([]byte("hapax/1\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		r, err := parseRequest(packet)
		if err != nil {
			return
		}
		again, err := parseRequest(r.encode())
		if err != nil {
			t.Fatalf("%+v does not survive: %v", r, err)
		}
		if diff := cmp.Diff(r, again, cmp.AllowUnexported(request{})); diff != "" {
			t.Errorf("changed (-first +second):\n%s", diff)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(encodeOutcome(modload.Outcome{Module: "x", State: modload.Live, New: true}))
	f.Add(encodeOutcome(modload.Outcome{Module: "x", State: modload.Failed, Err: modload.ErrLoop}))
	f.Add(encodeEnd(nil))
	f.Add(encodeEnd(ErrBusy))
	f.Add([]byte("json\x00{}"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		a, err := parseAnswer(packet)
		if err == nil && a.kind == kindModule {
			again, err := parseAnswer(encodeOutcome(a.outcome))
			if err != nil || len(a.outcome.Module) <= maxText && again.outcome.Module != a.outcome.Module {
				t.Errorf("%+v becomes %+v, %v", a.outcome, again.outcome, err)
			}
		}
	})
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("1 (init) S 0 1 1 0 -1 4194560 0 0"))
	f.Add([]byte("7 (a) b)) R 2 0 0 0 -1 69238880 0"))
	f.Add([]byte("7 ) ("))
	f.Fuzz(func(t *testing.T, line []byte) {
		if s, ok := parseStat(line); ok && len(s.comm) > len(line) {
			t.Errorf("comm = %q", s.comm)
		}
	})
}

func TestParseStat(t *testing.T) {
	got, ok := parseStat([]byte("7 (a) b)) R 2 0 0 0 -1 69238880 0"))
	if want := (stat{"a) b)", 2, 69238880}); !ok || got != want {
		t.Errorf("parseStat = %+v, %v; want %+v", got, ok, want)
	}
}
