// Package qmp speaks QEMU's machine protocol: commands with answers, and events, as JSON over a unix socket.
// The protocol is described in docs/interop/qmp-spec.rst of QEMU.
package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// An Error is QEMU's refusal of a command.
type Error struct {
	Class string `json:"class"` // "GenericError", "CommandNotFound", "DeviceNotFound", ...
	Desc  string `json:"desc"`
}

func (e *Error) Error() string { return e.Class + ": " + e.Desc }

// An Event is a message that QEMU sends without being asked, such as DEVICE_DELETED.
type Event struct {
	Name string
	Data json.RawMessage // an object, or nil
}

// A Client is a connection to one monitor. Its methods may be called concurrently; answers find their caller by id.
// Events are kept from the greeting on, so a caller that waits for one cannot come too late for it.
type Client struct {
	conn io.ReadWriteCloser
	send sync.Mutex    // held while a command is written
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex // protects what follows
	lastID  uint64
	waiting map[uint64]chan<- message
	events  []Event
	news    chan struct{} // closed and replaced when an event arrives
	err     error         // why the reader ended
}

// message is any line that QEMU sends.
type message struct {
	ID       uint64          `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *Error          `json:"error"`
	Event    string          `json:"event"`
	Data     json.RawMessage `json:"data"`
	Greeting json.RawMessage `json:"QMP"`
}

// Dial connects to the socket on which QEMU listens and completes the greeting.
// QEMU that was just started has not made the socket yet: Dial tries until ctx ends.
func Dial(ctx context.Context, path string) (*Client, error) {
	const pause = 10 * time.Millisecond
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return New(ctx, conn)
		}
		if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("qmp: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("qmp: %w: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// New completes the greeting on conn and returns a client that owns conn. It closes conn if that fails.
func New(ctx context.Context, conn io.ReadWriteCloser) (*Client, error) {
	c := &Client{conn: conn, done: make(chan struct{}), waiting: make(map[uint64]chan<- message), news: make(chan struct{})}
	greeted := make(chan struct{})
	go c.read(greeted)
	select {
	case <-greeted:
	case <-c.done:
		return nil, c.fail()
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("qmp: no greeting: %w", context.Cause(ctx)), c.Close())
	}
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the connection and the reader. Commands and waits that are under way fail. It may be called again.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Execute sends one command and waits for its answer. args becomes the command's argument object (nil: none), the
// answer is stored in result (nil: dropped). A refusal by QEMU is an *Error. When ctx ends first, the answer is dropped
// when it comes.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	answer := make(chan message, 1) // room for one, so that the reader never waits for a caller that has left
	id := c.register(answer)
	defer c.forget(id)
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return fmt.Errorf("qmp: %s: %w", command, err)
	}
	c.send.Lock()
	_, err = c.conn.Write(append(line, '\n'))
	c.send.Unlock()
	if err != nil {
		return fmt.Errorf("qmp: %s: %w", command, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("qmp: %s: %w", command, m.Error)
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(m.Return, result); err != nil {
			return fmt.Errorf("qmp: %s: %w", command, err)
		}
		return nil
	case <-c.done:
		return fmt.Errorf("%s: %w", command, c.fail())
	case <-ctx.Done():
		return fmt.Errorf("qmp: %s: %w", command, context.Cause(ctx))
	}
}

// register gives a command its id.
func (c *Client) register(answer chan<- message) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++ // from 1 on: 0 stands for a message without id
	c.waiting[c.lastID] = answer
	return c.lastID
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// read takes messages until the connection ends.
func (c *Client) read(greeted chan<- struct{}) {
	defer close(c.done)
	in := json.NewDecoder(c.conn) // takes lines of any length: query-qmp-schema answers with 200 KB
	for {
		var m message
		if err := in.Decode(&m); err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			return
		}
		switch {
		case m.Greeting != nil && greeted != nil:
			close(greeted)
			greeted = nil
		case m.Event != "":
			c.record(Event{m.Event, m.Data})
		default:
			c.deliver(m)
		}
	}
}

func (c *Client) record(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
	close(c.news)
	c.news = make(chan struct{})
}

func (c *Client) deliver(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer, ok := c.waiting[m.ID]; ok {
		delete(c.waiting, m.ID) // a second answer with this id has no receiver, and must not block the reader
		answer <- m
	}
}

var errEnded = errors.New("qmp: connection ended")

// fail returns the error of a client whose reader has ended.
func (c *Client) fail() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("%w: %w", errEnded, c.err)
}
