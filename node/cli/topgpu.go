package cli

import "fmt"

// gpuList has every graphics processor of the mesh.
func (m *topModel) gpuList() topSection {
	s := topSection{cols: []column{
		{title: "GPU", least: 10},
		{title: "ON", least: 8},
		{title: "STATE", least: 8},
		{title: "STAGES", right: true},
		{title: "FREE", right: true},
		{title: "SPEED", right: true},
		{title: "TEMP", right: true},
		{title: "POWER", right: true},
	}}
	for _, p := range m.o.Peers {
		for _, g := range p.GPUs {
			state, t, stages, speed, celsius, watts := "used", goodTint, size(g.Held)+"/"+size(g.Room), fmt.Sprintf("%.0f GB/s", g.DecodeBps/1e9), "", ""
			if !g.Used {
				state, t, stages, speed = g.Reason, dimTint, "", ""
			}
			if g.Celsius > 0 {
				celsius = fmt.Sprintf("%.0f °C", g.Celsius)
			}
			if g.Watts > 0 {
				watts = fmt.Sprintf("%.0f W", g.Watts)
			}
			free := ""
			if g.VRAMFree > 0 {
				free = size(g.VRAMFree)
			}
			s.add(t, g.Name, p.Name, state, stages, free, speed, celsius, watts)
		}
	}
	return s
}
