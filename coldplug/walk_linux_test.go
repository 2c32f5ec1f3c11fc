package coldplug

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// walkAll returns what Walk reports, sorted by DevPath.
func walkAll(tb testing.TB, sysfs string) ([]Device, Stats) {
	tb.Helper()
	var mu sync.Mutex
	var devices []Device
	stats, err := Walk(tb.Context(), sysfs, func(d Device) {
		mu.Lock()
		defer mu.Unlock()
		devices = append(devices, d)
	})
	if err != nil {
		tb.Fatalf("Walk(%s): %v", sysfs, err)
	}
	if stats.Reported != len(devices) {
		tb.Errorf("Stats.Reported = %d, but %d devices were reported", stats.Reported, len(devices))
	}
	slices.SortFunc(devices, func(a, b Device) int { return cmp.Compare(a.DevPath, b.DevPath) })
	return devices, stats
}

// Each case is a tree of files below devices; a name that ends in "->" makes a link, one in "|" a FIFO.
func TestWalk(t *testing.T) {
	t.Parallel()
	alias := func(path string, aliases ...string) Device { return Device{DevPath: path, Modaliases: aliases} }
	tests := []struct {
		name string
		tree map[string]string
		want []Device
		lost Stats // only Vanished and Unreadable count
	}{
		{
			name: "modalias file and uevent",
			tree: map[string]string{
				"pci0000:00/uevent":                "",
				"pci0000:00/0000:00:01.0/uevent":   "DRIVER=virtio-pci\nMODALIAS=pci:v1\n",
				"pci0000:00/0000:00:01.0/modalias": "pci:v1\n",
			},
			want: []Device{alias("/devices/pci0000:00/0000:00:01.0", "pci:v1")},
		},
		{
			name: "uevent alone, as auxiliary and mmc devices have it",
			tree: map[string]string{"a/mmc0:0001/uevent": "MMC_TYPE=SD\nMODALIAS=mmc:block\n"},
			want: []Device{alias("/devices/a/mmc0:0001", "mmc:block")},
		},
		{
			name: "modalias file alone",
			tree: map[string]string{"a/modalias": "x:1\n"},
			want: []Device{alias("/devices/a", "x:1")},
		},
		{
			name: "empty modalias file",
			tree: map[string]string{"a/modalias": "\n", "a/uevent": "MODALIAS=x:1\n"},
			want: []Device{alias("/devices/a", "x:1")},
		},
		{
			name: "ACPI device with device tree data",
			tree: map[string]string{"PRP0001:00/uevent": "MODALIAS=of:NledsT\n", "PRP0001:00/modalias": "acpi:PRP0001:\nof:NledsT\n"},
			want: []Device{alias("/devices/PRP0001:00", "acpi:PRP0001:", "of:NledsT")},
		},
		{
			name: "repeated key",
			tree: map[string]string{"a/uevent": "MODALIAS=acpi:X:\nMODALIAS=of:Y\n"},
			want: []Device{alias("/devices/a", "acpi:X:", "of:Y")},
		},
		{
			name: "a product name cannot smuggle in an alias",
			tree: map[string]string{"input0/uevent": "NAME=\"kbd\nMODALIAS=evil\n\"\nMODALIAS=input:b1\n", "input0/modalias": "input:b1\n"},
			want: []Device{alias("/devices/input0", "input:b1")},
		},
		{
			name: "CPUs, memory and consoles",
			tree: map[string]string{
				"system/cpu/uevent":               "",
				"system/cpu/modalias":             "cpu:type:x86\n",
				"system/cpu/cpu0/uevent":          "MODALIAS=cpu:type:x86\n\n",
				"system/memory/memory0/uevent":    "MODALIAS=not:read\n",
				"system/node/node0/uevent":        "MODALIAS=not:read\n",
				"system/container/PNP1/uevent":    "MODALIAS=x:1\n",
				"virtual/tty/tty0/uevent":         "MODALIAS=not:read\n",
				"virtual/dmi/id/modalias":         "dmi:bd10/06/2008:\n",
				"platform/system/cpu/cpu0/uevent": "MODALIAS=x:2\n",
			},
			want: []Device{
				alias("/devices/platform/system/cpu/cpu0", "x:2"),
				alias("/devices/system/container/PNP1", "x:1"),
				alias("/devices/system/cpu", "cpu:type:x86"),
				alias("/devices/virtual/dmi/id", "dmi:bd10/06/2008:"),
			},
		},
		{
			name: "disk with a partition",
			tree: map[string]string{
				"vda/uevent":        "MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n",
				"vda/mq/0/uevent":   "MODALIAS=not:read\n",
				"vda/queue/uevent":  "MODALIAS=not:read\n",
				"vda/vda1/uevent":   "MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\nPARTNAME=\n",
				"sata/queue/uevent": "MODALIAS=x:1\n",
			},
			want: []Device{
				alias("/devices/sata/queue", "x:1"),
				{DevPath: "/devices/vda", Block: &Block{Name: "vda", Major: 254}},
				{DevPath: "/devices/vda/vda1", Block: &Block{Name: "vda1", Major: 254, Minor: 1, Partition: true, Partn: "1"}},
			},
		},
		{
			name: "groups of attributes",
			tree: map[string]string{
				"eth/uevent":             "INTERFACE=eth0\n",
				"eth/queues/tx-0/uevent": "MODALIAS=not:read\n",
				"eth/power/uevent":       "MODALIAS=not:read\n",
				"leds/power/uevent":      "MODALIAS=x:1\n",
			},
			want: []Device{alias("/devices/leds/power", "x:1")},
		},
		{
			name: "links",
			tree: map[string]string{
				"a/uevent": "MODALIAS=x:1\n", "a/self->": ".", "a/up->": "../..", "a/b/subsystem->": "../../a",
				"c/uevent->": "../a/uevent", "c/modalias->": "../a/uevent", "virtual/tty/modalias->": "../../a/uevent",
			},
			want: []Device{alias("/devices/a", "x:1")},
			lost: Stats{Unreadable: 1}, // nobody listed virtual/tty first
		},
		{
			name: "FIFOs",
			tree: map[string]string{"a/uevent|": "", "a/b/uevent": "MODALIAS=x:1\n", "virtual/tty/uevent|": "", "virtual/tty/modalias|": ""},
			want: []Device{alias("/devices/a/b", "x:1")},
		},
		{
			name: "files of any length",
			tree: map[string]string{
				"a/uevent":   "MODALIAS=x:1\n" + strings.Repeat("K=v\n", 1<<18) + "MODALIAS=x:2\n",
				"b/modalias": strings.Repeat("y", 1<<20),
			},
			want: []Device{alias("/devices/a", "x:1")},
		},
		{
			name: "directories without end",
			tree: map[string]string{strings.Repeat("d/", maxDepth) + "uevent": "MODALIAS=x:1\n", strings.Repeat("e/", maxDepth+1) + "uevent": "MODALIAS=x:2\n"},
			want: []Device{alias("/devices"+strings.Repeat("/d", maxDepth), "x:1")},
			lost: Stats{Unreadable: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sysfs := t.TempDir()
			plant(t, sysfs+"/devices", tt.tree)
			got, stats := walkAll(t, sysfs)
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("devices (-want +got):\n%s", diff)
			}
			if stats.Vanished != tt.lost.Vanished || stats.Unreadable != tt.lost.Unreadable {
				t.Errorf("stats = %+v, want Vanished and Unreadable of %+v", stats, tt.lost)
			}
		})
	}
}

func plant(t *testing.T, dir string, tree map[string]string) {
	t.Helper()
	for name, content := range tree {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link, ok := strings.CutSuffix(file, "->"); ok {
			err = os.Symlink(content, link)
		} else if fifo, ok := strings.CutSuffix(file, "|"); ok {
			err = unix.Mkfifo(fifo, 0o600)
		} else {
			err = os.WriteFile(file, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWalkErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Walk(t.Context(), dir, func(Device) { t.Error("a device was reported") })
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir+"/devices") {
		t.Errorf("Walk without a sysfs = %v, want an ErrNotExist that names the directory", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	plant(t, dir+"/devices", map[string]string{"a/uevent": "MODALIAS=x:1\n"})
	if _, err := Walk(ctx, dir, func(Device) { t.Error("a device was reported") }); !errors.Is(err, context.Canceled) {
		t.Errorf("Walk with a cancelled context = %v, want %v", err, context.Canceled)
	}
}

// The first device that is found removes all others, which are listed by then.
func TestWalkVanishing(t *testing.T) {
	t.Parallel()
	sysfs := t.TempDir()
	const devices = 50
	for i := range devices {
		write(t, sysfs, fmt.Sprintf("devices/d%d/uevent", i), "MODALIAS=x:1\n")
	}
	reported := 0
	stats, err := Walk(t.Context(), sysfs, func(d Device) {
		reported++
		for i := range devices {
			if path := fmt.Sprintf("/devices/d%d", i); path != d.DevPath {
				os.RemoveAll(sysfs + path)
			}
		}
	})
	if err != nil || reported != 1 || stats.Vanished != devices-1 {
		t.Errorf("Walk = %+v, %v after %d reports, want %d vanished and 1 report", stats, err, reported, devices-1)
	}
}

// The first device that is found replaces all others, which are listed by then, by links to itself.
func TestWalkReplacedByLinks(t *testing.T) {
	t.Parallel()
	sysfs := t.TempDir()
	const devices = 10
	for i := range devices {
		write(t, sysfs, fmt.Sprintf("devices/d%d/uevent", i), "MODALIAS=x:1\n")
	}
	reported := 0
	stats, err := Walk(t.Context(), sysfs, func(d Device) {
		reported++
		for i := range devices {
			if path := fmt.Sprintf("/devices/d%d", i); path != d.DevPath {
				os.RemoveAll(sysfs + path)
				os.Symlink(sysfs+d.DevPath, sysfs+path)
			}
		}
	})
	if err != nil || reported != 1 || stats.Unreadable != devices-1 {
		t.Errorf("Walk = %+v, %v after %d reports, want %d unreadable and 1 report", stats, err, reported, devices-1)
	}
}

// Directories come and go all the time; the walk ends and finds those that stay.
func TestWalkUnstable(t *testing.T) {
	t.Parallel()
	sysfs := t.TempDir()
	for i := range 20 {
		write(t, sysfs, fmt.Sprintf("devices/stays%d/uevent", i), "MODALIAS=stays\n")
		write(t, sysfs, fmt.Sprintf("devices/bus/moves%d/child/uevent", i), "MODALIAS=moves\n")
	}
	stop := make(chan struct{})
	var mover sync.WaitGroup
	mover.Go(func() {
		for {
			for i := range 20 {
				name := fmt.Sprintf("%s/devices/bus/moves%d", sysfs, i)
				os.Rename(name, name+"x")
				os.Rename(name+"x", name)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range 100 {
		devices, _ := walkAll(t, sysfs)
		stays := 0
		for _, d := range devices {
			if d.Modaliases[0] == "stays" {
				stays++
			}
		}
		if stays != 20 {
			t.Errorf("%d of 20 stable devices found", stays)
		}
	}
	close(stop)
	mover.Wait()
}
