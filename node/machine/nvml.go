package machine

import (
	"bytes"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// nvmlNames are NVIDIA's management library by system. Windows has it in the
// system's folder since driver 440.
func nvmlNames() []string {
	if runtime.GOOS == "windows" {
		return []string{"nvml.dll"}
	}
	return []string{"libnvidia-ml.so.1"}
}

// nvmlGPUs lists NVIDIA's cards with their memory; nil without the driver, or in
// a build that opens no libraries.
func nvmlGPUs() []GPU { return nvmlCards(nvmlNames()...) }

// nvml are the functions that are used, as nvml.h declares them.
type nvml struct {
	start, stop, count, handle, name, memory, pci, temperature, power uintptr
}

// NVML's own numbers and sizes.
const (
	nvmlSuccess   = 0
	nvmlGPUSensor = 0 // NVML_TEMPERATURE_GPU
	nvmlNameBytes = 96
)

// nvmlMemory is nvmlMemory_t.
type nvmlMemory struct{ total, free, used uint64 }

// nvmlPCI is nvmlPciInfo_t.
type nvmlPCI struct {
	_                   [16]byte
	domain, bus, device uint32
	_, _                uint32
	_                   [32]byte
}

func openNVML(names ...string) (*nvml, error) {
	lib, err := library.Open(names...)
	if err != nil {
		return nil, err
	}
	n := &nvml{}
	for _, f := range []struct {
		to   *uintptr
		name string
	}{
		{&n.start, "nvmlInit_v2"},
		{&n.stop, "nvmlShutdown"},
		{&n.count, "nvmlDeviceGetCount_v2"},
		{&n.handle, "nvmlDeviceGetHandleByIndex_v2"},
		{&n.name, "nvmlDeviceGetName"},
		{&n.memory, "nvmlDeviceGetMemoryInfo"},
		{&n.pci, "nvmlDeviceGetPciInfo_v3"},
		{&n.temperature, "nvmlDeviceGetTemperature"},
		{&n.power, "nvmlDeviceGetPowerUsage"},
	} {
		if *f.to, err = lib.Symbol(f.name); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// nvmlCards asks the library of one of the names. It is started and stopped each
// time, so that a driver that is replaced meanwhile is no trouble.
func nvmlCards(names ...string) []GPU {
	n, err := openNVML(names...)
	if err != nil || uint32(library.Call(n.start)) != nvmlSuccess {
		return nil
	}
	defer library.Call(n.stop)
	count := new(uint32)
	if uint32(library.Call(n.count, uintptr(unsafe.Pointer(count)))) != nvmlSuccess {
		return nil
	}
	var list []GPU
	for i := range min(*count, maxCards) {
		var card uintptr
		if uint32(library.Call(n.handle, uintptr(i), uintptr(unsafe.Pointer(&card)))) == nvmlSuccess {
			list = append(list, n.gpu(card))
		}
	}
	return list
}

// gpu asks what a card is. What it does not tell stays zero.
func (n *nvml) gpu(card uintptr) GPU {
	g := GPU{Name: "NVIDIA GPU", Vendor: "nvidia", Driver: "nvidia"}
	in := &struct {
		name   [nvmlNameBytes]byte
		memory nvmlMemory
		pci    nvmlPCI
		value  uint32
	}{}
	if uint32(library.Call(n.name, card, uintptr(unsafe.Pointer(&in.name[0])), nvmlNameBytes)) == nvmlSuccess {
		text, _, _ := bytes.Cut(in.name[:], []byte{0})
		g.Name = cardName(string(text), g.Name)
	}
	if uint32(library.Call(n.memory, card, uintptr(unsafe.Pointer(&in.memory)))) == nvmlSuccess {
		g.VRAMTotal = clamp(in.memory.total)
		g.VRAMFree = min(g.VRAMTotal, clamp(in.memory.free))
	}
	if uint32(library.Call(n.pci, card, uintptr(unsafe.Pointer(&in.pci)))) == nvmlSuccess {
		g.Bus = busName(fmt.Sprintf("%04x:%02x:%02x.0", in.pci.domain, in.pci.bus, in.pci.device))
	}
	if uint32(library.Call(n.temperature, card, nvmlGPUSensor, uintptr(unsafe.Pointer(&in.value)))) == nvmlSuccess && in.value < 200 {
		g.Celsius = float64(in.value)
	}
	if uint32(library.Call(n.power, card, uintptr(unsafe.Pointer(&in.value)))) == nvmlSuccess && in.value < 5_000_000 {
		g.Watts = float64(in.value) / 1000
	}
	return g
}
