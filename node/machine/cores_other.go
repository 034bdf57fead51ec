//go:build !darwin

package machine

import "os"

// systemCores counts the performance cores that Linux tells of; 0 when not
// told, as on other systems.
func systemCores() int { return performanceCores(os.DirFS("/")) }
