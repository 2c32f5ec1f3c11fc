package applet

import (
	"strings"
	"testing"

	"hapax/modload"
)

func TestHapaxctl(t *testing.T) {
	w := newWorld(t)
	w.do = func(c modload.Call) ([]modload.Outcome, error) {
		if c.Query == "nosuch" {
			return nil, modload.ErrNotFound
		}
		return []modload.Outcome{
			{Module: "bad", State: modload.Failed, Err: &modload.LoadError{Module: "bad", Op: "open", Err: modload.ErrDenied}},
			{Module: "loop", State: modload.Live, New: true},
		}, nil
	}
	const why = "loop failed at 2.25 ms (asked for at 1.5, loading since 2), asked for by uevent /devices/pci \"0\", 3 times in all: load loop: open\n"
	for _, test := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"settle --timeout 5", 0, "", ""},
		{"reload", 0, "", ""},
		{"status --json", 0, `{"counters":{"live":42},"none":[],"release":"6.1","roots":["a","b"]}` + "\n", ""},
		{"status", 0, "counters.live            42\nrelease                  6.1\nroots.0                  a\nroots.1                  b\n", ""},
		{"load x", 1, "loop live\n", "hapaxctl: load x: load bad: open: denied\n"},
		{"load --json x", 1, `{"name":"bad","state":"failed","new":false,"error":"load bad: open: denied"}` + "\n" +
			`{"name":"loop","state":"live","new":true}` + "\n", "hapaxctl: load x: load bad: open: denied\n"},
		{"load nosuch", 1, "", "hapaxctl: load nosuch: no such module in the index\n"},
		{"unload loop", 0, "", ""},
		{"why loop", 0, why, ""},
		{"why loop nosuch", 1, why, "hapaxctl: why nosuch: no such module in the index\n"},
		{"why --json loop", 0, `{"name":"loop","state":"failed","origin":{"kind":"uevent","by":"/devices/pci \"0\""},"asked":3,` +
			`"error":"load loop: open","queued_ms":1.5,"begun_ms":2,"ended_ms":2.25}` + "\n", ""},
		{"trace", 0, "loop live, asked for by named\n", ""},
		{"trace loop", 2, "", "hapaxctl: trace takes no argument\n"},
		{"start web db", 0, "", ""},
		{"restart --timeout 9 nosuch db", 1, "", "hapaxctl: restart nosuch: nosuch: there is no such service\n"},
		{"stop", 2, "", "hapaxctl: stop: want the name of a service\n"},
		{"services", 0, "web              waiting  for 7 s, waits for db\n" +
			"db               starting for 1 s, process 12, started 3 times, last end: signal SIGSEGV\n", ""},
		{"status web", 0, "web              waiting  for 7 s, waits for db\n", ""},
		{"status nosuch", 1, "", "hapaxctl: service nosuch: nosuch: there is no such service\n"},
		{"services --json", 0, `[{"name":"web","state":"waiting","seconds":7,"starts":0,"waits_for":"db"},` +
			`{"name":"db","state":"starting","seconds":1,"pid":12,"starts":3,"ended":"signal SIGSEGV"}]` + "\n", ""},
		{"log web", 0, strings.Repeat("a line of web \xff\n", 4000), ""},
		{"services web", 2, "", "hapaxctl: services takes no argument\n"},
		{"load", 2, "", "hapaxctl: load: want the name of a module\n"},
		{"explode", 2, "", "hapaxctl: unknown command \"explode\"; see hapaxctl --help\n"},
		{"", 2, "", "hapaxctl: want a command; see hapaxctl --help\n"},
		{"--timeout=soon settle", 2, "", "hapaxctl: --timeout=soon: want a time such as 90, 90s or 1m30s\n"},
		{"--what", 2, "", "hapaxctl: unrecognized option '--what'\n"},
		{"--help", 0, ctlHelp, ""},
	} {
		got := w.run("hapaxctl " + test.args)
		if verb, names, _ := strings.Cut(test.args, " "); verb == "start" && strings.Join(got.Log, ",") != "start web,start db" {
			t.Errorf("%s %s asked for %q", verb, names, got.Log)
		}
		got.Log = nil
		check(t, test.args, got, result{Code: test.code, Stdout: test.stdout, Stderr: test.stderr})
	}
	w.socket += ".gone"
	if got := w.run("hapaxctl status"); got.Code != 1 || !strings.Contains(got.Stderr, "no engine is running") {
		t.Errorf("without an engine: %+v", got)
	}
}
