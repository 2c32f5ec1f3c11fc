// Package nbd serves a disk that a test makes up, by the protocol of network block devices, so that QEMU can give a guest a
// disk that answers as slowly and as wrongly as the test wants.
//
// It is the least that QEMU's client needs: the fixed newstyle handshake and simple replies
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Disk is what a Server shows.
type Disk struct {
	Size int64 // in bytes
	// Read fills p with what is at off; the disk answers EIO for any error. It is called for several requests at one time.
	Read func(p []byte, off int64) error
}

// Serve listens on a socket of the given path and serves d, which is read-only, to everybody who connects, until the listener
// is closed.
func Serve(path string, d Disk) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				s := session{d: d, r: bufio.NewReader(conn), w: conn}
				if s.negotiate() == nil {
					s.transmit()
				}
			}()
		}
	}()
	return l, nil
}

// A session is one connection.
type session struct {
	d Disk
	r *bufio.Reader

	mu sync.Mutex // for replies, which may come in any order
	w  io.Writer
}

// What the two sides say to each other.
const (
	greeting      = "NBDMAGICIHAVEOPT"
	optionMagic   = 0x49484156454f5054
	replyMagic    = 0x3e889045565a9
	requestMagic  = 0x25609513
	simpleMagic   = 0x67446698
	fixedNewstyle = 1

	optionAbort, optionInfo, optionGo                   = 2, 6, 7
	replyAck, replyInfo, replyUnsupported               = 1, 3, 1<<31 | 1
	infoExport                                          = 0
	hasFlags, readOnly                                  = 1, 2
	commandRead, commandDisconnect, commandFlush        = 0, 2, 3
	errorIO, errorInvalid                               = 5, 22
	maxOption, maxRead                           uint32 = 64 << 10, 32 << 20
)

func (s *session) write(parts ...any) error {
	var b []byte
	for _, p := range parts {
		if raw, ok := p.([]byte); ok {
			b = append(b, raw...)
			continue
		}
		var err error
		if b, err = binary.Append(b, binary.BigEndian, p); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(b)
	return err
}

func (s *session) read(into any) error { return binary.Read(s.r, binary.BigEndian, into) }

var errEnd = errors.New("nbd: the client has had enough")

// negotiate goes through the client's options until it takes the export, whichever it asks for.
func (s *session) negotiate() error {
	var flags uint32
	if err := errors.Join(s.write([]byte(greeting), uint16(fixedNewstyle)), s.read(&flags)); err != nil {
		return err
	}
	for {
		var o struct {
			Magic       uint64
			Option, Len uint32
		}
		if err := s.read(&o); err != nil {
			return err
		}
		if o.Magic != optionMagic || o.Len > maxOption {
			return fmt.Errorf("nbd: option %+v", o)
		}
		if _, err := s.r.Discard(int(o.Len)); err != nil {
			return err
		}
		reply := func(kind uint32, data []byte) error {
			return s.write(uint64(replyMagic), o.Option, kind, uint32(len(data)), data)
		}
		switch o.Option {
		case optionAbort:
			return errEnd
		case optionInfo, optionGo:
			export := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, infoExport), uint64(s.d.Size))
			export = binary.BigEndian.AppendUint16(export, hasFlags|readOnly)
			if err := errors.Join(reply(replyInfo, export), reply(replyAck, nil)); err != nil || o.Option == optionGo {
				return err
			}
		default:
			if err := reply(replyUnsupported, nil); err != nil {
				return err
			}
		}
	}
}

// transmit answers requests until the client goes.
func (s *session) transmit() {
	for {
		var q struct {
			Magic       uint32
			Flags, Type uint16
			Cookie, Off uint64
			Len         uint32
		}
		if err := s.read(&q); err != nil || q.Magic != requestMagic || q.Type == commandDisconnect {
			return
		}
		reply := func(code uint32, data []byte) { _ = s.write(uint32(simpleMagic), code, q.Cookie, data) } // who went reads nothing
		switch {
		case q.Type == commandFlush:
			reply(0, nil)
		case q.Type != commandRead || q.Len > maxRead || q.Off > uint64(s.d.Size) || uint64(q.Len) > uint64(s.d.Size)-q.Off:
			reply(errorInvalid, nil)
		default:
			go func() {
				p := make([]byte, q.Len)
				if err := s.d.Read(p, int64(q.Off)); err != nil {
					reply(errorIO, nil)
				} else {
					reply(0, p)
				}
			}()
		}
	}
}
