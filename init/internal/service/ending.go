package service

import "strings"

// Stop ends all services, each after those that are after it, and starts none any more. The channel is closed when no service
// runs, but for processes that cannot be killed. It may be called again.
func (m *Manager) Stop() <-chan struct{} {
	m.ending = true
	for _, u := range m.units {
		if u.state == Waiting || u.state == Pausing {
			u.enter(Stopped)
		}
	}
	m.advance()
	return m.end
}

// Running returns the names of the services that have a process, for what is said about a machine that does not go down.
func (m *Manager) Running() string {
	var names []string
	for _, u := range m.units {
		if u.proc != nil {
			names = append(names, u.Name)
		}
	}
	return strings.Join(names, ", ")
}

// down reports whether each service is.
func (m *Manager) down() bool {
	for _, u := range m.units {
		if !u.down() {
			return false
		}
	}
	return true
}
