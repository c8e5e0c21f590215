package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"nabu/projections"
)

// bar shows how far a replay has come: on a terminal as one line that changes, elsewhere as
// a line for each step and each few seconds.
type bar struct {
	out      io.Writer
	terminal bool
	lines    bool // whether to say something where there is no terminal
	began    time.Time
	said     time.Time
	step     projections.Step
	last     projections.Progress
	drawn    bool
}

// How often the bar is drawn, and a line is written.
const (
	drawPause = 100 * time.Millisecond
	linePause = 5 * time.Second
	barWidth  = 30
)

func newBar(out io.Writer, lines bool) *bar {
	return &bar{out: out, terminal: isTerminal(out), lines: lines, began: time.Now()}
}

// tell is told each progress.
func (b *bar) tell(p projections.Progress) {
	pause := linePause
	if b.terminal {
		pause = drawPause
	}
	b.last = p
	if p.Step == b.step && time.Since(b.said) < pause {
		return
	}
	b.step, b.said = p.Step, time.Now()
	switch {
	case b.terminal:
		fmt.Fprintf(b.out, "\r\x1b[K%s %s", b.drawing(), b.text())
		b.drawn = true
	case b.lines:
		fmt.Fprintln(b.out, b.text())
	}
}

func (b *bar) drawing() string {
	full := barWidth
	if b.last.Head > 0 {
		full = int(barWidth * b.last.Position / b.last.Head)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]"
}

// text says how far it has come, how fast, and how long it will go on like this.
func (b *bar) text() string {
	text := fmt.Sprintf("%s: %d of %d events", b.last.Step, b.last.Position, b.last.Head)
	if rate := b.rate(); rate > 0 {
		text += fmt.Sprintf(", %.0f/s", rate)
		if left := b.last.Head - b.last.Position; left > 0 {
			text += fmt.Sprintf(", %s left", time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))
		}
	}
	return text
}

// rate is events a second.
func (b *bar) rate() float64 { return float64(b.last.Position) / time.Since(b.began).Seconds() }

// end takes the bar off the terminal.
func (b *bar) end() {
	if b.drawn {
		fmt.Fprint(b.out, "\r\x1b[K")
		b.drawn = false
	}
}

// around is a writer that takes the bar off the terminal before it writes.
func (b *bar) around(out io.Writer) io.Writer { return &besideBar{b, out} }

type besideBar struct {
	bar *bar
	out io.Writer
}

// Write writes to what the bar may stand beside.
func (w *besideBar) Write(text []byte) (int, error) {
	w.bar.end()
	return w.out.Write(text)
}

// replayed is what a replay did, as the command shows it.
type replayed struct {
	Events  int64   `json:"events"`
	Seconds float64 `json:"seconds"`
}

// sum says what was done.
func (b *bar) sum(out io.Writer, f form) error {
	r := replayed{Events: b.last.Position, Seconds: time.Since(b.began).Seconds()}
	if f == asJSON {
		return writeJSON(out, r)
	}
	_, err := fmt.Fprintf(out, "%d events in %.1f s; the read models are made anew\n", r.Events, r.Seconds)
	return err
}
