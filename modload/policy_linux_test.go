package modload

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadPolicy(t *testing.T) {
	t.Parallel()
	const (
		disabled = "proc/sys/kernel/modules_disabled"
		enforce  = "sys/module/module/parameters/sig_enforce"
		lockdown = "sys/kernel/security/lockdown"
	)
	tests := []struct {
		name    string
		files   map[string]string
		bounded bool   // without CAP_SYS_MODULE
		barred  string // part of the reason; "" if not
		signed  string
	}{
		{name: "nothing there"},
		{name: "the usual", files: map[string]string{disabled: "0\n", enforce: "N\n", lockdown: "[none] integrity confidentiality\n"}},
		{name: "disabled", files: map[string]string{disabled: "1\n"}, barred: "kernel.modules_disabled"},
		{name: "no capability", bounded: true, barred: "CAP_SYS_MODULE"},
		{name: "sig_enforce", files: map[string]string{enforce: "Y\n"}, signed: "module.sig_enforce"},
		{name: "integrity", files: map[string]string{lockdown: "none [integrity] confidentiality\n"}, signed: "kernel lockdown"},
		{name: "confidentiality", files: map[string]string{lockdown: "none integrity [confidentiality]\n"}, signed: "kernel lockdown"},
	}
	for _, tt := range tests {
		root := t.TempDir()
		for name, content := range tt.files {
			file := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		p := readPolicy(root, !tt.bounded)
		if p.signed != tt.signed {
			t.Errorf("%s: signatures demanded by %q, want %q", tt.name, p.signed, tt.signed)
		}
		switch {
		case (p.barred != nil) != (tt.barred != ""):
			t.Errorf("%s: barred: %v", tt.name, p.barred)
		case p.barred != nil && (!errors.Is(p.barred, ErrBarred) || !strings.Contains(p.barred.Error(), tt.barred)):
			t.Errorf("%s: barred: %v, want ErrBarred with %q", tt.name, p.barred, tt.barred)
		}
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	signed, unsigned := "\x7fELF...PKCS#7"+signature, "\x7fELF and then nothing"
	for _, content := range []string{signed, unsigned, "short", signature, signature + "\n"} {
		f, err := os.Create(filepath.Join(t.TempDir(), "m.ko"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		fd, size := int(f.Fd()), int64(len(content))
		if err := new(policy).admit(fd, size); err != nil {
			t.Errorf("%q is kept out without a reason: %v", content, err)
		}
		err = (&policy{signed: "module.sig_enforce"}).admit(fd, size)
		if want := strings.HasSuffix(content, signature); (err == nil) != want {
			t.Errorf("%q: %v, want it let in: %v", content, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "module.sig_enforce") {
			t.Errorf("%q: %v does not name what demands a signature", content, err)
		}
	}
}
