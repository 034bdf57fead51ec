package machine

import (
	"io/fs"
	"os"
	"runtime"
)

// nodes are what Linux's graphics drivers put under /dev: a card, or the way to the
// one of a Windows host.
var nodes = []string{"dev/dri/renderD*", "dev/nvidia[0-9]*", "dev/nvidiactl", "dev/nvhost-gpu", "dev/kfd", "dev/dxg", "dev/mali[0-9]*", "dev/kgsl-3d0"}

// GraphicsPresent says whether there may be a graphics processor that a program can
// compute on. Only Linux tells that there is none; elsewhere its drivers have to be
// asked.
func GraphicsPresent() bool { return runtime.GOOS != "linux" || graphicsPresent(os.DirFS("/")) }

func graphicsPresent(root fs.FS) bool {
	for _, pattern := range nodes {
		if list, err := fs.Glob(root, pattern); err == nil && len(list) > 0 {
			return true
		}
	}
	return false
}
