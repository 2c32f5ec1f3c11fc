package qemu

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const hotplug = "-device pcie-root-port,id=hotplug0,chassis=1,slot=1 -device pcie-root-port,id=hotplug1,chassis=2,slot=2 " +
	"-device pcie-root-port,id=hotplug2,chassis=3,slot=3 -device pcie-root-port,id=hotplug3,chassis=4,slot=4"

const board = "-no-user-config -nodefaults -no-reboot -display none -M q35 -cpu max "

func TestArgs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		m    Machine
		want string // arguments joined by a blank
	}{
		{
			name: "smallest",
			m:    Machine{Kernel: "vmlinuz"},
			want: board + "-accel tcg,thread=multi -smp 1 -m 1024M -kernel vmlinuz " +
				"-chardev stdio,id=serial0,mux=on,signal=off -serial chardev:serial0 -mon chardev=serial0,mode=readline " + hotplug,
		},
		{
			name: "harness",
			m: Machine{
				Kernel: "k", Initrd: "i", Append: "console=ttyS0 quiet", CPUs: 8, MemoryMiB: 512, Accel: TCG,
				Serial: "socket,path=/t/s,server=on,wait=off", QMP: "/t/q,mp",
				Disks: []string{"a:b,c", "d"}, Extra: []string{"-device", "e1000e"},
			},
			want: board + "-accel tcg,thread=single -smp 8 -m 512M -kernel k -initrd i -append console=ttyS0 quiet " +
				"-chardev socket,id=serial0,path=/t/s,server=on,wait=off -serial chardev:serial0 " +
				"-qmp unix:/t/q,,mp,server=on,wait=off " + hotplug +
				` -blockdev {"driver":"raw","node-name":"disk0","file":{"driver":"file","filename":"a:b,c"}} -device virtio-blk-pci,drive=disk0` +
				` -blockdev {"driver":"raw","node-name":"disk1","file":{"driver":"file","filename":"d"}} -device virtio-blk-pci,drive=disk1` +
				" -device e1000e",
		},
		{
			name: "kvm",
			m:    Machine{Kernel: "k", Accel: KVM, CPUs: 8, Serial: "stdio"},
			want: board + "-accel kvm -smp 8 -m 1024M -kernel k -chardev stdio,id=serial0 -serial chardev:serial0 " + hotplug,
		},
		{
			name: "icount",
			m:    Machine{Kernel: "k", Icount: true, Serial: "null"},
			want: board + "-accel tcg,thread=single -smp 1 -m 1024M -icount shift=0,sleep=off -kernel k " +
				"-chardev null,id=serial0 -serial chardev:serial0 " + hotplug,
		},
		{
			name: "icount that sleeps",
			m:    Machine{Kernel: "k", Icount: true, Sleep: true, Serial: "null"},
			want: board + "-accel tcg,thread=single -smp 1 -m 1024M -icount shift=0,sleep=on -kernel k " +
				"-chardev null,id=serial0 -serial chardev:serial0 " + hotplug,
		},
		{
			name: "one thread",
			m:    Machine{Kernel: "k", OneThread: true, CPUs: 2, Serial: "null"},
			want: board + "-accel tcg,thread=single -smp 2 -m 1024M -kernel k -chardev null,id=serial0 -serial chardev:serial0 " + hotplug,
		},
		{
			name: "firmware",
			m:    Machine{Firmware: "code,4M", Variables: "vars", Serial: "null"},
			want: board + "-accel tcg,thread=multi -smp 1 -m 1024M -drive if=pflash,unit=0,format=raw,readonly=on,file=code,,4M " +
				"-drive if=pflash,unit=1,format=raw,file=vars -chardev null,id=serial0 -serial chardev:serial0 " + hotplug,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args, err := tt.m.args(4)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.ReplaceAll(tt.want, " -", "\n-"), strings.ReplaceAll(strings.Join(args, " "), " -", "\n-")); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArgsRefused(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]Machine{
		"no kernel":       {},
		"negative CPUs":   {Kernel: "k", CPUs: -1},
		"negative memory": {Kernel: "k", MemoryMiB: -1},
		"accelerator":     {Kernel: "k", Accel: "xen"},
		"counted kvm":     {Kernel: "k", Accel: KVM, Icount: true},
		"sleep uncounted": {Kernel: "k", Sleep: true},
		"no variables":    {Firmware: "f"},
		"no firmware":     {Kernel: "k", Variables: "v"},
	} {
		if args, err := m.Args(); err == nil {
			t.Errorf("%s: Args = %q, want an error", name, args)
		}
	}
}
