package image

import (
	"path/filepath"
	"testing"

	"hapax/tests/need"
)

// BenchmarkBuild builds universal images of the trees that HAPAX_TEST_MODULES names, with an init that does not compress.
func BenchmarkBuild(b *testing.B) {
	trees := need.Trees(b)
	init := noiseInit(b)
	for _, dir := range trees {
		b.Run(filepath.Base(dir), func(b *testing.B) {
			b.ReportAllocs()
			spec := Spec{Output: filepath.Join(b.TempDir(), "image"), Force: true, ModulesDir: dir, Init: init}
			for b.Loop() {
				result, err := Build(b.Context(), spec)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(result.Size)/1e6, "MB/image")
			}
		})
	}
}
