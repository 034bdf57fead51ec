//go:build race

package wire_test

// raceDetector says that this test binary looks for races: pools then forget
// buffers at random.
const raceDetector = true
