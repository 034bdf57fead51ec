//go:build !unix

package machine

import "io/fs"

func processLimits() Limits {
	return Limits{Files: Unlimited, LockedMemory: Unlimited, AddressSpace: Unlimited}
}

// Permissions are the system's own on a user's directory there.
func openToOthers(fs.FileInfo) bool { return false }

func foreign(fs.FileInfo) bool { return false }
