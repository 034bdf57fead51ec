// Command testsummary reads `go test -json` and prints what a person wants to
// know: failures with their output, a line a package, the coverage of the
// whole, what could not be run and why, and a closing line with the counts.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[string][]string // package/test to its lines
	notRun                  []string
	broken                  bool
}

func main() {
	coverage := flag.String("coverage", "", "cover profile of the whole module")
	floor := flag.Float64("floor", 0, "least coverage in per cent")
	flag.Parse()
	s := &summary{out: os.Stdout, output: map[string][]string{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	ok := s.print(*coverage, *floor)
	if !ok {
		os.Exit(1)
	}
}

func (s *summary) read(r io.Reader) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 1<<20), 64<<20)
	for sc.Scan() {
		var e event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			fmt.Fprintln(s.out, sc.Text())
			continue
		}
		s.add(e)
	}
	return sc.Err()
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if strings.HasPrefix(e.Output, "coverage: ") {
			return // of one package's tests; the whole is printed at the end
		}
		s.output[key] = append(s.output[key], e.Output)
	case "pass", "skip", "fail":
		if e.Test == "" {
			s.packageDone(e, key)
			return
		}
		s.testDone(e, key)
	case "build-fail":
		s.broken = true
		fmt.Fprint(s.out, strings.Join(s.output[key], ""))
	}
}

func (s *summary) testDone(e event, key string) {
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
		s.notRun = append(s.notRun, fmt.Sprintf("%s: %s", short(e.Package)+"."+e.Test, reason(s.output[key])))
	case "fail":
		s.failed++
		fmt.Fprintf(s.out, "FAIL %s.%s\n%s", short(e.Package), e.Test, strings.Join(s.output[key], ""))
	}
	delete(s.output, key)
}

func (s *summary) packageDone(e event, key string) {
	switch e.Action {
	case "fail":
		s.broken = true
		fmt.Fprintf(s.out, "FAIL %s\n%s", e.Package, strings.Join(s.output[key], ""))
	case "pass":
		fmt.Fprintf(s.out, "ok   %-40s %v\n", short(e.Package), time.Duration(e.Elapsed*float64(time.Second)).Round(10*time.Millisecond))
	}
	delete(s.output, key)
}

// reason is a skipped test's own message.
func reason(lines []string) string {
	for _, l := range slices.Backward(lines) {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "---") || strings.HasPrefix(l, "===") {
			continue
		}
		if _, msg, ok := strings.Cut(l, ": "); ok && strings.Contains(strings.SplitN(l, ": ", 2)[0], ".go:") {
			return strings.TrimPrefix(msg, "not run: ")
		}
		return l
	}
	return "skipped without a reason"
}

func short(pkg string) string {
	if _, s, ok := strings.Cut(pkg, "weft-mesh/weft/"); ok {
		return s
	}
	return "."
}

// print writes the end of the run and says whether all is well.
func (s *summary) print(profile string, floor float64) bool {
	ok := s.failed == 0 && !s.broken
	if len(s.notRun) > 0 {
		fmt.Fprintf(s.out, "\nnot run here (%d):\n", len(s.notRun))
		slices.Sort(s.notRun)
		for _, n := range s.notRun {
			fmt.Fprintln(s.out, "  "+n)
		}
	}
	if profile != "" {
		c, err := covered(profile)
		switch {
		case err != nil:
			fmt.Fprintln(s.out, "coverage:", err)
			ok = false
		case c < floor:
			fmt.Fprintf(s.out, "\ncoverage of the whole: %.1f%%, below the floor of %.0f%%\n", c, floor)
			ok = false
		default:
			fmt.Fprintf(s.out, "\ncoverage of the whole: %.1f%%\n", c)
		}
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	return ok
}

// covered is the share of statements that any test reached, in per cent.
func covered(profile string) (float64, error) {
	f, err := os.Open(profile)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	type block struct {
		statements int
		hit        bool
	}
	blocks := map[string]block{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) != 3 || strings.Contains(fields[0], ".pb.go:") {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			return 0, fmt.Errorf("%s: %w", profile, err)
		}
		b := blocks[fields[0]]
		blocks[fields[0]] = block{n, b.hit || fields[2] != "0"}
	}
	all, hit := 0, 0
	for _, b := range blocks {
		all += b.statements
		if b.hit {
			hit += b.statements
		}
	}
	if all == 0 {
		return 0, fmt.Errorf("%s holds no blocks", profile)
	}
	return 100 * float64(hit) / float64(all), sc.Err()
}
