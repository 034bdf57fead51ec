package speed

import (
	"runtime"
	"time"
)

// A measurement counts as the machine's own speed when the process got this part
// of the time of the processors that it could have used. With less, others
// computed at the same time, and the figure is of that moment.
const undisturbed = 0.6

// tries is how often a disturbed measurement is made again.
const tries = 3

// use is what a measurement had of the processors.
type use struct{ cpu, wall time.Duration }

// watch begins to count; the function that it returns gives the count so far.
func watch() func() use {
	cpu, wall := cpuTime(), time.Now()
	return func() use { return use{cpuTime() - cpu, time.Since(wall)} }
}

// quiet says that nobody else computed much; also where the system does not tell.
func (u use) quiet(threads int) bool {
	threads = max(1, min(threads, runtime.GOMAXPROCS(0)))
	return u.cpu <= 0 || float64(u.cpu) >= undisturbed*float64(threads)*float64(u.wall)
}
