// Package guest is what a test and the program inside its guest say to each other on the serial console: commands of one
// line, answers of one line that begin with Prefix and go on as JSON. The program is tests/guest.
package guest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Prefix begins each line of the guest program, which shares the console with the kernel and with /init.
const Prefix = "guest: "

// Ready is the line with which the program says that it takes commands.
const Ready = Prefix + "ready"

// The commands. Those with an argument take the rest of the line.
const (
	Modules  = "modules"  // []Module
	Drivers  = "drivers"  // []Device
	Finit    = "finit"    // Trace
	Report   = "report"   // the content of /run/hapax/boot.json
	Clocks   = "clock"    // Clock
	Uevents  = "uevents"  // []Uevent, from the given index of the list on
	Quiet    = "quiet"    // nothing; answers when devices have stopped to appear
	Cat      = "cat"      // string: the content of the file named
	List     = "ls"       // []string: the names in the folder named
	Nodes    = "nodes"    // []Node: the device files and links below /dev
	Dmesg    = "dmesg"    // string: the kernel's log
	Kexec    = "kexec"    // nothing; loads KERNEL INITRAMFS ARGUMENT... for the next reboot
	PowerOff = "poweroff" // no answer
)

// A Reply is the answer to one command, or an announcement under a name of its own.
type Reply struct {
	Command string          `json:"cmd"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// A Module is a line of /proc/modules.
type Module struct {
	Name  string `json:"name"`
	State string `json:"state"` // "Live", "Loading" or "Unloading"
}

// A Device is a device of sysfs that has a modalias or a driver.
type Device struct {
	Path     string `json:"path"` // below /sys, with a leading slash
	Modalias string `json:"modalias,omitempty"`
	Driver   string `json:"driver,omitempty"`
}

// A Node is a device file, or a link, below /dev.
type Node struct {
	Name string `json:"name"`           // without /dev/
	Link string `json:"link,omitempty"` // where it leads to, "" for a device file
	Mode uint32 `json:"mode,omitempty"` // the permissions of a device file, and its owners
	UID  uint32 `json:"uid,omitempty"`
	GID  uint32 `json:"gid,omitempty"`
}

// A Trace sums up the system calls since boot that insert modules. It needs the kernel arguments TraceArgs.
type Trace struct {
	Finit   Calls          `json:"finit"`   // finit_module
	Init    Calls          `json:"init"`    // init_module, as libkmod uses it for a file that it unpacked itself
	Callers map[string]int `json:"callers"` // calls by "comm-pid" of the thread
	Lost    bool           `json:"lost"`    // the buffer was too small: the figures are too low
}

// Calls counts the calls of one kind.
type Calls struct {
	Total   int            `json:"total"`
	Results map[string]int `json:"results"` // by errno's name; "0" is success; a call that has not returned is missing
}

// TraceArgs are the kernel arguments that record these calls from the first instruction of PID 1 on.
const TraceArgs = "trace_event=" + traceEvents + " trace_buf_size=8M"

const traceEvents = "syscalls:sys_enter_finit_module,syscalls:sys_exit_finit_module," +
	"syscalls:sys_enter_init_module,syscalls:sys_exit_init_module"

// A Clock is the guest's time since its boot. The two differ by the time that it was suspended.
type Clock struct {
	Monotonic time.Duration `json:"monotonic"`
	Boottime  time.Duration `json:"boottime"`
}

// A Uevent is a message of the kernel and the time at which the program received it.
type Uevent struct {
	At        time.Duration `json:"at"` // CLOCK_MONOTONIC
	Action    string        `json:"action"`
	DevPath   string        `json:"devpath"`
	Subsystem string        `json:"subsystem,omitempty"`
	Driver    string        `json:"driver,omitempty"`
	Modalias  string        `json:"modalias,omitempty"`
}

// Start is announced as "start" by the program when it runs as PID 1, before it does anything else.
type Start struct {
	Clock time.Duration `json:"clock"` // CLOCK_MONOTONIC
	TSC   uint64        `json:"tsc"`   // time stamp counter, from power-on; 0 on other processors than amd64
	Args  []string      `json:"args"`
	Env   []string      `json:"env"`
}

// Coldplug is announced as "udevd" when systemd-udevd has handled the devices that were there at boot.
type Coldplug struct {
	Trigger time.Duration `json:"trigger"` // CLOCK_MONOTONIC when udevadm trigger was started
	Settled time.Duration `json:"settled"` // and when udevadm settle had ended
}

// A Console is the host's end of the serial line: *vm.VM.
type Console interface {
	Send(line string) error
	WaitLine(timeout time.Duration, text string) (string, error)
}

// Await waits for an announcement and stores what it says in result.
func Await(c Console, timeout time.Duration, name string, result any) error {
	line, err := c.WaitLine(timeout, Prefix+`{"cmd":"`+name+`"`)
	if err != nil {
		return err
	}
	return decode(line, name, result)
}

// A Client gives commands to a program that has said Ready.
type Client struct {
	Console Console
	Timeout time.Duration // for each answer; 0 is a minute
}

// Ask gives one command and stores the answer in result. Calls must not overlap.
func (c Client) Ask(command, argument string, result any) error {
	line := command
	if argument != "" {
		line += " " + argument
	}
	if err := c.Console.Send(line); err != nil {
		return err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	return Await(c.Console, timeout, command, result)
}

func decode(line, command string, result any) error {
	_, text, _ := strings.Cut(line, Prefix) // what is before it was left unfinished by someone else
	var r Reply
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return fmt.Errorf("guest: answer to %s: %w: %.80q", command, err, text)
	}
	if r.Error != "" {
		return fmt.Errorf("guest: %s: %s", command, r.Error)
	}
	if result == nil || len(r.Result) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("guest: answer to %s: %w", command, err)
	}
	return nil
}
