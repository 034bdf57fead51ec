package machine

import (
	"io/fs"
	"path"
	"strings"
)

// gpus asks NVIDIA's library where this build has it, and the system's files
// for the rest. root is the root directory.
func gpus(root fs.FS) []GPU {
	list := nvmlGPUs()
	if list == nil {
		list = procNVIDIA(root)
	}
	return append(list, drmGPUs(root)...)
}

// procNVIDIA lists NVIDIA's cards from the driver's files, which tell no
// memory.
func procNVIDIA(root fs.FS) []GPU {
	files, err := fs.Glob(root, "proc/driver/nvidia/gpus/*/information")
	if err != nil {
		return nil
	}
	var list []GPU
	for _, f := range files {
		b, err := fs.ReadFile(root, f)
		if err != nil {
			continue
		}
		g := GPU{Name: "NVIDIA GPU", Vendor: "nvidia"}
		for line := range strings.Lines(string(b)) {
			if model, ok := strings.CutPrefix(line, "Model:"); ok {
				g.Name = strings.TrimSpace(model)
			}
		}
		list = append(list, g)
	}
	return list
}

// drmGPUs lists AMD's and Intel's cards from the kernel's files.
func drmGPUs(root fs.FS) []GPU {
	files, err := fs.Glob(root, "sys/class/drm/card*/device/vendor")
	if err != nil {
		return nil
	}
	var list []GPU
	for _, f := range files {
		dir := path.Dir(f)
		if card := path.Base(path.Dir(dir)); strings.Contains(card, "-") {
			continue // a connector of a card
		}
		id, err := fs.ReadFile(root, f)
		if err != nil {
			continue
		}
		switch strings.TrimSpace(string(id)) {
		case "0x1002":
			g := GPU{Name: "AMD GPU", Vendor: "amd"}
			if b, err := fs.ReadFile(root, dir+"/product_name"); err == nil && len(b) > 1 {
				g.Name = strings.TrimSpace(string(b))
			}
			if total, ok := number(root, dir+"/mem_info_vram_total"); ok {
				used, _ := number(root, dir+"/mem_info_vram_used")
				g.VRAMTotal, g.VRAMFree = total, max(0, total-used)
			}
			list = append(list, g)
		case "0x8086":
			list = append(list, GPU{Name: "Intel GPU", Vendor: "intel"})
		}
	}
	return list
}
