package cuda

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// journal is what came to the stream since the last one, in order.
func (f *fake) journal() (out []string) {
	n := int(f.call("fake_journaled", 1))
	in := new(struct{ a, b uint64 })
	for i := range n {
		at := f.call("fake_journal", uintptr(i), uintptr(unsafe.Pointer(&in.a)), uintptr(unsafe.Pointer(&in.b)))
		name := *(**byte)(unsafe.Pointer(&at))
		s := ""
		for ; *name != 0; name = (*byte)(unsafe.Add(unsafe.Pointer(name), 1)) {
			s += string(*name)
		}
		out = append(out, fmt.Sprintf("%s %d", s, in.b))
	}
	return out
}

// stepper launches kernels as a model does: a write, many launches, a write between them, a
// read.
type stepper struct {
	f    *fake
	d    driver.Device
	m    driver.Memory
	zero driver.Kernel
	buf  []byte
	args [2]driver.Arg
}

func newStepper(t *testing.T, f *fake) *stepper {
	t.Helper()
	s := &stepper{f: f, d: f.open(), buf: make([]byte, 64)}
	s.m = alloc(t, s.d, 1<<16)
	var err error
	if s.zero, err = s.d.Kernel("zero"); err != nil {
		t.Fatal(err)
	}
	f.call("fake_journaled", 1)
	return s
}

// step runs launches whose last arguments are the numbers from first on.
func (s *stepper) step(first, launches int) error {
	err := s.d.Write(s.m, 0, s.buf)
	for i := range launches {
		if err == nil {
			s.args = [2]driver.Arg{driver.Mem(s.m), driver.Int(first + i)}
			err = s.d.Launch(s.zero, [3]int{1 + i%3, 1, 1}, [3]int{128, 1, 1}, s.args[:]...)
		}
		if err == nil && i == launches/2 {
			err = s.d.Write(s.m, 64, s.buf)
		}
	}
	if err == nil {
		err = s.d.Read(s.buf, s.m, 0)
	}
	return err
}

// check holds what came to the stream to what was asked.
func (s *stepper) check(t *testing.T, first, launches int) {
	t.Helper()
	want := []string{"write 0"}
	for i := range launches {
		want = append(want, fmt.Sprintf("zero %d", first+i))
		if i == launches/2 {
			want = append(want, "write 0")
		}
	}
	want = append(want, "read 0")
	if got := s.f.journal(); !slices.Equal(got, want) {
		t.Fatalf("%d launches from %d came as %v", launches, first, got)
	}
}

func TestLaunchesKeepTheirOrderInGraphs(t *testing.T) {
	for _, driverOf := range []struct {
		name   string
		flags  []string
		graphs bool
	}{{"graphs", nil, true}, {"no graphs", []string{"-DNO_GRAPHS"}, false}, {"graphs that leave a kernel out", []string{"-DBAD_GRAPHS"}, false}} {
		t.Run(driverOf.name, func(t *testing.T) {
			f := newFake(t, driverOf.flags...)
			s := newStepper(t, f)
			opened := f.call("fake_graph_launches")
			if (opened > 0) != (driverOf.name != "no graphs") {
				t.Errorf("%d graphs were tried when the card was opened", opened)
			}
			for _, c := range [][2]int{{0, 150}, {0, 150}, {0, 150}, {7, 150}, {0, 150}, {0, 3}, {0, 3}, {0, 151}, {0, 151}, {0, 150}, {7, 150}, {7, 150}, {0, 64}, {0, 64}, {0, 64}} {
				if err := s.step(c[0], c[1]); err != nil {
					t.Fatal(err)
				}
				s.check(t, c[0], c[1])
			}
			if got := f.call("fake_graph_launches") > opened; got != driverOf.graphs {
				t.Errorf("graphs are used: %v", got)
			}
			before := f.call("fake_graphs")
			var failed error
			if n := testing.AllocsPerRun(50, func() { failed = errors.Join(failed, s.step(0, 150)) }); n != 0 && !raced || failed != nil {
				t.Errorf("a step that comes again allocates %v times, error %v", n, failed)
			}
			if n := f.call("fake_graphs"); n != before {
				t.Errorf("%d graphs, %d before", n, before)
			}
			f.call("fake_journaled", 1)
			if err := s.d.Close(); err != nil {
				t.Fatal(err)
			}
			f.nothingLeft()
		})
	}
}

func TestGraphsAreBounded(t *testing.T) {
	f := newFake(t)
	s := newStepper(t, f)
	for i := range 3 * maxSequences {
		for range 2 {
			if err := s.step(1000*i, 80); err != nil {
				t.Fatal(err)
			}
			s.check(t, 1000*i, 80)
		}
		if n := int(f.call("fake_graphs")); n > maxSequences {
			t.Fatalf("%d graphs", n)
		}
	}
	if err := s.step(0, 80); err != nil { // long forgotten
		t.Fatal(err)
	}
	s.check(t, 0, 80)
	// What gathers when memory is given back comes to the stream before.
	if err := s.d.Launch(s.zero, [3]int{1, 1, 1}, [3]int{128, 1, 1}, driver.Mem(s.m), driver.Int(5)); err != nil {
		t.Fatal(err)
	}
	s.d.Free(s.m)
	if got := s.f.journal(); !slices.Equal(got, []string{"zero 5"}) {
		t.Errorf("before the memory was freed came %v", got)
	}
	if err := s.d.Close(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft()
}

// A driver that makes no graph, for whatever reason, gets the launches one by one; one that
// is lost says so.
func TestGraphsThatFail(t *testing.T) {
	f := newFake(t)
	for _, name := range []string{"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuLaunchKernel", "cuGraphLaunch"} {
		for _, code := range []int{2, 900, 700} {
			s := newStepper(t, f)
			if err := s.step(0, 100); err != nil {
				t.Fatal(err)
			}
			s.check(t, 0, 100)
			f.fail(name, 0, code)
			err := s.step(0, 100)
			f.fail("", 0, 0)
			switch {
			case code == 700:
				if lost := s.d.Sync(); !errors.Is(err, driver.ErrLost) && !errors.Is(lost, driver.ErrLost) {
					t.Errorf("%s fails with %d: %v, then %v", name, code, err, lost)
				}
			case name == "cuGraphLaunch":
				if err == nil {
					t.Errorf("%s fails with %d and nobody tells", name, code)
				}
			default:
				if err != nil {
					t.Fatalf("%s fails with %d: %v", name, code, err)
				}
				s.check(t, 0, 100)
				if err := s.step(0, 100); err != nil {
					t.Fatal(err)
				}
				s.check(t, 0, 100)
			}
			_ = s.d.Close()
			f.nothingLeft()
			f.call("fake_journaled", 1)
		}
	}
}
