package handoff

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (guard, engine *Peer) {
	t.Helper()
	guard, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd())) // as the fork does
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	engine, err = Inherited(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guard.Close(); engine.Close() })
	return guard, engine
}

func TestMessagesKeepTheirBounds(t *testing.T) {
	t.Parallel()
	guard, engine := pair(t)
	sent := []Message{{Settled, ""}, {Root, "/sysroot"}, {Rescue, "two words\nand a line"}, {Rescue, strings.Repeat("x", 9000)}}
	for _, m := range sent {
		if err := engine.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sent {
		got, err := guard.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Text) > maxPacket {
			want.Text = want.Text[:maxPacket-len("rescue ")]
		}
		if got != want {
			t.Errorf("Receive = %.40q, want %.40q", got, want)
		}
	}
	if err := guard.Send(Message{Verb: Drain}); err != nil {
		t.Fatal(err)
	}
	if m, err := engine.Receive(); err != nil || m.Verb != Drain {
		t.Errorf("engine received %v, %v", m, err)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	guard, engine := pair(t)
	engine.Close()
	if _, err := guard.Receive(); err != io.EOF {
		t.Errorf("Receive after the engine's end = %v, want EOF", err)
	}
	guard, _ = pair(t)
	done := make(chan error)
	go func() {
		_, err := guard.Receive()
		done <- err
	}()
	guard.Close()
	if err := <-done; err == nil {
		t.Error("Receive after Close gave no error")
	}
}

func TestUnknownMessagesAreErrors(t *testing.T) {
	t.Parallel()
	guard, engine := pair(t)
	if _, err := engine.f.Write([]byte("frobnicate now")); err != nil {
		t.Fatal(err)
	}
	if m, err := guard.Receive(); err == nil {
		t.Errorf("Receive = %v, want an error", m)
	}
}
