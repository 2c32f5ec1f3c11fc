package modload

// A State says where a module stands in the table.
type State uint8

// The states of a module, in the order in which it passes them.
const (
	Waiting   State = iota // a dependency has not ended yet
	Queued                 // could start; no loader is free
	Inserting              // handed to the kernel, no answer yet
	Live                   // in the kernel, its init function has returned
	Refused                // its init function said no; a later device may change that
	Failed                 // cannot be loaded; never tried again
	Builtin                // part of the kernel image
	Removing               // being taken out of the kernel
	Removed                // was in the kernel; a request brings it back
)

// String returns the lower-case word that logs, reports and tests use.
func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Queued:
		return "queued"
	case Inserting:
		return "inserting"
	case Live:
		return "live"
	case Refused:
		return "refused"
	case Failed:
		return "failed"
	case Builtin:
		return "builtin"
	case Removing:
		return "removing"
	case Removed:
		return "removed"
	}
	return "unknown"
}

// MarshalText lets reports carry the word instead of the number.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Ended reports whether the module will not change state by itself any more.
func (s State) Ended() bool { return s >= Live && s != Removing }

// usable reports whether a dependant may be inserted on top of the module.
func (s State) usable() bool { return s == Live || s == Builtin }

// A Kind says who asked for a module.
type Kind uint8

// The askers of modules.
const (
	Coldplug   Kind = iota // a device that was there before the uevent socket
	Uevent                 // a device that the kernel announced
	Named                  // a person, a configuration file, the engine itself
	Dependency             // a module that needs it
	Softdep                // a module that prefers it
	Present                // it was in the kernel before the Scheduler
	Upcall                 // the kernel's request_module
)

// String returns the lower-case word that logs, reports and tests use.
func (k Kind) String() string {
	switch k {
	case Coldplug:
		return "coldplug"
	case Uevent:
		return "uevent"
	case Named:
		return "named"
	case Dependency:
		return "dependency"
	case Softdep:
		return "softdep"
	case Present:
		return "present"
	case Upcall:
		return "upcall"
	}
	return "unknown"
}

// MarshalText lets reports carry the word instead of the number.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// An Origin is who asked and on whose behalf.
type Origin struct {
	Kind Kind `json:"kind"`
	// By is the DEVPATH of the device for Coldplug and Uevent, the module for
	// Dependency and Softdep, and a free word for Named.
	By string `json:"by,omitempty"`
}
