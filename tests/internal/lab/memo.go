package lab

import (
	"os"
	"path/filepath"
	"sync"
)

// A memo makes each named file once, however many tests ask for it. The zero memo is ready.
type memo struct {
	mu   sync.Mutex // protects made, not the making
	made map[string]func() (string, error)
}

// file returns what made returned when it was asked for key the first time. Others wait for that.
func (m *memo) file(key string, made func() (string, error)) (string, error) {
	m.mu.Lock()
	if m.made == nil {
		m.made = make(map[string]func() (string, error))
	}
	once, ok := m.made[key]
	if !ok {
		once = sync.OnceValues(made)
		m.made[key] = once
	}
	m.mu.Unlock()
	return once()
}

// create has fill write a file that appears at path when it is whole. Processes that write the same path do not meet.
func create(path string, fill func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing of that name
	if err := fill(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
