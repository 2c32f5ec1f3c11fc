// Package handoff is the line between the guard (PID 1) and its engine: a
// socket pair that carries one short message per packet.
//
// The engine tells what it reached; the guard answers a mounted root with
// Drain or Stay. Neither side waits for the other while it holds anything.
package handoff

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Verb is the kind of a Message.
type Verb string

// The messages, with the side that sends them.
const (
	Root    Verb = "root"    // engine: the new root is mounted at Text
	Settled Verb = "settled" // engine: settled for the first time, and no root= was given
	Rescue  Verb = "rescue"  // engine: the boot cannot go on because of Text
	Done    Verb = "done"    // engine: reported; about to exit, or once the modules named in Text are loaded
	Break   Verb = "break"   // engine: rd.break= stops at Text
	Drain   Verb = "drain"   // guard: the root is good; end all loads and exit
	Stay    Verb = "stay"    // guard: the root is of no use; go on as without one
	Go      Verb = "go"      // guard: go on after Break
	Reload  Verb = "reload"  // guard: read the index and modprobe.d again
	Ping    Verb = "ping"    // guard: is there anybody?
	Pong    Verb = "pong"    // engine: there is
	Power   Verb = "power"   // engine: the power button was pressed
)

func (v Verb) known() bool {
	switch v {
	case Root, Settled, Rescue, Done, Break, Drain, Stay, Go, Reload, Ping, Pong, Power:
		return true
	}
	return false
}

// A Message is one packet: the verb, and after a space the text.
type Message struct {
	Verb Verb
	Text string
}

// maxPacket bounds a message; longer texts are cut.
const maxPacket = 4096

// A Peer is one end of the line. Send and Receive may be called concurrently.
type Peer struct{ f *os.File }

// Pair returns the guard's end and the file that the engine inherits. The
// guard closes the file once the engine runs.
func Pair() (*Peer, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return &Peer{os.NewFile(uintptr(fds[0]), "engine")}, os.NewFile(uintptr(fds[1]), "guard"), nil
}

// Inherited returns the engine's end, which the guard passed as fd.
func Inherited(fd int) (*Peer, error) {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Peer{os.NewFile(uintptr(fd), "guard")}, nil
}

// sendLimit is for an end that does not read.
const sendLimit = time.Second

// Send writes one message. It fails if the other end is gone, or does not read.
func (p *Peer) Send(m Message) error {
	b := []byte(string(m.Verb) + " " + m.Text)
	if len(b) > maxPacket {
		b = b[:maxPacket]
	}
	_ = p.f.SetWriteDeadline(time.Now().Add(sendLimit))
	_, err := p.f.Write(b)
	return err
}

// Receive waits for one message. It returns io.EOF if the other end is gone.
func (p *Peer) Receive() (Message, error) {
	var buf [maxPacket]byte
	n, err := p.f.Read(buf[:])
	switch {
	case errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
		return Message{}, io.EOF
	case err != nil:
		return Message{}, err
	}
	return parse(string(buf[:n]))
}

// Close ends the line; a blocked Receive returns.
func (p *Peer) Close() error { return p.f.Close() }

func parse(packet string) (Message, error) {
	verb, text, _ := strings.Cut(packet, " ")
	if !Verb(verb).known() {
		return Message{}, fmt.Errorf("handoff: unknown message %q", packet)
	}
	return Message{Verb(verb), text}, nil
}
