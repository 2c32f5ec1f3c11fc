package guest

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// The commands that have the kernel ask for modules, and what belongs to them. An act is one line that begins with
// one of the first seven and is answered with the name of an errno, "0" for success.
const (
	Open   = "open"   // PATH, read-only; or MAJOR:MINOR, a character device that gets a node for the purpose
	Mount  = "mount"  // TYPE SOURCE FOLDER
	Socket = "socket" // FAMILY TYPE PROTOCOL, in numbers
	Alg    = "alg"    // TYPE NAME: binds a socket of AF_ALG
	Link   = "link"   // KIND NAME: makes a network interface
	Match  = "match"  // NAME: asks ip_tables, which has to be there, for the revision of a match
	Remove = "remove" // MODULE: asks the engine; EAGAIN if it does not do that

	Exec    = "exec"    // Ended; runs PROGRAM ARGUMENT... to its end
	Write   = "write"   // nothing; writes the rest of the line to PATH
	Chmod   = "chmod"   // nothing; makes PATH executable
	Rename  = "rename"  // nothing; OLD NEW
	Burst   = "burst"   // map[string]int: the acts by errno; N ACT;ACT;... does N acts at the same instant, in turn
	Rounds  = "rounds"  // map[string]int: the acts by errno; N K MODULE UEVENT ACT
	Laps    = "laps"    // []time.Duration: how long each of N acts took, one after the other; N ACT
	Killing = "killing" // Killed; MILLISECONDS NAME BURST kills the processes called NAME that long after the burst began
	Asked   = "asked"   // Asks; needs UpcallArgs
	Pids    = "pids"    // []int: the processes called NAME, which is the last part of argv[0]
)

// Rounds does the same N times: it asks the engine to remove MODULE, and then, at the same instant, does ACT K times and
// writes "add" to the file UEVENT, which has the kernel announce a device.

// Do is the argument with which the program carries out one command, of which the other arguments consist.
const Do = "do"

// A Killed is the end of a burst in which processes were killed.
type Killed struct {
	Processes int            `json:"processes"`
	Acts      map[string]int `json:"acts"`
}

// RealShell is where the program, when it is an image's /bin/sh, looks for one that runs commands: u-root's.
const RealShell = "/bin/gosh"

// An Ended is what became of a program.
type Ended struct {
	Code   int    `json:"code"`
	Output string `json:"output"` // of both streams
}

// UpcallArgs are the kernel arguments that record, beside what TraceArgs does, the requests of the kernel and their
// answers.
const UpcallArgs = "trace_event=" + traceEvents + ",module:module_request trace_buf_size=1M trace_options=record-tgid " +
	"kprobe_event=r1000:answer,__request_module,ret=$retval:s32"

// Asks are the requests of the kernel for which it waited, and who has loaded modules.
type Asks struct {
	Requests  []Request      `json:"requests"`
	Inserters map[string]int `json:"inserters"` // calls of finit_module and init_module by the id of the process
	Open      int            `json:"open"`      // requests without an answer
	NoWait    int            `json:"nowait"`    // requests that nobody waited for
	Lost      bool           `json:"lost"`      // the buffer was too small: the rest says too little
}

// A Request is one call of request_module.
type Request struct {
	Name   string        `json:"name"`
	At     time.Duration `json:"at"`     // since boot
	Took   time.Duration `json:"took"`   // until the answer
	Answer int           `json:"answer"` // 0: the module is there; > 0: the helper's wait status; < 0: an errno
}

// ParseAsks reads the requests from the text that the kernel shows as /sys/kernel/tracing/trace. Its lines look so:
//
//	mount-146   (    140) [003] .....     2.345678: module_request: fs-xfs wait=1 call_site=get_fs_type
//	mount-146   (    140) [003] .....     2.399999: answer: (get_fs_type+0x8b/0x130 <- __request_module) ret=0
//
// A thread makes one request at a time.
func ParseAsks(r io.Reader) (Asks, error) {
	a := Asks{Requests: []Request{}, Inserters: map[string]int{}}
	open := map[string]Request{} // by thread
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if counts, ok := strings.CutPrefix(line, "# entries-in-buffer/entries-written: "); ok {
			counts, _, _ = strings.Cut(counts, " ")
			kept, written, _ := strings.Cut(counts, "/")
			a.Lost = kept != written
			continue
		}
		l, ok := cutTraceLine(line)
		switch {
		case !ok:
		case l.event == "module_request" && strings.Contains(l.text, " wait=1 "):
			name, _, _ := strings.Cut(l.text, " wait=")
			open[l.thread] = Request{Name: name, At: l.at}
		case l.event == "module_request":
			a.NoWait++
		case l.event == "answer":
			q, ok := open[l.thread]
			_, text, isAnswer := strings.Cut(l.text, " ret=")
			answer, err := strconv.Atoi(text)
			if err != nil || !isAnswer {
				return Asks{}, fmt.Errorf("trace: no answer: %q", line)
			}
			if ok { // else nobody waited for it
				delete(open, l.thread)
				q.Took, q.Answer = l.at-q.At, answer
				a.Requests = append(a.Requests, q)
			}
		case strings.HasPrefix(l.event, "sys_finit_module(") || strings.HasPrefix(l.event, "sys_init_module("):
			a.Inserters[l.process]++
		}
	}
	a.Open = len(open)
	return a, lines.Err()
}

// A traceLine is one line of a trace whose processes are recorded.
type traceLine struct {
	thread, process string // ids
	at              time.Duration
	event, text     string
}

func cutTraceLine(line string) (l traceLine, ok bool) {
	task, rest, ok := strings.Cut(line, ") [")
	if !ok {
		return l, false
	}
	task, process, ok := cutLast(task, "(")
	if !ok {
		return l, false
	}
	_, thread, ok := cutLast(strings.TrimSpace(task), "-")
	if !ok {
		return l, false
	}
	head, rest, ok := strings.Cut(rest, ": ")
	if !ok {
		return l, false
	}
	f := strings.Fields(head)
	seconds, err := strconv.ParseFloat(f[len(f)-1], 64)
	if err != nil {
		return l, false
	}
	event, text, _ := strings.Cut(rest, ": ")
	return traceLine{thread, strings.TrimSpace(process), time.Duration(seconds * float64(time.Second)), event, text}, true
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
