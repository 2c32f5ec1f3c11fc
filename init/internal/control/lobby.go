package control

import (
	"container/list"
	"os"
	"sync"
	"time"
)

// A lobby is where clients are until their request has come. It never holds
// more than its size: enter makes the one that has waited longest leave. So a
// client that sends its request at once is served, however many others there
// are that send none.
type lobby struct {
	size int

	mu    sync.Mutex
	left  sync.Cond
	conns list.List // of *os.File, the longest waiting first
}

func newLobby(size int) *lobby {
	l := &lobby{size: size}
	l.left.L = &l.mu
	return l
}

// enter lets conn in for at most stay, once there is room. Only the goroutine
// that accepts may call it.
func (l *lobby) enter(conn *os.File, stay time.Duration) *list.Element {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.conns.Len() >= l.size {
		// Its Read returns, and its goroutine leaves.
		_ = l.conns.Front().Value.(*os.File).SetReadDeadline(time.Unix(1, 0))
		l.left.Wait()
	}
	_ = conn.SetReadDeadline(time.Now().Add(stay))
	return l.conns.PushBack(conn)
}

// leave takes a client out. It may be called more than once.
func (l *lobby) leave(e *list.Element) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Value == nil {
		return
	}
	l.conns.Remove(e)
	e.Value = nil
	l.left.Signal()
}
