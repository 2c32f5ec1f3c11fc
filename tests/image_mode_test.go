package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// modeSecrets tell the machine of TestMachineModes from others like it: none of them may be in its profile.
const (
	modeSerial = "SN7391XQ"
	modeMAC    = "52:54:00:be:ef:39"
)

// TestMachineModes builds images for a machine on that machine: it boots a universal image, records its profile, and builds an
// image in mode host of its own modules. That image, and one that is made elsewhere of the profile, boot the machine again.
func TestMachineModes(t *testing.T) {
	l := needQEMU(t)
	k := kernel(t, l, lab.Kernels()[1]) // whose modules are packed, so that all of them fit
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := rootDisk(t, l, func(root string) error {
		if err := l.InstallGuest(t.Context(), filepath.Join(root, "sbin/init")); err != nil {
			return err
		}
		tool(t, "cp", hapax, filepath.Join(root, "hapax"))
		tool(t, "cp", "-r", k.ModulesDir, root)
		return nil
	}).File
	boot := func(image string, mode string) *vm.VM {
		t.Helper()
		v := vm.Run(t, l.Logs(), vm.Config{Name: mode, Machine: qemu.Machine{
			Kernel: k.Vmlinuz, Initrd: image, CPUs: 1, Disks: []string{root},
			// The delay is for the modules that the root does not need: what has not begun when it is there is left to it.
			Append: bootArgs + "hapax.report=console rootdelay=5 rw root=UUID=" + rootUUID,
			Extra: []string{
				"-smbios", "type=1,serial=" + modeSerial + ",uuid=" + rootUUID, "-smbios", "type=2,serial=" + modeSerial,
				"-blockdev", "driver=null-co,node-name=spare,size=1048576,read-zeroes=on", "-device", "nvme,drive=spare,serial=" + modeSerial,
				"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,mac=" + modeMAC,
			},
		}})
		var start guest.Start
		if err := guest.Await(v, time.Minute, "start", &start); err != nil {
			t.Fatal(err)
		}
		return v
	}
	clean := func(v *vm.VM) report {
		t.Helper()
		r := ask[report](t, client(t, v, time.Minute), guest.Report, "")
		if r.Duplicates != 0 || r.Failed != 0 || r.Root == nil || r.Root.UUID != rootUUID {
			t.Errorf("report: %d duplicates, %d failed, root %+v", r.Duplicates, r.Failed, r.Root)
		}
		return r
	}
	off := func(v *vm.VM) {
		t.Helper()
		if err := v.Send(guest.PowerOff); err != nil {
			t.Fatal(err)
		}
		if err := v.WaitExit(time.Minute); err != nil {
			t.Fatal(err)
		}
	}

	universal, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	v := boot(universal, "universal")
	all := clean(v)
	c := guest.Client{Console: v, Timeout: 5 * time.Minute}
	run := func(args ...string) string {
		t.Helper()
		r := ask[guest.Ended](t, c, guest.Exec, strings.Join(args, " "))
		if r.Code != 0 {
			t.Fatalf("%q in the guest: code %d\n%s", args, r.Code, r.Output)
		}
		return r.Output
	}
	recorded := run("/hapax", "profile", "record")
	run("/hapax", "build", "--mode", "host", "--modules-dir", "/"+k.Release, "/host.img")
	off(v)

	for _, secret := range []string{modeSerial, modeMAC, strings.ReplaceAll(modeMAC, ":", ""), rootUUID} {
		if strings.Contains(strings.ToLower(recorded), strings.ToLower(secret)) {
			t.Errorf("the profile has %s, by which the machine can be known", secret)
		}
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("profile.json"), []byte(recorded), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "debugfs", "-R", "dump /host.img "+file("host.img"), root)
	out, err := exec.CommandContext(t.Context(), hapax, "build", "--mode", "profile", "--profile", file("profile.json"), "--modules-dir", k.ModulesDir,
		file("profile.img")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, mode := range []string{"host", "profile"} {
		image := file(mode + ".img")
		v := boot(image, mode)
		r := clean(v)
		for _, m := range all.Modules {
			if m.State == "live" && r.module(m.Name).State != "live" {
				t.Errorf("mode %s: %s is not live, as it is with the universal image", mode, m.Name)
			}
		}
		off(v)
		small, big := bytesOf(t, image), bytesOf(t, universal)
		if small > big*3/4 {
			t.Errorf("mode %s: an image of %d bytes, the universal one has %d", mode, small, big)
		}
		t.Logf("mode %s: %d bytes, universal: %d", mode, small, big)
		out, err := exec.CommandContext(t.Context(), hapax, "check", "--profile", file("profile.json"), "--modules-dir", k.ModulesDir, image).CombinedOutput()
		if err != nil {
			t.Errorf("hapax check: %v\n%s", err, out)
		}
	}
}

func bytesOf(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
