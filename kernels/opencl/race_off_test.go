//go:build !race

package opencl_test

// raced says that the race detector runs: pools then drop what they hold, to find its
// users, and allocate again.
const raced = false
