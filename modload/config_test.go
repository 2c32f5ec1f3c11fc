package modload_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"hapax/modload"
	"hapax/modload/modindex"
	"hapax/modload/modloadtest"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := modindex.ParseCmdline("quiet modprobe.blacklist=virtio-net,loop module_blacklist=floppy virtio_blk.num_request_queues=2 virtio_blk.x")
		x := virtio().Add("loop").Add("floppy").Add("needs_floppy", "floppy").Add("needs_loop", "loop")
		x.Aliases["block-major-7"] = []string{"loop"}
		x.Aliases["fd"] = []string{"needs_floppy"}
		k := modloadtest.NewKernel(t)
		k.Put("virtio")
		k.Put("virtio_ring")
		s := modload.New(modload.Options{Index: x, Config: cfg, Load: k.Load, Present: []string{"virtio", "virtio-ring"}})
		s.Request("both", modload.Origin{Kind: modload.Coldplug})
		if err := s.Load(t.Context(), "block-major-7"); err != nil {
			t.Errorf("a blacklisted module reached by an alias gave %v, want no error and no load", err)
		}
		settle(t, s)
		if diff := cmp.Diff([]string{"virtio_blk"}, k.Log()); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		if got, want := k.Params("virtio_blk"), "num_request_queues=2 x"; got != want {
			t.Errorf("parameters = %q, want %q", got, want)
		}
		if err := s.Load(t.Context(), "needs_loop"); err != nil {
			t.Errorf("a blacklisted dependency gave %v", err)
		}
		if err := s.Load(t.Context(), "loop"); err != nil {
			t.Errorf("a blacklisted module by its own name gave %v", err)
		}
		for _, query := range []string{"floppy", "fd"} {
			if err := s.Load(t.Context(), query); !errors.Is(err, modload.ErrDenied) {
				t.Errorf("Load(%s) = %v, want ErrDenied", query, err)
			}
		}
		if log := k.Log(); slices.Contains(log, "floppy") || slices.Contains(log, "needs_floppy") || slices.Contains(log, "virtio") {
			t.Errorf("inserted %v", log)
		}
	})
}

// What is denied is loaded for nobody, and its dependants fail with the reason;
// a module with an install command is not loaded behind the command's back.
func TestDenyAndInstall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		conf := "deny usb-storage\ninstall net_pf_* /bin/false\noptions disk a=1\noptions scsi:d0 b=2\n"
		if err := os.WriteFile(filepath.Join(dir, "local.conf"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		cfg, problems := modindex.ReadConfig([]string{dir}, "hapax.deny=floppy")
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		x := new(modloadtest.Index).Add("usb_storage").Add("uas", "usb_storage").Add("floppy").Add("disk").Add("net_pf_9")
		pf := x.Modules["net_pf_9"]
		pf.Install = "/bin/false"
		x.Modules["net_pf_9"] = pf
		x.Aliases["usb:1"] = []string{"usb_storage", "uas"}
		x.Aliases["scsi:d0"] = []string{"disk"}
		k := modloadtest.NewKernel(t)
		s := modload.New(modload.Options{
			Index: x, Config: cfg, Load: k.Load,
			Params: func(name, query string) string { return cfg.Options(name, query) },
		})
		s.Request("usb:1", modload.Origin{})
		s.Request("scsi:d0", modload.Origin{})
		for name, want := range map[string]error{
			"usb_storage": modload.ErrDenied, "uas": modload.ErrDenied, "floppy": modload.ErrDenied, "net_pf_9": modload.ErrInstall,
		} {
			if err := s.Load(t.Context(), name); !errors.Is(err, want) {
				t.Errorf("Load(%s) = %v, want %v", name, err, want)
			}
		}
		settle(t, s)
		if diff := cmp.Diff([]string{"disk"}, k.Log()); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		if err := s.Load(t.Context(), "uas"); !strings.Contains(fmt.Sprint(err), "local.conf:1") {
			t.Errorf("error %q does not say where it is denied", err)
		}
		if got := k.Params("disk"); got != "a=1 b=2" {
			t.Errorf("parameters = %q", got)
		}
	})
}

func TestBuiltinNeedsNoCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		x := new(modloadtest.Index).Add("ext4").Add("overlay", "ext4")
		x.Modules["ext4"] = modindex.Module{Name: "ext4", Builtin: true}
		x.Aliases["fs-ext4"] = []string{"ext4"}
		k.Put("ext4")
		s := modload.New(modload.Options{Index: x, Load: k.Load})
		for _, query := range []string{"fs-ext4", "ext4", "overlay"} {
			if err := s.Load(t.Context(), query); err != nil {
				t.Errorf("Load(%s) = %v", query, err)
			}
		}
		if diff := cmp.Diff([]string{"overlay"}, k.Log()); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		if c := s.Counters(); c.Live != 1 || c.Requests != 3 || c.Coalesced != 1 {
			t.Errorf("counters = %+v", c)
		}
	})
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	k := modloadtest.NewKernel(t)
	s := modload.New(modload.Options{Index: virtio(), Load: k.Load})
	if err := s.Load(t.Context(), "fs-nothing"); !errors.Is(err, modload.ErrNotFound) {
		t.Errorf("Load = %v, want ErrNotFound", err)
	}
	s.Request("pci:v1", modload.Origin{})
	s.Request("pci:v1", modload.Origin{})
	if c := s.Counters(); c.Unmatched != 2 || c.Requests != 3 || c.Coalesced != 1 {
		t.Errorf("counters = %+v", c)
	}
}
