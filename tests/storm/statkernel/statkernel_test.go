package statkernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/internal/debian"
)

func TestPatch(t *testing.T) {
	p := patch{"main.c", "b\n", "x\nb\n"}
	if got, err := p.apply("a\nb\nc\n"); err != nil || got != "a\nx\nb\nc\n" {
		t.Errorf("apply = %q, %v", got, err)
	}
	for _, text := range []string{"a\nc\n", "b\nb\n"} {
		if got, err := p.apply(text); err == nil || !strings.Contains(err.Error(), "main.c") {
			t.Errorf("apply to %q = %q, %v, want an error that names the file", text, got, err)
		}
	}
	if n := strings.Count(noMerge().new, "\n") - strings.Count(noMerge().old, "\n"); n != 2 {
		t.Errorf("the patch adds %d lines, want 2", n)
	}
}

func TestMissing(t *testing.T) {
	const want = "# a comment\n\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\nCONFIG_E=\"x\"\n"
	const got = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=m\n# CONFIG_F is not set\n"
	if d := cmp.Diff([]string{"CONFIG_B=m", "# CONFIG_C is not set", `CONFIG_E="x"`}, missing(want, got)); d != "" {
		t.Errorf("missing (-want +got):\n%s", d)
	}
}

// The options that the bench stands on are in the fragment, whatever else it holds.
func TestConfig(t *testing.T) {
	for _, line := range []string{
		"CONFIG_MODULE_STATS=y", "CONFIG_MODULE_DEBUG_AUTOLOAD_DUPS=y", "CONFIG_FTRACE_SYSCALLS=y", "CONFIG_MAXSMP=y",
		"CONFIG_KVM=m", "CONFIG_CRYPTO_AES_NI_INTEL=m", "CONFIG_VIRTIO=m", "CONFIG_BLK_DEV_NVME=m", "# CONFIG_DRM is not set",
	} {
		if !strings.Contains(config, line+"\n") {
			t.Errorf("storm.config has no %s", line)
		}
	}
}

// What was built by the same recipe is used again; nothing is run, and no source is needed.
func TestKernelsFromCache(t *testing.T) {
	b := &Builder{Dir: t.TempDir(), Logf: t.Logf}
	source := debian.Package{Name: SourcePackage, Version: "6.12-1"}
	compiler, err := os.Readlink("/usr/bin/gcc")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ name, text string }{
		{"recipe", recipe(source.Version, compiler, config, noMerge().new)},
		{"root/boot/vmlinuz-stats", ""}, {"root/boot/vmlinuz-nomerge", ""}, {"root/lib/modules/6.12-storm/modules.dep", ""},
	} {
		file := b.path(f.name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(f.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kernels, err := b.Kernels(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	if k := kernels[NoMerge]; len(kernels) != 2 || k.Release != "6.12-storm" || filepath.Base(k.Vmlinuz) != "vmlinuz-nomerge" {
		t.Errorf("kernels = %+v", kernels)
	}
	// Another version is built, which fails here for want of its source.
	source.Version, source.Root = "6.12-2", t.TempDir()
	if _, err := b.Kernels(t.Context(), source); err == nil || !strings.Contains(err.Error(), "statistics kernel") {
		t.Errorf("Kernels of another version = %v, want an attempt to build it", err)
	}
}
