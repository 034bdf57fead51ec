package cuda

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// loader is the driver.Driver of NVIDIA's library.
type loader struct {
	open func() (*api, error)
}

// New makes the driver. The library is opened when a method first needs it.
func New() driver.Driver { return loader{system} }

// Name is "cuda".
func (loader) Name() string { return "cuda" }

// api opens the library; that it is not there, or knows no card, is driver.ErrAbsent.
func (l loader) api() (*api, error) {
	a, err := l.open()
	switch {
	case err == nil:
		return a, nil
	case errors.Is(err, errNoDevice), errors.Is(err, library.ErrNone):
		return nil, fmt.Errorf("%w: %w", driver.ErrAbsent, err)
	case errors.Is(err, driver.ErrLost), errors.Is(err, errStart):
		return nil, err
	}
	return nil, fmt.Errorf("%w: NVIDIA's library: %w", driver.ErrAbsent, err)
}

// maxDevices bounds what a library may tell.
const maxDevices = 64

// Devices lists NVIDIA's cards that this process may see (the driver heeds
// CUDA_VISIBLE_DEVICES).
func (l loader) Devices() ([]driver.Info, error) {
	a, err := l.api()
	if err != nil {
		return nil, err
	}
	n := new(int32)
	if r := a.call(cuDeviceGetCount, uintptr(unsafe.Pointer(n))); r != success {
		return nil, a.failure("count the devices", r)
	}
	if *n <= 0 {
		return nil, fmt.Errorf("%w: NVIDIA's library knows no card", driver.ErrAbsent)
	}
	list := make([]driver.Info, 0, min(*n, maxDevices))
	for i := range min(int(*n), maxDevices) {
		info, _, err := a.info(i)
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// info asks what a device is. card is the driver's handle of it.
func (a *api) info(index int) (info driver.Info, card card, err error) {
	if r := a.call(cuDeviceGet, uintptr(unsafe.Pointer(&card.handle)), uintptr(index)); r != success {
		return info, card, a.failure(fmt.Sprintf("find device %d", index), r)
	}
	var text [256]byte
	var bus [64]byte
	var bytes uint64
	if r := a.call(cuDeviceGetName, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), uintptr(card.handle)); r != success {
		return info, card, a.failure(fmt.Sprintf("name device %d", index), r)
	}
	if r := a.call(cuDeviceTotalMem, uintptr(unsafe.Pointer(&bytes)), uintptr(card.handle)); r != success {
		return info, card, a.failure(fmt.Sprintf("size device %d", index), r)
	}
	var v [6]int32
	for i, attr := range []uintptr{attrMaxThreads, attrLocalMemory, attrUnits, attrIntegrated, attrCapabilityMajor, attrCapabilityMinor} {
		if r := a.call(cuDeviceGetAttribute, uintptr(unsafe.Pointer(&v[i])), attr, uintptr(card.handle)); r != success {
			return info, card, a.failure(fmt.Sprintf("ask attribute %d of device %d", attr, index), r)
		}
	}
	if r := a.call(cuDeviceGetPCIBusID, uintptr(unsafe.Pointer(&bus[0])), uintptr(len(bus)), uintptr(card.handle)); r != success {
		bus[0] = 0 // a card without a bus, as in some virtual machines
	}
	card.capability = int(v[4])*10 + int(v[5])
	return driver.Info{
		Index: index, Name: zeroed(text[:]), Vendor: "NVIDIA", DriverName: "cuda", DriverVersion: a.version(),
		Bus: strings.ToLower(zeroed(bus[:])), Memory: bytes, Shared: v[3] != 0, MaxGroup: int(v[0]), LocalMemory: int(v[1]),
		MaxAlloc: bytes, Units: int(v[2]), Dot: card.capability >= 61,
	}, card, nil
}

// card is how the driver knows a device.
type card struct {
	handle     int32
	capability int
}

// kernelModule is the file in which Linux tells the version of NVIDIA's kernel module.
const kernelModule = "/sys/module/nvidia/version"

// version is that of the vendor's driver where the system tells it, and of CUDA.
func (a *api) version() string {
	v := new(int32)
	if r := a.call(cuDriverGetVersion, uintptr(unsafe.Pointer(v))); r != success {
		return "unknown"
	}
	text := fmt.Sprintf("CUDA %d.%d", *v/1000, *v%1000/10)
	if b, err := os.ReadFile(kernelModule); err == nil && len(b) < 64 {
		text = strings.TrimSpace(string(b)) + ", " + text
	}
	return text
}

// zeroed is the text before the first zero byte.
func zeroed(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimSpace(s)
}

// Open makes a context, compiles the kernels for the card and makes a queue.
func (l loader) Open(index int, source driver.Program) (driver.Device, error) {
	return l.openAs(index, source, 0)
}

// openAs takes the text for another compute capability than the card's, if it is not 0.
func (l loader) openAs(index int, source driver.Program, capability int) (driver.Device, error) {
	a, err := l.api()
	if err != nil {
		return nil, err
	}
	info, card, err := a.info(index)
	if err != nil {
		return nil, err
	}
	if capability == 0 {
		capability = card.capability
	}
	p, err := programFor(capability, source)
	if err != nil {
		return nil, err
	}
	d := &device{api: a, info: info, card: card, signatures: p.module.Kernels, kernels: map[string]*kernel{}, live: map[uintptr]struct{}{}}
	for i := range d.values {
		d.pointers[i] = unsafe.Pointer(&d.values[i])
	}
	d.gathered.make(a)
	if err := d.start(p); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", info.Name, err), d.Close())
	}
	return d, nil
}
