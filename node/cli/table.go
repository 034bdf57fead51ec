package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// column is a table's column. The widest columns with a least width give way
// when the table is wider than the screen.
type column struct {
	title string
	right bool // figures
	least int  // columns that it may shrink to; 0: never shrinks
}

// table writes rows under titles within the given width.
func table(w io.Writer, width int, cols []column, rows [][]string) {
	widths := make([]int, len(cols))
	for i, c := range cols {
		widths[i] = ansi.StringWidth(c.title)
		for _, r := range rows {
			r[i] = clean(r[i])
			widths[i] = max(widths[i], ansi.StringWidth(r[i]))
		}
	}
	shrink(widths, cols, width-2*(len(cols)-1))
	titles := make([]string, len(cols))
	for i, c := range cols {
		titles[i] = c.title
	}
	for _, r := range append([][]string{titles}, rows...) {
		var b strings.Builder
		for i, cell := range r {
			cell = ansi.Truncate(cell, widths[i], "…")
			pad := strings.Repeat(" ", widths[i]-ansi.StringWidth(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if cols[i].right {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// shrink takes columns from the widest that may give some, until all fit.
func shrink(widths []int, cols []column, room int) {
	sum := 0
	for _, w := range widths {
		sum += w
	}
	for ; sum > room; sum-- {
		widest := -1
		for i, c := range cols {
			if c.least > 0 && widths[i] > c.least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// facts writes a list of names and values, long values cut to the width.
func facts(w io.Writer, width int, rows [][2]string) {
	name := 0
	for _, r := range rows {
		if r[1] != "" {
			name = max(name, len(r[0]))
		}
	}
	for _, r := range rows {
		if r[1] != "" {
			fmt.Fprintf(w, "%-*s  %s\n", name, r[0], ansi.Truncate(clean(r[1]), width-name-2, "…"))
		}
	}
}

// size writes bytes for people: "1.2 GB", powers of ten as --memory reads them.
func size(n int64) string {
	switch {
	case n < 0:
		return "?"
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		if v /= 1000; v < 999.5 || unit == "TB" {
			if v < 9.95 {
				return fmt.Sprintf("%.1f %s", v, unit)
			}
			return fmt.Sprintf("%.0f %s", v, unit)
		}
	}
	return ""
}

// count writes a number of parameters: "135M".
func count(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1_000_000_000:
		return fmt.Sprintf("%.0fM", float64(n)/1e6)
	case n < 100_000_000_000:
		return fmt.Sprintf("%.1fB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.0fB", float64(n)/1e9)
}

// span writes a duration for people.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "?"
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func millis(ms float64) string {
	return span(time.Duration(ms * float64(time.Millisecond)))
}

// plural counts things: "1 peer", "2 peers".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// wrapRest is wrap for text that begins behind something as wide as indent.
func wrapRest(text string, width int, indent string) string {
	return wrap(text, max(width, len(indent)+20), indent)
}

// wrap breaks text between words into lines of at most width columns; later
// lines are indented.
func wrap(text string, width int, indent string) string {
	return strings.ReplaceAll(ansi.Wordwrap(text, width-len(indent), ""), "\n", "\n"+indent)
}
