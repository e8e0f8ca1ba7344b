// SPDX-License-Identifier: Apache-2.0

// Command plot draws bench.json as a picture: the ratio of failoverd to keepalived for each
// measure, on a logarithmic scale. It is a module of its own, so that a build of failoverd
// doesn't need the drawing library.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/color"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// bench has the parts of bench.json that the picture needs.
type bench struct {
	About struct {
		Date       string `json:"date"`
		Kernel     string `json:"kernel"`
		Failoverd  string `json:"failoverd"`
		Keepalived string `json:"keepalived"`
		Processor  string `json:"processor"`
		Processors int    `json:"processors"`
	} `json:"about"`
	Rows []row `json:"rows"`
}

type row struct {
	Configured string    `json:"configured"`
	Name       string    `json:"name"`
	Unit       string    `json:"unit"`
	Failoverd  []float64 `json:"failoverd"`
	Keepalived []float64 `json:"keepalived"`
	Target     string    `json:"target"`
	MostRatio  float64   `json:"most_ratio"`
}

func main() {
	in := flag.String("in", "bench.json", "`path` of bench.json")
	out := flag.String("out", "bench.png", "`path` of the picture")
	flag.Parse()
	if err := run(*in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

// defaults is the configuration of rows that compare the daemons at their defaults.
const defaults = "defaults"

func run(in, out string) error {
	text, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var b bench
	if err := json.Unmarshal(text, &b); err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	// A row at the defaults has no target, but belongs into the picture. Other rows without a
	// target, and the numbers of takeovers that were left out, explain the rows before them.
	b.Rows = slices.DeleteFunc(b.Rows, func(r row) bool {
		between := strings.Contains(r.Target, " to ") // less isn't better
		explains := r.Target == "" && (r.Configured != defaults || r.Unit == "takeovers")
		return explains || between || len(r.Failoverd) == 0 || len(r.Keepalived) == 0
	})
	if len(b.Rows) == 0 {
		return errors.New(in + " has no row to draw")
	}
	slices.Reverse(b.Rows) // a plot begins below
	return b.draw(out)
}

var (
	better  = color.RGBA{0x1b, 0x7f, 0x5c, 0xff}
	worse   = color.RGBA{0xc2, 0x4a, 0x2c, 0xff}
	same    = color.RGBA{0x8a, 0x93, 0x9b, 0xff}
	ink     = color.RGBA{0x22, 0x2b, 0x33, 0xff}
	faint   = color.RGBA{0xe4, 0xe8, 0xeb, 0xff}
	aim     = color.RGBA{0x22, 0x2b, 0x33, 0xff}
	leastX  = 1.0 / 256
	mostX   = 16.0
	rowTall = vg.Points(25)
)

// at returns the position of a ratio. Ratios beyond the scale are at its ends.
func at(ratio float64) float64 { return min(max(ratio, leastX), mostX) }

func (b bench) draw(out string) error {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = "failoverd beside keepalived: CPU time, memory and delays"
	p.Title.TextStyle.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Weight: 2, Size: 17}
	p.Title.TextStyle.Color = ink
	p.Title.Padding = vg.Points(14)
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: 11}
	p.X.Label.Text = fmt.Sprintf("failoverd / keepalived, median of the rounds (left of 1×: failoverd is better; a notch is the aim)\n\n%s UTC  ·  %d × %s  ·  Linux %s  ·  %s  ·  %s",
		b.About.Date, b.About.Processors, b.About.Processor, b.About.Kernel, b.About.Failoverd, b.About.Keepalived)
	p.X.Label.TextStyle.Font, p.X.Label.TextStyle.Color = sans, ink
	p.X.Label.Padding = vg.Points(8)
	p.X.Scale, p.X.Min, p.X.Max = plot.LogScale{}, leastX, mostX
	p.X.Tick.Label.Font, p.Y.Tick.Label.Font = sans, sans
	p.X.Tick.Label.Color, p.Y.Tick.Label.Color = ink, ink
	var ticks plot.ConstantTicks
	for _, t := range []struct {
		at    float64
		label string
	}{{leastX, "≤ 1/256"}, {1.0 / 64, "1/64"}, {1.0 / 16, "1/16"}, {0.25, "1/4"}, {1, "1×"}, {4, "4×"}, {16, "16×"}} {
		ticks = append(ticks, plot.Tick{Value: t.at, Label: t.label})
	}
	p.X.Tick.Marker = ticks
	var names plot.ConstantTicks
	for i, r := range b.Rows {
		name := r.Name
		if r.Configured == defaults {
			name += " (" + defaults + ")"
		}
		names = append(names, plot.Tick{Value: float64(i), Label: name})
	}
	p.Y.Tick.Marker = names
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	p.Y.Min, p.Y.Max = -0.6, float64(len(b.Rows))-0.4
	p.Add(bars{b.Rows, sans})
	return save(p, vg.Points(1120), vg.Length(len(b.Rows))*rowTall+vg.Points(150), out)
}

// save writes a picture with a margin.
func save(p *plot.Plot, wide, tall vg.Length, out string) (err error) {
	canvas := vgimg.New(wide, tall)
	c := draw.New(canvas)
	c.FillPolygon(color.White, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
	const margin = 14
	p.Draw(draw.Crop(c, margin, -margin, margin, -margin))
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(f)
	return errors.Join(err, f.Close())
}

// bars draws a bar for each row, from 1 to the ratio, and both values beside it.
type bars struct {
	rows []row
	sans font.Font
}

func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, v := range []float64{leastX, 1.0 / 64, 1.0 / 16, 0.25, 1, 4, 16} {
		style := draw.LineStyle{Color: faint, Width: vg.Points(1)}
		if v == 1 {
			style = draw.LineStyle{Color: same, Width: vg.Points(1.5)}
		}
		c.StrokeLine2(style, x(v), c.Min.Y, x(v), c.Max.Y)
	}
	const thick = 7 // half of the bar
	for i, r := range b.rows {
		ours, theirs := middle(r.Failoverd), middle(r.Keepalived)
		middleY := y(float64(i))
		ratio, fill := 1.0, same
		switch {
		case ours == theirs:
		case theirs == 0:
			ratio, fill = mostX, worse
		default:
			ratio = at(max(ours/theirs, 0))
			if fill = better; ratio > 1 {
				fill = worse
			}
		}
		from, to := min(x(1), x(ratio)), max(x(1), x(ratio))
		if ratio == 1 {
			from, to = from-vg.Points(2), to+vg.Points(2)
		}
		c.FillPolygon(fill, []vg.Point{{X: from, Y: middleY - thick}, {X: to, Y: middleY - thick}, {X: to, Y: middleY + thick}, {X: from, Y: middleY + thick}})
		label := max(to, x(1))
		if r.MostRatio > 0 {
			label = max(label, x(at(r.MostRatio)))
			c.StrokeLine2(draw.LineStyle{Color: aim, Width: vg.Points(2)}, x(at(r.MostRatio)), middleY-thick-3, x(at(r.MostRatio)), middleY+thick+3)
		}
		style := draw.TextStyle{Color: ink, Font: b.sans, XAlign: draw.XLeft, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}
		c.FillText(style, vg.Point{X: label + vg.Points(8), Y: middleY}, strings.TrimSpace(fmt.Sprintf("%s against %s %s", number(ours), number(theirs), r.Unit)))
	}
}

// GlyphBoxes asks for no more room than the axes.
func (b bars) GlyphBoxes(*plot.Plot) []plot.GlyphBox { return nil }

func middle(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// number formats a value with three significant digits.
func number(v float64) string {
	switch {
	case v == float64(int(v)):
		return fmt.Sprint(int(v))
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
