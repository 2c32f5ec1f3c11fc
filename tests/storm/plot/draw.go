package main

import (
	"fmt"
	"image/color"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// The size of a figure.
const width, height = 16 * vg.Centimeter, 10 * vg.Centimeter

// save draws the figure as storm-KERNEL-QUANTITY.svg and .png. The x axis is logarithmic, for the numbers of processors
// are.
func (f figure) save(folder, host string) error {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s, kernel %s", f.label, f.kernel)
	p.X.Label.Text = "vCPUs (" + host + ")"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, f.ticks()
	p.X.Min, p.X.Max = float64(f.xs[0])/1.3, float64(f.xs[len(f.xs)-1])*1.3
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	legend := make(map[string][]plot.Thumbnailer)
	for _, l := range slices.Backward(f.lines) { // the first contender ends on top
		thumbs, err := l.add(p)
		if err != nil {
			return err
		}
		legend[l.contender] = thumbs
	}
	for _, l := range f.lines {
		p.Legend.Add(l.contender, legend[l.contender]...)
	}
	if p.Y.Max <= 0 { // all are 0
		p.Y.Max = 1
	}
	for _, suffix := range []string{".svg", ".png"} {
		if err := p.Save(width, height, filepath.Join(folder, "storm-"+f.kernel+"-"+f.name+suffix)); err != nil {
			return err
		}
	}
	return nil
}

// ticks marks the numbers of processors that were measured and no others.
func (f figure) ticks() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, x := range f.xs {
		ticks = append(ticks, plot.Tick{Value: float64(x), Label: strconv.Itoa(x)})
	}
	return ticks
}

// add draws the contender and returns what stands for it in the legend.
func (l line) add(p *plot.Plot) ([]plot.Thumbnailer, error) {
	points := make(plotter.XYs, len(l.points))
	for i, q := range l.points {
		points[i] = plotter.XY{X: q.x, Y: q.y}
	}
	path, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, err
	}
	i := slices.Index(contenders(), l.contender)
	path.Color, path.Width = colours()[i], vg.Points(1.5)
	dots.Color, dots.Shape, dots.Radius = colours()[i], shapes()[i], vg.Points(3)
	p.Add(path, dots)
	return []plot.Thumbnailer{path, dots}, nil
}

// colours are told apart by people who do not see red and green as well.
func colours() []color.Color {
	return []color.Color{
		color.RGBA{0, 114, 178, 255}, color.RGBA{0, 0, 0, 255}, color.RGBA{213, 94, 0, 255},
		color.RGBA{204, 121, 167, 255}, color.RGBA{0, 158, 115, 255},
	}
}

// shapes differ, too, for prints in black and white.
func shapes() []draw.GlyphDrawer {
	return []draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.CrossGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{},
	}
}
