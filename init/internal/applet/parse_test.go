package applet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGetopt(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-qb x -- -r", "q b | x -r"},
		{"-dDIR -S rel", "d=DIR S=rel |"},
		{"-qdDIR x", "q d=DIR | x"},
		{"x --dirname=D y --set-v R", "d=D S=R | x y"},
		{"--dirname= x", "d= | x"},
		{"--quiet - -v", "q v | -"},
		{"--ignore- x", "i | x"},
		{"-q -: -v", "q ?=m: invalid option -- ':' |"},
		{"x -Z y", "?=m: invalid option -- 'Z' | x"},
		{"--quiet=1", "?=m: option '--quiet' doesn't allow an argument |"},
	} {
		g := getopt{argv0: "m", shorts: "arw:RibfDcnC:d:S:sqvVh", longs: modprobeLongs()}
		g.parse(strings.Fields(test.args))
		var got []string
		for _, o := range g.opts {
			word := string(rune(o.code))
			if o.arg != "" || o.code == 'd' {
				word += "=" + o.arg
			}
			got = append(got, word)
		}
		if s := strings.Join(slices.Concat(got, []string{"|"}, g.operands), " "); s != test.want {
			t.Errorf("%s: %s, want %s", test.args, s, test.want)
		}
	}
	g := getopt{shorts: "q", posix: true}
	g.parse([]string{"x", "-q"})
	if len(g.opts) != 0 || len(g.operands) != 2 {
		t.Errorf("POSIXLY_CORRECT: %+v", g)
	}
}

func FuzzGetopt(f *testing.F) {
	f.Add("-qb\nx\n--\n-r", "-C a 'b c'")
	f.Add("--dirname\n--set", `"`)
	f.Fuzz(func(t *testing.T, args, options string) {
		g := getopt{argv0: "m", shorts: "arw:RibfDcnC:d:S:sqvVh", longs: modprobeLongs()}
		given := append(splitOptions(options), strings.Split(args, "\n")...)
		g.parse(given)
		if len(g.operands) > len(given) {
			t.Errorf("%d operands of %d arguments", len(g.operands), len(given))
		}
	})
}

func TestSplitOptions(t *testing.T) {
	want := []string{"-q", "-C", "a b", "", "xy z"}
	if diff := cmp.Diff(want, splitOptions(` -q  -C "a b" '' x'y z' `)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// flat is what flatten has to give, by encoding/json.
func flat(path string, v any, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			flat(join(path, key), e, out)
		}
	case []any:
		for i, e := range v {
			flat(join(path, fmt.Sprint(i)), e, out)
		}
	case nil:
		out[path] = "null"
	default:
		out[path] = fmt.Sprint(v)
	}
}

func FuzzFlatten(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,true,null,"x\u003c\"\n"]},"c":[],"d":{}}`))
	f.Add([]byte(`[[[`))
	f.Add([]byte(`{"a":-1.5e9}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		got := map[string]string{}
		err := flatten(doc, func(path, value string) { got[path] = value })
		var v any
		dec := json.NewDecoder(bytes.NewReader(doc))
		dec.UseNumber()
		if dec.Decode(&v) != nil {
			return // anything but a crash will do
		}
		clean, jsonErr := json.Marshal(v) // as an engine would write it
		if jsonErr != nil || bytes.Count(clean, []byte("["))+bytes.Count(clean, []byte("{")) >= maxNesting {
			return
		}
		clear(got)
		if err = flatten(clean, func(path, value string) { got[path] = value }); err != nil {
			t.Fatalf("%s: %v", clean, err)
		}
		want := map[string]string{}
		flat("", v, want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", clean, diff)
		}
	})
}

func FuzzSignature(f *testing.F) {
	const magic = "~Module signature appended~\n"
	der := "\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
	f.Add([]byte("x" + der + "\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x0d" + magic))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		if fields := signatureFields(file); fields != nil && len(fields) != 5 {
			t.Errorf("%d fields", len(fields))
		}
		parseSigner(file)
	})
}

func TestDerLengths(t *testing.T) {
	for _, b := range []string{"", "\x30", "\x30\x80", "\x30\x85\x01\x01\x01\x01\x01", "\x30\x84\xff\xff\xff\xff", "\x30\x02x", "\x31\x00"} {
		d := der{b: []byte(b)}
		if v := d.next(tagSequence); !v.broken || !d.broken {
			t.Errorf("%q: not broken", b)
		}
	}
	long := append([]byte{0x30, 0x82, 0x01, 0x00}, bytes.Repeat([]byte{7}, 256)...)
	d := der{b: long}
	if v := d.next(tagSequence); v.broken || len(v.b) != 256 || len(d.b) != 0 {
		t.Errorf("a value of 256 bytes has %d", len(v.b))
	}
}
