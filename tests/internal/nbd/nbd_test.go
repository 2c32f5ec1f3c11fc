package nbd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestServe is a client that asks for what is not known, and reads three blocks: a good one, one that fails, and one behind
// the end.
func TestServe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nbd")
	l, err := Serve(path, Disk{Size: 8192, Read: func(p []byte, off int64) error {
		for i := range p {
			p[i] = byte(off >> 9)
		}
		if off >= 4096 {
			return errors.New("a bad block")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say := func(parts ...any) {
		t.Helper()
		for _, p := range parts {
			if err := binary.Write(conn, binary.BigEndian, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	hear := func(n int) string {
		t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := hear(18); got != greeting+"\x00\x01" {
		t.Fatalf("greeting %q", got)
	}
	const structuredReplies = 8
	say(uint32(1), uint64(optionMagic), uint32(structuredReplies), uint32(0))
	if got := hear(20); got[12:] != "\x80\x00\x00\x01\x00\x00\x00\x00" {
		t.Errorf("an unknown option is answered by %q", got)
	}
	say(uint64(optionMagic), uint32(optionGo), uint32(4+2), uint32(0), uint16(0))
	if got := hear(20 + 12 + 20); got[20:32] != "\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x03" {
		t.Errorf("the export is %q", got)
	}
	for off, want := range map[uint64]string{
		512:  "\x00\x00\x00\x00" + "cookie::" + strings.Repeat("\x01", 512),
		4096: "\x00\x00\x00\x05" + "cookie::",
		8192: "\x00\x00\x00\x16" + "cookie::",
	} {
		say(uint32(requestMagic), uint16(0), uint16(commandRead), []byte("cookie::"), off, uint32(512))
		if got := hear(4 + len(want)); got[4:] != want {
			t.Errorf("the answer at %d begins with %.20q, want %.16q", off, got, want)
		}
	}
	say(uint32(requestMagic), uint16(0), uint16(commandDisconnect), []byte("cookie::"), uint64(0), uint32(0))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the disconnect: %v, want the end", err)
	}
}
