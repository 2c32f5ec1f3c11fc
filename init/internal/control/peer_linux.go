package control

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// kthread is PF_KTHREAD of include/linux/sched.h.
const kthread = 0x00200000

// A peer is the process that has connected.
type peer struct {
	pid    int
	root   bool
	kernel bool   // started by the kernel itself, as a usermode helper
	by     string // the program that started it
}

// peerOf asks the kernel who is at the other end of a connection.
func peerOf(fd int) (peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peer{}, os.NewSyscallError("getsockopt", err)
	}
	return peer{pid: int(cred.Pid), root: cred.Uid == 0}, nil
}

// identify finds out on whose behalf the peer is there. Nobody but the kernel
// can make a process whose parent is a kernel thread, so there is nothing to
// forge. A peer that has ended already is nobody's.
func (p *peer) identify(proc string) {
	self, ok := readStat(proc, p.pid)
	if !ok || self.parent == 0 {
		return
	}
	if parent, ok := readStat(proc, self.parent); ok {
		p.by, p.kernel = parent.comm, parent.flags&kthread != 0
	}
}

// A stat is what this package needs of /proc/PID/stat.
type stat struct {
	comm   string
	parent int
	flags  uint64
}

func readStat(proc string, pid int) (stat, bool) {
	fd, err := unix.Open(proc+"/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return stat{}, false
	}
	defer unix.Close(fd)
	var buf [512]byte // the fields wanted are among the first 200 bytes
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return stat{}, false
	}
	return parseStat(buf[:n])
}

// parseStat reads "PID (COMM) STATE PPID PGRP SESSION TTY TPGID FLAGS ...". COMM
// is whatever the process calls itself, so it ends at the last parenthesis.
func parseStat(line []byte) (s stat, ok bool) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return s, false
	}
	fields := bytes.Fields(line[end+1:])
	if len(fields) < 7 {
		return s, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return s, false
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 64)
	return stat{string(line[open+1 : end]), parent, flags}, err == nil
}
