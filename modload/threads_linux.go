package modload

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// threads says which thread inserts which module, so that a request of the
// kernel can be traced to the init function that waits for it.
type threads struct {
	mu      sync.Mutex
	modules map[int]string // by thread id
}

// enter notes that the calling thread, which is locked, inserts a module. The
// result ends that.
func (t *threads) enter(module string) (leave func()) {
	tid := unix.Gettid()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.modules == nil {
		t.modules = map[int]string{}
	}
	t.modules[tid] = module
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.modules, tid)
	}
}

// Inserter returns the module that a thread of this process inserts at the
// moment, "" for any other thread.
func (k *Kernel) Inserter(tid int) string {
	k.threads.mu.Lock()
	defer k.threads.mu.Unlock()
	return k.threads.modules[tid]
}

// Asking reports whether the init function of the module waits for an answer
// to a request of its own, as far as the kernel tells: with a stack trace, or
// else with the function that the thread sleeps in. It is an Options.Asking.
func (k *Kernel) Asking(module string) bool {
	k.threads.mu.Lock()
	tid := 0
	for id, name := range k.threads.modules {
		if name == module {
			tid = id
		}
	}
	k.threads.mu.Unlock()
	return tid != 0 && asking("/proc/self/task/"+strconv.Itoa(tid))
}

// asking is Asking for the folder of a thread in procfs.
func asking(task string) bool {
	for _, name := range []string{"/stack", "/wchan"} {
		b, err := os.ReadFile(task + name)
		if err != nil || len(b) == 0 {
			continue
		}
		text := string(b)
		if strings.Contains(text, "__request_module") || strings.Contains(text, "call_usermodehelper") {
			return true
		}
	}
	return false
}
