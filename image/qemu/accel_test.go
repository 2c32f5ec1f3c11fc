package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hapax/tests/need"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	intel := write("intel", "processor\t: 0\nflags\t\t: fpu vmx sse\n")
	amd := write("amd", "flags : fpu svm\n")
	plain := write("plain", "model name : vmx svm\nflags\t\t: fpu vmxish sse\n")
	device := write("kvm", "")
	absent := filepath.Join(dir, "absent")
	works := func(context.Context, Accel) error { return nil }
	breaks := func(context.Context, Accel) error { return errors.New("the trial guest hung for 5s") }
	never := func(context.Context, Accel) error { t.Error("unexpected trial"); return nil }

	for _, tt := range []struct {
		name   string
		p      prober
		want   string
		accel  Accel
		reason string // part of the reason, or of the error if accel is ""
	}{
		{"tcg asked for", prober{absent, absent, never}, "tcg", TCG, "asked for"},
		{"intel", prober{intel, device, works}, "auto", KVM, "trial guest ran"},
		{"amd", prober{amd, device, works}, "", KVM, "trial guest ran"},
		{"kvm asked for", prober{amd, device, works}, "kvm", KVM, "trial guest ran"},
		{"no flag", prober{plain, device, never}, "auto", TCG, "neither vmx nor svm"},
		{"no cpuinfo", prober{absent, device, never}, "auto", TCG, "no such file"},
		{"no device", prober{intel, absent, never}, "auto", TCG, "no such file"},
		{"trial hangs", prober{intel, device, breaks}, "auto", TCG, "hung"},
		{"kvm asked for, trial hangs", prober{intel, device, breaks}, "kvm", "", "hung"},
		{"unknown", prober{intel, device, never}, "xen", "", `"xen"`},
	} {
		accel, reason, err := tt.p.probe(t.Context(), tt.want)
		if err != nil {
			reason = err.Error()
		}
		if accel != tt.accel || (err == nil) != (accel != "") || !strings.Contains(reason, tt.reason) {
			t.Errorf("%s: probe = %q, %q, %v; want %q and %q", tt.name, accel, reason, err, tt.accel, tt.reason)
		}
	}
}

func TestProbeCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := prober{cpuinfo: "/nonexistent"}
	if _, _, err := p.probe(ctx, "auto"); !errors.Is(err, context.Canceled) {
		t.Errorf("probe with a cancelled context = %v, want context.Canceled", err)
	}
}

// The trial must pass where a guest certainly runs, or it would call every KVM broken.
func TestTrialGuestUnderTCG(t *testing.T) {
	t.Parallel()
	need.Tools(t, Binary)
	if err := runTrial(t.Context(), TCG); err != nil {
		t.Error(err)
	}
	if err := runTrial(t.Context(), "no-such-accelerator"); err == nil {
		t.Error("runTrial with an unknown accelerator succeeded")
	}
}
