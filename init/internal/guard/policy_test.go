package guard

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestShellProgram: without a word of the image that allows it there is no shell.
func TestShellProgram(t *testing.T) {
	t.Parallel()
	const hash = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2E\n"
	for _, tt := range []struct {
		name         string
		shell, login bool
		policy       string // "-": no file
		want, reason string
	}{
		{"allowed", true, false, "shell\n", "shell", ""},
		{"password", true, true, hash, "login", ""},
		{"password without login", true, false, hash, "", "no program to ask"},
		{"no policy", true, true, "-", "", "nobody"},
		{"empty policy", true, true, "", "", "nobody"},
		{"none", true, true, "none\n", "", "nobody"},
		{"shell, cut", true, true, "shell", "", "nobody"},
		{"shell and more", true, true, "shell\n\n", "", "nobody"},
		{"long", true, true, strings.Repeat("shell\n", 1000), "", "nobody"},
		{"no shell", false, true, "shell\n", "", "has no shell"},
	} {
		dir := t.TempDir()
		file := func(name, text string, mode os.FileMode) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
			return path
		}
		shell, login, policy := filepath.Join(dir, "shell"), filepath.Join(dir, "login"), filepath.Join(dir, "policy")
		if tt.shell {
			file("shell", "", 0o755)
		}
		if tt.login {
			file("login", "", 0o755)
		}
		if tt.policy != "-" {
			file("policy", tt.policy, 0o600)
		}
		program, reason := shellProgram(shell, policy, login)
		if program != "" {
			program = filepath.Base(program)
		}
		if program != tt.want || !strings.Contains(reason, tt.reason) || (program == "") == (reason == "") {
			t.Errorf("%s: program %q, reason %q; want %q, %q", tt.name, program, reason, tt.want, tt.reason)
		}
	}
}

func TestKmsgLine(t *testing.T) {
	t.Parallel()
	for record, want := range map[string]string{
		"6,339,5140900,-;NET: Registered protocol family 10\n":       "[5.140900] NET: Registered protocol family 10",
		"4,340,5690716,-,caller=T1;udevd[80]: two\n SUBSYSTEM=pci\n": "[5.690716] udevd[80]: two",
		"30,341,61000007,-;from user space\n":                        "[61.000007] from user space",
		"3,1,0,-;a;b\n":                                              "[0.000000] a;b",
		"3,1,0,-;\x1b[2J\n":                                          "[0.000000] ?[2J",
		"3,1,0,-;" + strings.Repeat("x", 5000):                       "[0.000000] " + strings.Repeat("x", 200),
		"7,1,0,-;debug\n":                                            "", "": "", "6,1;short\n": "", "x,1,0,-;y\n": "", "6,1,y,-;z\n": "", "no semicolon": "",
	} {
		if line, ok := kmsgLine(record); line != want || ok != (want != "") {
			t.Errorf("kmsgLine(%.40q) = %q, %v; want %q", record, line, ok, want)
		}
	}
}
