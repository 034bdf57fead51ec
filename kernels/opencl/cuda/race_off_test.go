//go:build !race

package cuda

// raced says that the race detector runs: pools then drop what they hold, to find its
// users, and allocate again.
const raced = false
