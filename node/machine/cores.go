package machine

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// maxProcessors bounds what lists of processors may name.
const maxProcessors = 4096

// performanceCores counts, from Linux's files under root, the physical cores
// that this process may use and that are made for speed; 0 when not told. Two
// hardware threads of a core count once, as products keep all of its units
// busy. Efficiency cores are left out: whoever shares work out evenly waits for
// the slowest.
func performanceCores(root fs.FS) int {
	allowed := allowedProcessors(root)
	fast := map[int]bool{}
	if text, ok := readText(root, "sys/devices/cpu_core/cpus"); ok { // Intel, where both kinds exist
		for _, n := range processorList(text) {
			fast[n] = true
		}
	}
	if len(fast) == 0 {
		fast = fastByCapacity(root, allowed)
	}
	chosen := slices.DeleteFunc(slices.Clone(allowed), func(n int) bool { return !fast[n] })
	if len(chosen) == 0 { // all are alike, or the process is bound to the slower ones
		chosen = allowed
	}
	cores := map[string]bool{}
	for _, n := range chosen {
		for _, name := range []string{"core_cpus_list", "thread_siblings_list"} {
			if siblings, ok := readText(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/%s", n, name)); ok {
				cores[siblings] = true
				break
			}
		}
	}
	return len(cores)
}

// fastByCapacity lists the processors of at least half of the capacity of the
// strongest, as Linux tells it of arm64; none where all are alike.
func fastByCapacity(root fs.FS, allowed []int) map[int]bool {
	capacity, most := map[int]int64{}, int64(0)
	for _, n := range allowed {
		c, ok := number(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpu_capacity", n))
		if !ok || c < 0 || c > 1<<20 {
			return nil
		}
		capacity[n], most = c, max(most, c)
	}
	fast := map[int]bool{}
	for n, c := range capacity {
		if 2*c >= most {
			fast[n] = true
		}
	}
	return fast
}

// allowedProcessors lists the logical processors that this process may use.
func allowedProcessors(root fs.FS) []int {
	text, _ := readText(root, "proc/self/status")
	for line := range strings.Lines(text) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return processorList(list)
		}
	}
	return nil
}

// processorList reads a list such as "0-3,8,10-11"; nothing where it is none.
func processorList(text string) []int {
	var list []int
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || first < 0 || last < first || last >= maxProcessors {
			return nil
		}
		for n := first; n <= last; n++ {
			if list = append(list, n); len(list) > maxProcessors {
				return nil
			}
		}
	}
	return list
}
