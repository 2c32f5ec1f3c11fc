package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Ready looks for what the service said that it would make.
func (p *process) Ready() bool {
	switch r := p.spec.Ready; r.Kind {
	case ReadyFile:
		// What an earlier process has left behind says nothing about this one.
		var st unix.Stat_t
		return unix.Lstat(r.Path, &st) == nil && (st.Ino != p.before.Ino || st.Dev != p.before.Dev || st.Ctim != p.before.Ctim)
	case ReadySocket:
		return takesConnections(r.Path)
	case ReadyTCP:
		return listens("/proc/net/tcp", r.Port) || listens("/proc/net/tcp6", r.Port)
	}
	return true
}

// takesConnections reports whether somebody is behind the unix socket at path. A stream socket sees a client that leaves at
// once; for sockets of another kind it is enough that one is bound.
func takesConnections(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	return err == nil || errors.Is(err, unix.EPROTOTYPE) || errors.Is(err, unix.EAGAIN)
}

// listens reports whether a table as /proc/net/tcp has a socket that listens at a port. The kernel lists those first, so the
// beginning is enough, and no connection is made that the service would see.
func listens(table string, port uint16) bool {
	f, err := os.Open(table)
	if err != nil {
		return false
	}
	defer f.Close()
	const enough = 128 << 10 // bytes
	text, _ := io.ReadAll(io.LimitReader(f, enough))
	want := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(string(text)) {
		// sl local_address rem_address st ...; 0A is TCP_LISTEN
		if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], want) {
			return true
		}
	}
	return false
}
