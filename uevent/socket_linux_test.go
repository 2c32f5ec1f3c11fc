package uevent

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestFromKernel(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*netlinkSocket)
		want   bool
	}{
		{"kernel", func(*netlinkSocket) {}, true},
		{"port of a process", func(s *netlinkSocket) { s.from.Pid = 4242 }, false},
		{"group of udevd", func(s *netlinkSocket) { s.from.Groups = 2 }, false},
		{"unicast", func(s *netlinkSocket) { s.from.Groups = 0 }, false},
		{"no address", func(s *netlinkSocket) { s.msg.Namelen = 0 }, false},
		{"injected by a process", func(s *netlinkSocket) { s.control.Ucred.Pid = 4242 }, false},
		{"another user", func(s *netlinkSocket) { s.control.Uid = 1000 }, false},
		{"no credentials", func(s *netlinkSocket) { s.control = credentials{} }, false},
		{"another control message", func(s *netlinkSocket) { s.control.Type = unix.SCM_RIGHTS }, false},
		{"short credentials", func(s *netlinkSocket) { s.control.Len-- }, false},
		{"control data cut off", func(s *netlinkSocket) { s.msg.Flags = unix.MSG_CTRUNC }, false},
	}
	for _, tt := range tests {
		var s netlinkSocket
		s.msg.Namelen = unix.SizeofSockaddrNetlink
		s.from.Groups = 1
		s.control.Level, s.control.Type = unix.SOL_SOCKET, unix.SCM_CREDENTIALS
		s.control.SetLen(unix.CmsgLen(unix.SizeofUcred))
		tt.change(&s)
		if got := s.fromKernel(); got != tt.want {
			t.Errorf("%s: fromKernel() = %v, want %v", tt.name, got, tt.want)
		}
	}
}
