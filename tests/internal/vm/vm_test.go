package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
)

// boot starts the echo guest and waits until it answers.
func boot(t *testing.T, cfg Config) *VM {
	t.Helper()
	cfg.Machine = echoMachine(t)
	v := Run(t, t.TempDir(), cfg)
	if _, err := v.WaitLine(time.Minute, ready); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *VM) must(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if err := v.Send(l); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConsole(t *testing.T) {
	v := boot(t, Config{})
	v.must(t, "one\r", "two 42", "two 43")
	if got, err := v.WaitLine(time.Minute, "on"); err != nil || got != "one" {
		t.Errorf("WaitLine = %q, %v, want one without its CR", got, err)
	}
	number := regexp.MustCompile(`two (\d+)`)
	for _, want := range []string{"42", "43"} {
		if got, err := v.WaitMatch(time.Minute, number); err != nil || got[1] != want {
			t.Errorf("WaitMatch = %q, %v, want group %s", got, err, want)
		}
	}
	if got, err := v.WaitMatch(10*time.Millisecond, number); !errors.Is(err, ErrTimeout) || got != nil {
		t.Errorf("WaitMatch of lines seen = %q, %v, want a time-out", got, err)
	}
	var text []string
	for _, l := range v.Lines() {
		text = append(text, l.Text)
	}
	if got := strings.Join(text, "|"); !strings.HasSuffix(got, ready+"|one|two 42|two 43") {
		t.Errorf("Lines = %q, want all lines in order", got)
	}
}

func TestPanic(t *testing.T) {
	v := boot(t, Config{})
	v.must(t, "[    1.0] Kernel panic - not syncing: Attempted to kill init!", "Call Trace:")
	waited := make(chan error)
	go func() {
		_, err := v.WaitLine(time.Hour, "never printed")
		waited <- err
	}()
	if _, err := v.WaitLine(time.Hour, "never printed either"); !errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), "Attempted") {
		t.Errorf("WaitLine after a panic: %v, want ErrPanic with the kernel's line", err)
	}
	if err := <-waited; !errors.Is(err, ErrPanic) {
		t.Errorf("second wait: %v, want ErrPanic", err)
	}
}

func TestExpectedPanic(t *testing.T) {
	v := boot(t, Config{Panics: true})
	v.must(t, "Kernel panic - not syncing: as planned", "after")
	if _, err := v.WaitLine(time.Minute, "after"); err != nil {
		t.Error(err)
	}
}

// TestQuit ends a guest whose last line has no end.
func TestQuit(t *testing.T) {
	v := boot(t, Config{})
	if _, err := fmt.Fprint(v.stdin, "cut o"); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if lines := v.Lines(); strings.HasSuffix(lines[len(lines)-1].Text, "cut o") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := v.QMP.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.WaitExit(time.Minute); err != nil {
		t.Errorf("WaitExit after quit: %v, want nil", err)
	}
	if got, err := v.WaitLine(time.Minute, "cut"); err != nil || got != "cut o" {
		t.Errorf("WaitLine = %q, %v, want the line that the exit cut", got, err)
	}
	if _, err := v.WaitLine(time.Hour, "more"); !errors.Is(err, ErrExited) {
		t.Errorf("WaitLine on a guest that has ended: %v, want ErrExited", err)
	}
}

func TestLimit(t *testing.T) {
	m := echoMachine(t)
	m.Extra = []string{"-S"}
	v := Run(t, t.TempDir(), Config{Machine: m, Limit: 2 * time.Second})
	if _, err := v.WaitLine(time.Hour, "never printed"); !errors.Is(err, ErrExited) || !errors.Is(err, ErrLimit) {
		t.Errorf("WaitLine past the guest's limit: %v, want ErrExited by ErrLimit", err)
	}
}

// TestHotplug uses a guest whose CPUs do not run: QEMU plugs devices all the same.
func TestHotplug(t *testing.T) {
	m := echoMachine(t)
	m.Extra = []string{"-S"}
	v := Run(t, t.TempDir(), Config{Machine: m})
	ctx := t.Context()
	if err := v.QMP.AddBlock(ctx, map[string]any{"driver": "null-co", "node-name": "null0", "size": 1 << 20}); err != nil {
		t.Fatal(err)
	}
	device := map[string]any{"driver": "virtio-blk-pci", "id": "new", "drive": "null0", "bus": qemu.HotplugPort(0)}
	if err := v.QMP.AddDevice(ctx, device); err != nil {
		t.Fatal(err)
	}
	if err := v.QMP.AddDevice(ctx, device); err == nil {
		t.Error("a second device with the same id was accepted")
	}
	// The stopped guest never answers the request to let the device go.
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := v.QMP.RemoveDevice(ctx, "new"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("RemoveDevice: %v, want a deadline", err)
	}
}

func TestStartFails(t *testing.T) {
	m := echoMachine(t)
	m.Extra = []string{"-device", "flux-capacitor"}
	if _, err := Start(t.Context(), Config{Machine: m}); !errors.Is(err, ErrExited) || !strings.Contains(err.Error(), "flux-capacitor") {
		t.Errorf("Start: %v, want ErrExited with what QEMU said", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.Extra = nil
	if _, err := Start(ctx, Config{Machine: m}); !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v, want Canceled", err)
	}
}

func TestSlowness(t *testing.T) {
	for value, want := range map[string]float64{"": 1, "1": 1, "2.5": 2.5} {
		if got, err := slowness(value); err != nil || got != want {
			t.Errorf("slowness(%q) = %v, %v, want %v", value, got, err, want)
		}
	}
	for _, value := range []string{"0.5", "NaN", "1e9", "slow"} {
		if got, err := slowness(value); err == nil {
			t.Errorf("slowness(%q) = %v, want an error", value, got)
		}
	}
}

func TestLogKept(t *testing.T) {
	lines := []Line{{1500 * time.Millisecond, "a"}, {2 * time.Second, "b"}}
	path, err := save(filepath.Join(t.TempDir(), "logs"), "TestX/6.1", lines)
	if err != nil {
		t.Fatal(err)
	}
	if base := filepath.Base(path); base != "TestX_6.1.log" {
		t.Errorf("log file %s, want TestX_6.1.log", base)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "[+   1.500] a\n[+   2.000] b\n" {
		t.Errorf("log = %q, %v", got, err)
	}
}

func TestConsoleBounded(t *testing.T) {
	c := newConsole()
	if _, err := c.Write(make([]byte, 3*maxLine+3)); err != nil {
		t.Fatal(err)
	}
	c.end()
	for i, l := range c.snapshot() {
		if len(l.Text) > maxLine {
			t.Errorf("line %d has %d bytes, want at most %d", i, len(l.Text), maxLine)
		}
	}
}

// TestEarlyDeath tells a kernel that died before it started init from one whose death a test has to see.
func TestEarlyDeath(t *testing.T) {
	const (
		oops  = "[    2.49] Kernel panic - not syncing: Fatal exception in interrupt\n"
		init  = "[    2.50] Run /init as init process\n"
		noOne = "[    2.60] Kernel panic - not syncing: VFS: Unable to mount root fs\n"
	)
	tests := []struct {
		name, text string
		end        bool
		want       earlyState
	}{
		{name: "boots", text: "[    0.0] Linux version\n", want: booting},
		{name: "has started init", text: init, want: started},
		{name: "died before", text: oops, want: diedEarly},
		{name: "died after", text: init + oops, want: started},
		{name: "has no init", text: noOne, want: started},
		{name: "ended", text: "SeaBIOS\n", end: true, want: started},
	}
	for _, tt := range tests {
		c := newConsole()
		if _, err := c.Write([]byte(tt.text)); err != nil {
			t.Fatal(err)
		}
		if tt.end {
			c.end()
		}
		if got, _ := c.early(); got != tt.want {
			t.Errorf("%s: early = %v, want %v", tt.name, got, tt.want)
		}
	}
}
