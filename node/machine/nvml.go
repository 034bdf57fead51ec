//go:build cgo && linux

package machine

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// nvmlGPUs lists NVIDIA's cards with their memory; nil without the driver.
func nvmlGPUs() []GPU {
	if nvml.Init() != nvml.SUCCESS {
		return nil
	}
	defer func() { _ = nvml.Shutdown() }()
	n, ret := nvml.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	var list []GPU
	for i := range min(n, maxCards) {
		d, ret := nvml.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		g := GPU{Name: "NVIDIA GPU", Vendor: "nvidia", Driver: "nvidia"}
		if name, ret := d.GetName(); ret == nvml.SUCCESS {
			g.Name = cardName(name, g.Name)
		}
		if m, ret := d.GetMemoryInfo(); ret == nvml.SUCCESS {
			g.VRAMTotal, g.VRAMFree = int64(m.Total), int64(m.Free)
		}
		if p, ret := d.GetPciInfo(); ret == nvml.SUCCESS {
			g.Bus = busName(fmt.Sprintf("%04x:%02x:%02x.0", p.Domain, p.Bus, p.Device))
		}
		if t, ret := d.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS && t < 200 {
			g.Celsius = float64(t)
		}
		if p, ret := d.GetPowerUsage(); ret == nvml.SUCCESS {
			g.Watts = float64(p) / 1000
		}
		list = append(list, g)
	}
	return list
}
