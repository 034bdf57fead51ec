package machine

import (
	"context"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// Bounds of what is read from the system's files.
const (
	maxCards    = 32
	maxCardFile = 4 << 10 // bytes
	maxCardName = 96      // bytes
)

// gpus asks NVIDIA's library where this build has it, else its command, and the
// system's files for the rest. root is the root directory.
func gpus(ctx context.Context, root fs.FS) []GPU {
	list := nvmlGPUs()
	if list == nil {
		list = withSMI(ctx, procNVIDIA(root))
	}
	list = append(list, drmGPUs(root, len(list) > 0)...)
	list = append(list, systemGPUs()...)
	return list[:min(len(list), maxCards)]
}

// procNVIDIA lists NVIDIA's cards from the driver's files, which tell no
// memory.
func procNVIDIA(root fs.FS) []GPU {
	files, err := fs.Glob(root, "proc/driver/nvidia/gpus/*/information")
	if err != nil {
		return nil
	}
	var list []GPU
	for _, f := range files[:min(len(files), maxCards)] {
		text, ok := readText(root, f)
		if !ok {
			continue
		}
		g := GPU{Name: "NVIDIA GPU", Vendor: "nvidia", Driver: "nvidia", Bus: busName(path.Base(path.Dir(f)))}
		for line := range strings.Lines(text) {
			if model, ok := strings.CutPrefix(line, "Model:"); ok {
				g.Name = cardName(model, g.Name)
			}
		}
		list = append(list, g)
	}
	return list
}

// drmGPUs lists the cards of the kernel's graphics drivers. NVIDIA's are left
// out where its own driver has told them.
func drmGPUs(root fs.FS, nvidia bool) []GPU {
	files, err := fs.Glob(root, "sys/class/drm/card*/device/vendor")
	if err != nil {
		return nil
	}
	var list []GPU
	for _, f := range files {
		dir := path.Dir(f)
		if card := path.Base(path.Dir(dir)); strings.Contains(card, "-") || len(list) == maxCards {
			continue // a connector of a card
		}
		id, ok := readText(root, f)
		if !ok {
			continue
		}
		switch id {
		case "0x1002":
			list = append(list, amdGPU(root, dir))
		case "0x8086":
			list = append(list, intelGPU(root, dir))
		case "0x10de":
			if !nvidia {
				list = append(list, GPU{Name: named(root, dir, "NVIDIA GPU"), Vendor: "nvidia", Driver: driver(root, dir), Bus: busOf(root, dir)})
			}
		}
	}
	return list
}

func amdGPU(root fs.FS, dir string) GPU {
	g := GPU{Name: named(root, dir, "AMD GPU"), Vendor: "amd", Driver: driver(root, dir), Bus: busOf(root, dir)}
	g.Celsius, g.Watts = sensors(root, dir)
	if text, ok := readText(root, dir+"/product_name"); ok {
		g.Name = cardName(text, g.Name)
	}
	if total, ok := number(root, dir+"/mem_info_vram_total"); ok && total > 0 {
		used, _ := number(root, dir+"/mem_info_vram_used")
		g.VRAMTotal, g.VRAMFree = total, min(total, max(0, total-used))
	}
	return g
}

// intelGPU knows the memory of a card of its own from the xe driver, which
// tells the size alone; what has none shares the processor's.
func intelGPU(root fs.FS, dir string) GPU {
	g := GPU{Name: named(root, dir, "Intel GPU"), Vendor: "intel", Driver: driver(root, dir), Bus: busOf(root, dir)}
	g.Celsius, g.Watts = sensors(root, dir)
	tiles, err := fs.Glob(root, dir+"/tile*/physical_vram_size_bytes")
	if err != nil {
		return g
	}
	for _, f := range tiles[:min(len(tiles), 16)] {
		if n, ok := number(root, f); ok && n > 0 && n < 1<<50 {
			g.VRAMTotal += n
		}
	}
	return g
}

// named adds the PCI device id to a name that tells only the vendor.
func named(root fs.FS, dir, vendor string) string {
	id, ok := readText(root, dir+"/device")
	if !ok || len(id) > 10 {
		return vendor
	}
	return vendor + " " + cardName(id, "")
}

// driver is the kernel driver of a device, "" when none has it.
func driver(root fs.FS, dir string) string { return cardName(event(root, dir, "DRIVER"), "") }

// busOf is the PCI address of a device, "" when it has none.
func busOf(root fs.FS, dir string) string { return busName(event(root, dir, "PCI_SLOT_NAME")) }

// event is a value of a device's uevent file.
func event(root fs.FS, dir, key string) string {
	text, ok := readText(root, dir+"/uevent")
	if !ok {
		return ""
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// pciAddress is a PCI address, with the long domain that some tools write.
var pciAddress = regexp.MustCompile(`^(?:0000)?([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$`)

// busName brings PCI addresses into one form; what is none is "".
func busName(s string) string {
	if m := pciAddress.FindStringSubmatch(strings.ToLower(strings.TrimSpace(s))); m != nil {
		return m[1]
	}
	return ""
}

// sensors reads a card's temperature in degrees and its power in watts, 0 where
// its driver does not tell.
func sensors(root fs.FS, dir string) (celsius, watts float64) {
	monitors, err := fs.Glob(root, dir+"/hwmon/hwmon*")
	if err != nil {
		return 0, 0
	}
	for _, m := range monitors[:min(len(monitors), 4)] {
		if n, ok := number(root, m+"/temp1_input"); ok && n > 0 && n < 200_000 {
			celsius = float64(n) / 1000
		}
		for _, name := range []string{"/power1_average", "/power1_input"} {
			if n, ok := number(root, m+name); ok && n > 0 && n < 5e9 {
				watts = float64(n) / 1e6
				break
			}
		}
	}
	return celsius, watts
}

// readText reads a small file; one that is longer is cut.
func readText(root fs.FS, name string) (string, bool) {
	f, err := root.Open(name)
	if err != nil {
		return "", false
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxCardFile))
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(b)), true
}

// cardName makes a foreign name fit for a record and a screen.
func cardName(s, otherwise string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s))
	if len(s) > maxCardName {
		s = strings.ToValidUTF8(s[:maxCardName], "")
	}
	if s == "" {
		return otherwise
	}
	return s
}
