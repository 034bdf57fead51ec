package machine

import (
	"io/fs"
	"strconv"
)

// groupMemory reads the memory limit and use of the process's control group:
// version 2, else version 1. ok is false without a limit.
func groupMemory(root fs.FS) (limit, used int64, ok bool) {
	for _, names := range [][2]string{
		{"memory.max", "memory.current"},
		{"memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"},
	} {
		l, okLimit := number(root, names[0])
		if !okLimit || l <= 0 || l > 1<<60 {
			continue
		}
		u, _ := number(root, names[1])
		return l, u, true
	}
	return 0, 0, false
}

func number(root fs.FS, name string) (int64, bool) {
	text, ok := readText(root, name)
	if !ok || len(text) > 64 {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}
