package coldplug

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// memDir returns a new directory, on tmpfs where there is one: disks would only add noise.
func memDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "coldplug-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// largeTree makes a sysfs with the given number of devices on 100 buses, each with the power group and
// three attributes, and of CPUs, each with four groups, as a server has them. Every second device
// has a modalias file, the others only the line in uevent.
func largeTree(tb testing.TB, devices, cpus int) string {
	tb.Helper()
	root := memDir(tb)
	for i := range devices {
		dir := fmt.Sprintf("devices/pci0000:%02x/0000:%02x:%02x.0", i%100, i%100, i/100)
		alias := fmt.Sprintf("pci:v00008086d%08Xsv00000000sd00000000bc02sc00i00", i%500)
		write(tb, root, dir+"/uevent", "DRIVER=e1000e\nPCI_CLASS=20000\nPCI_ID=8086:10D3\nMODALIAS="+alias+"\n")
		if i%2 == 0 {
			write(tb, root, dir+"/modalias", alias+"\n")
		}
		write(tb, root, dir+"/vendor", "0x8086\n")
		write(tb, root, dir+"/power/control", "auto\n")
	}
	const cpu = "cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0001,0002\n"
	write(tb, root, "devices/system/cpu/modalias", cpu)
	write(tb, root, "devices/system/cpu/uevent", "")
	for i := range cpus {
		dir := fmt.Sprintf("devices/system/cpu/cpu%d", i)
		write(tb, root, dir+"/uevent", "DRIVER=processor\nMODALIAS="+cpu+"\n")
		for _, group := range []string{"cache", "topology", "power", "cpufreq"} {
			write(tb, root, dir+"/"+group+"/x", "0\n")
		}
	}
	return root
}

func write(tb testing.TB, root, name, content string) {
	tb.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func benchmarkWalk(b *testing.B, sysfs string) {
	var reported atomic.Int64
	count := func(Device) { reported.Add(1) }
	b.ReportAllocs()
	for b.Loop() {
		reported.Store(0)
		if _, err := Walk(context.Background(), sysfs, count); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(reported.Load()), "ns/device")
	b.ReportMetric(float64(reported.Load()), "devices")
}

func BenchmarkWalk(b *testing.B) {
	for _, size := range []struct{ devices, cpus int }{{400, 1}, {10_000, 255}, {10_000, 4096}} {
		b.Run(fmt.Sprintf("devices=%d/cpus=%d", size.devices, size.cpus), func(b *testing.B) {
			benchmarkWalk(b, largeTree(b, size.devices, size.cpus))
		})
	}
	b.Run("live", func(b *testing.B) { benchmarkWalk(b, "/sys") })
}

// BenchmarkPlainWalk is what Walk is measured against.
func BenchmarkPlainWalk(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		plainWalk("/sys")
	}
}
