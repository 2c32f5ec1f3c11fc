package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}` + "\n"

// A request is a command as the fake monitor reads it.
type request struct {
	Execute   string
	Arguments json.RawMessage
	ID        uint64
}

// serve connects a client to a monitor that answers each request with the lines that answer returns.
// The test fails if a goroutine of either side is left.
func serve(t *testing.T, answer func(request) string) *Client {
	t.Helper()
	here, there := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer there.Close()
		io.WriteString(there, greeting)
		in := bufio.NewScanner(there)
		for in.Scan() {
			var r request
			if err := json.Unmarshal(in.Bytes(), &r); err != nil {
				t.Errorf("request %q: %v", in.Text(), err)
			}
			reply := fmt.Sprintf(`{"return": {}, "id": %d}`+"\n", r.ID)
			if r.Execute != "qmp_capabilities" {
				if reply = answer(r); reply == "" {
					return
				}
			}
			io.WriteString(there, reply)
		}
	}()
	c, err := New(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return c
}

func TestExecute(t *testing.T) {
	c := serve(t, func(r request) string {
		switch r.Execute {
		case "query-status":
			// An event and an answer to nobody come first; the pipe takes one write at a time.
			return fmt.Sprintf(`{"event": "RESUME"}`+"\n"+`{"return": 1, "id": 4711}`+"\n"+`{"return": {"status": "running"}, "id": %d}`+"\n", r.ID)
		default:
			return fmt.Sprintf(`{"error": {"class": "CommandNotFound", "desc": "no %s here"}, "id": %d}`+"\n", r.Execute, r.ID)
		}
	})
	var status struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
		t.Errorf("query-status = %q, %v, want running", status.Status, err)
	}
	var refusal *Error
	err := c.Execute(t.Context(), "dance", nil, nil)
	if !errors.As(err, &refusal) || refusal.Class != "CommandNotFound" || !strings.Contains(err.Error(), "dance") {
		t.Errorf("dance: %v, want a CommandNotFound that names the command", err)
	}
	if err := c.Execute(t.Context(), "query-status", nil, &struct{ Status int }{}); err == nil {
		t.Error("an answer of the wrong type was accepted")
	}
}

// TestConcurrent has answers come in the reverse order of the commands.
func TestConcurrent(t *testing.T) {
	const n = 8
	var held []request
	c := serve(t, func(r request) string {
		if held = append(held, r); len(held) < n {
			return "\n" // white space between messages is allowed
		}
		var out strings.Builder
		for i := n - 1; i >= 0; i-- {
			fmt.Fprintf(&out, `{"return": %s, "id": %d}`+"\n", held[i].Arguments, held[i].ID)
		}
		return out.String()
	})
	errs := make(chan error, n)
	for i := range n {
		go func() {
			var back struct{ N int }
			err := c.Execute(t.Context(), "echo", map[string]int{"n": i}, &back)
			if err == nil && back.N != i {
				err = fmt.Errorf("answer %d to command %d", back.N, i)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestLongAnswer(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	c := serve(t, func(r request) string { return fmt.Sprintf(`{"return": %q, "id": %d}`+"\n", long, r.ID) })
	var got string
	if err := c.Execute(t.Context(), "query-qmp-schema", nil, &got); err != nil || got != long {
		t.Errorf("answer of %d bytes, %v, want %d bytes", len(got), err, len(long))
	}
}

// TestRemoveDevice sends the event before the answer, as QEMU does when the guest is not running, and between
// events for other devices.
func TestRemoveDevice(t *testing.T) {
	c := serve(t, func(r request) string {
		return `{"event": "DEVICE_DELETED", "data": {"path": "/machine/peripheral/d0/virtio-backend"}}` + "\n" +
			`{"event": "DEVICE_DELETED", "data": {"device": "d1", "path": "/machine/peripheral/d1"}}` + "\n" +
			fmt.Sprintf(`{"return": {}, "id": %d}`+"\n", r.ID) +
			`{"event": "DEVICE_DELETED", "data": {"device": "d0", "path": "/machine/peripheral/d0"}}` + "\n"
	})
	if err := c.RemoveDevice(t.Context(), "d0"); err != nil {
		t.Fatal(err)
	}
	if got := c.Mark(); got != 3 {
		t.Errorf("RemoveDevice returned after %d events, want 3: the last one names the device", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.RemoveDevice(ctx, "d9"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("RemoveDevice of a device that stays: %v, want a deadline", err)
	}
}

func TestDeadline(t *testing.T) {
	c := serve(t, func(request) string { return "\n" })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Execute without an answer: %v, want a deadline", err)
	}
	if len(c.waiting) != 0 {
		t.Errorf("%d commands are still waiting, want none", len(c.waiting))
	}
}

// TestConnectionEnds: QEMU that dies must not leave a caller waiting.
func TestConnectionEnds(t *testing.T) {
	c := serve(t, func(request) string { return "" })
	waited := make(chan error)
	go func() {
		_, err := c.WaitEvent(t.Context(), 0, "SHUTDOWN", nil)
		waited <- err
	}()
	if err := c.Execute(t.Context(), "quit", nil, nil); !errors.Is(err, io.EOF) {
		t.Errorf("Execute on a connection that ends: %v, want EOF", err)
	}
	if err := <-waited; !errors.Is(err, io.EOF) {
		t.Errorf("WaitEvent on a connection that ends: %v, want EOF", err)
	}
}

func TestDial(t *testing.T) {
	path := t.TempDir() + "/qmp"
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if c, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Dial without a socket = %v, %v, want a deadline", c, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if c, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Dial of a silent socket = %v, %v, want a deadline", c, err)
	}
}
