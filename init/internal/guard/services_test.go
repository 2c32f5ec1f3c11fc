package guard

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/control"
	"hapax/init/internal/service"
)

// placeServices makes an /etc that has nothing but a list of services.
func placeServices(list string) error {
	if err := unix.Mount("etc", "/etc", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(service.File), 0o755); err != nil {
		return err
	}
	return os.WriteFile(service.File, []byte(list), 0o644)
}

// An engine that dies at once, always, is given up; what waits for it to settle starts then.
func TestServicesWithoutEngine(t *testing.T) {
	list := service.Header + "\n" + shellService("late", "after settled\n")
	p := start(t, "crash", "TEST_SERVICES="+list, "TEST_CMDLINE=hapax.log=info quiet")
	seen := p.expect(t, "late begins")
	if !slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, "engine: start 6") }) {
		t.Errorf("late begins too early:\n%s", strings.Join(seen, "\n"))
	}
}

// shellService is a service that tells on the console when it begins and ends.
func shellService(name, more string) string {
	const script = `trap "echo %[1]s ends; exit 0" TERM; echo %[1]s begins; while :; do read -t 0.05 <> <(:); done`
	return fmt.Sprintf("service %s\nexec /bin/bash\narg -c\narg "+script+"\nlog console\n%s", name, more)
}

// The services of an image start in their order, can be asked for, and end in the reverse order before the machine does.
func TestServices(t *testing.T) {
	list := service.Header + "\n" +
		shellService("late", "after early\nafter settled\n") +
		shellService("early", "after base\n") +
		"service once\nexec /bin/bash\narg -c\narg echo once $0 $PATH; exit 3\narg x\ntype oneshot\nlog console\n"
	p := start(t, "settled", "TEST_SERVICES="+list, "TEST_CMDLINE=hapax.log=info quiet")
	seen := p.expect(t, "late begins")
	at := func(line string) int {
		return slices.IndexFunc(seen, func(s string) bool { return strings.Contains(s, line) })
	}
	if at("early begins") < 0 || at("engine: settled") < 0 {
		t.Errorf("late begins too early:\n%s", strings.Join(seen, "\n"))
	}
	if at("engine: no root 1") < 0 {
		t.Errorf("the engine was not told that there is no root:\n%s", strings.Join(seen, "\n"))
	}
	guard := control.GuardClient()
	guard.Path = fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, control.GuardPath)
	doc, err := guard.Services("once")
	for ; err == nil && strings.Contains(string(doc), `"state":"starting"`); doc, err = guard.Services("once") {
		time.Sleep(time.Millisecond) // it waits for nobody, and nobody for it
	}
	if err != nil || !strings.Contains(string(doc), `"state":"failed"`) || !strings.Contains(string(doc), "exit status 3") {
		t.Errorf("once: %s, %v", doc, err)
	}
	if err := guard.Service("restart", "late"); err != nil {
		t.Error(err)
	}
	if err := guard.Service("start", "nothing"); err == nil {
		t.Error("a service that is not there starts")
	}
	p.expect(t, "late ends")
	p.expect(t, "late begins")
	if err := p.cmd.Process.Signal(unix.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	// The guard's own lines come by way of a buffer, earlier or later than those of services.
	seen = append(p.expect(t, "late ends"), p.expect(t, "early ends")...)
	if !slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, "powering off") }) {
		p.expect(t, "powering off")
	}
}

// What the command line says has the last word.
func TestModes(t *testing.T) {
	list := service.Header + "\nservice x\nexec /bin/echo\narg the service\ntype oneshot\nlog console\n"
	for _, c := range []struct {
		cmdline string
		stays   bool
	}{
		{"root=/dev/x hapax.mode=standalone", true},
		{"quiet", true},
		{"root=/dev/x", false},
		{"hapax.mode=initramfs", false},
	} {
		p := start(t, "settled", "TEST_SERVICES="+list, "TEST_CMDLINE="+c.cmdline)
		if c.stays {
			p.expect(t, "the service")
			continue
		}
		if seen := strings.Join(p.expect(t, "engine: settled"), "\n"); strings.Contains(seen, "the service") || strings.Contains(seen, "no root 1") {
			t.Errorf("%s:\n%s", c.cmdline, seen)
		}
	}
}

// A list that cannot be read is told of; the machine comes up.
func TestBadList(t *testing.T) {
	p := start(t, "settled", "TEST_SERVICES="+service.Header+"\nservice x\nexex /bin/echo\n", "TEST_CMDLINE=hapax.mode=standalone")
	p.expect(t, service.File+": line 3: exex: unknown key: no service is started")
	p.expect(t, "engine: settled")
}
