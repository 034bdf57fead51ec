package opencl

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/icd"
)

// inPasses runs cases of the contract on a card with so little scratch memory.
func inPasses(t *testing.T, scratch []int64, cases ...string) {
	t.Helper()
	card := icd.New()
	if _, err := card.Devices(); errors.Is(err, driver.ErrAbsent) {
		t.Skipf("not run: no OpenCL platform (on Debian: apt-get install pocl-opencl-icd): %v", err)
	}
	for _, bytes := range scratch {
		t.Run(fmt.Sprintf("%d bytes", bytes), func(t *testing.T) {
			dev, err := card.Open(0, Source())
			if err != nil {
				t.Fatal(err)
			}
			d, err := New(dev)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.growScratch(bytes); err != nil {
				t.Fatal(err)
			}
			for _, c := range conform.Cases() {
				if slices.Contains(cases, c.Name) {
					c.Run([]kernels.Device{d}, conform.Short, func(x conform.Difference) { t.Errorf("%s: %v", x.Scenario, x.Err) })
				}
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Attention in as many passes as little scratch memory makes necessary has the same bits:
// by runs of rows, by heads, and with room for one head's chunks alone.
func TestAttentionInPassesKeepsTheContract(t *testing.T) {
	inPasses(t, []int64{4, 40 << 10, 600 << 10}, "AttentionBatches", "AttentionLengths")
}

// Reductions whose rows do not fit into scratch memory together have the same answers.
func TestReductionsInPassesKeepTheContract(t *testing.T) {
	inPasses(t, []int64{4, 20 << 10}, "Reductions") // grows; a few rows at a time
}

// Plans of a batch cover each row's chunks once, whatever the memory.
func TestPlansCoverWhatRowsSee(t *testing.T) {
	for _, slots := range []int{1, 3, 40, 100000} {
		for _, window := range []int{0, 1, 300, 5000} {
			b := &kernels.Batch{Seqs: [][]int32{make([]int32, 600), make([]int32, 600)}}
			for p := 8190; p < 8230; p++ {
				b.Rows = append(b.Rows, kernels.Row{Pos: int32(p)})
			}
			b.Rows = append(b.Rows, kernels.Row{Seq: 1, Pos: 0}, kernels.Row{Seq: 1, Pos: 1000})
			card := &memoryOnly{}
			const heads, dim = 6, 16
			d := &Device{dev: card, scratch: blob(int64(slots) * 4 * 5 * 3 * (dim + 2))}
			d.plan.put(d, b, attnShape{heads, 2, dim, window})
			seen := map[[2]int]int{}
			for _, p := range d.plan.passes {
				slotsOf := map[int32]bool{}
				for _, u := range units(d.plan.list, p) {
					if slotsOf[u[3]] {
						t.Fatalf("slot %d is used twice in a pass", u[3])
					}
					slotsOf[u[3]] = true
					if got, room := int64(u[3]+1)*int64(4*d.plan.rows*d.plan.heads*3*(dim+2)), d.scratch.Bytes(); got > room {
						t.Fatalf("slot %d ends at %d of %d", u[3], got, room)
					}
					for r := u[0]; r < u[0]+u[1]; r++ {
						first, end := d.plan.visible(int(b.Rows[r].Pos))
						if at := d.plan.list[d.plan.tiles0+2*int(r)]; at+u[2] != u[3] {
							t.Fatalf("row %d looks for chunk %d in slot %d, it is in %d", r, u[2], at+u[2], u[3])
						}
						if int(u[2]) >= first && int(u[2]) < end {
							seen[[2]int{int(r), int(u[2])}]++
						}
						if int(r) < p.row || int(r) >= p.row+p.rows {
							t.Fatalf("row %d is in a pass of rows %d to %d", r, p.row, p.row+p.rows-1)
						}
					}
				}
			}
			want := 0
			for i, r := range b.Rows {
				first, end := d.plan.visible(int(r.Pos))
				for c := first; c < end; c++ {
					want++
					if seen[[2]int{i, c}] != 1 {
						t.Fatalf("%d slots, window %d: row %d, chunk %d is computed %d times", slots, window, i, c, seen[[2]int{i, c}])
					}
				}
			}
			if want != len(seen) || d.err != nil {
				t.Fatalf("%d chunks are seen, %d computed, error %v", want, len(seen), d.err)
			}
		}
	}
}

func units(list []int32, p attnPass) (us [][]int32) {
	for i := p.unit; i < p.unit+p.units; i++ {
		us = append(us, list[unitInts*i:unitInts*i+unitInts])
	}
	return us
}

// blob is memory of a size.
type blob int64

func (b blob) Bytes() int64 { return int64(b) }

// memoryOnly is a card that gives memory.
type memoryOnly struct{ driver.Device }

func (memoryOnly) Alloc(n int64) (driver.Memory, error)     { return blob(n), nil }
func (memoryOnly) Free(driver.Memory)                       {}
func (memoryOnly) Write(driver.Memory, int64, []byte) error { return nil }
