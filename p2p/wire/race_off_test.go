//go:build !race

package wire_test

// raceDetector says that this test binary does not look for races.
const raceDetector = false
