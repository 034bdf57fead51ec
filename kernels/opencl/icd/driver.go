package icd

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// Queries of OpenCL's cl.h and of the extensions named.
const (
	platformName       = 0x0902
	deviceTypeAll      = 0xFFFFFFFF
	deviceType         = 0x1000
	deviceUnits        = 0x1002
	deviceMaxGroup     = 0x1004
	deviceMaxAlloc     = 0x1010
	deviceSingleFP     = 0x101B
	deviceMemory       = 0x101F
	deviceLocalMemory  = 0x1023
	deviceLittleEndian = 0x1026
	deviceAvailable    = 0x1027
	deviceCompiler     = 0x1028
	deviceName         = 0x102B
	deviceVendor       = 0x102C
	driverVersion      = 0x102D
	deviceProfile      = 0x102E
	deviceVersion      = 0x102F
	deviceExtensions   = 0x1030
	deviceHostMemory   = 0x1035
	deviceNvidiaBus    = 0x4008 // cl_nv_device_attribute_query
	deviceNvidiaSlot   = 0x4009
	deviceNvidiaDomain = 0x400A
	deviceAMDTopology  = 0x4037 // cl_amd_device_attribute_query
	deviceAMDFree      = 0x4039
	devicePCI          = 0x410F // cl_khr_pci_bus_info
	deviceUUID         = 0x106A // cl_khr_device_uuid

	typeCPU          = 1 << 1
	fpRoundToNearest = 1 << 2

	programBuildLog = 0x1183
)

// New makes the driver of the system's OpenCL library, which is loaded when it is first
// asked for devices.
func New() driver.Driver { return icd{} }

type icd struct{}

// Name is "opencl".
func (icd) Name() string { return "opencl" }

// found is a device and what it said of itself.
type found struct {
	l    *functions
	id   uintptr
	info driver.Info
	exts string
}

// Devices lists the devices of all platforms that can run weft's kernels.
func (icd) Devices() ([]driver.Info, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	infos := make([]driver.Info, len(all))
	for i := range all {
		infos[i] = all[i].info
	}
	return infos, nil
}

// Open builds the program for a device. The error of a program that does not build holds
// the compiler's own words.
func (icd) Open(index int, source driver.Program) (driver.Device, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= len(all) {
		return nil, fmt.Errorf("open OpenCL device %d: there are %d", index, len(all))
	}
	d, err := open(&all[index], source)
	if err != nil {
		return nil, fmt.Errorf("open OpenCL device %s: %w", all[index].info.Name, err)
	}
	return d, nil
}

// list asks every platform for its devices, GPUs first, in an order that stays.
func list() ([]found, error) {
	l, err := loaded()
	if err != nil {
		return nil, err
	}
	platforms, c := ids(func(n uintptr, to *uintptr, count *uint32) code {
		return codeOf(library.Call(l.getPlatformIDs, n, uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(count))))
	})
	if c == platformNotFound || c == success && len(platforms) == 0 {
		return nil, fmt.Errorf("%w: the OpenCL library knows no platform: no vendor's driver is installed", driver.ErrAbsent)
	}
	if c != success {
		return nil, fmt.Errorf("list OpenCL platforms: %w", c)
	}
	var all []found
	var refused []error
	for _, p := range platforms {
		devices, c := ids(func(n uintptr, to *uintptr, count *uint32) code {
			return codeOf(library.Call(l.getDeviceIDs, p, deviceTypeAll, n, uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(count))))
		})
		if c != success && c != deviceNotFound {
			refused = append(refused, fmt.Errorf("list devices of a platform: %w", c))
			continue
		}
		name := l.text(l.getPlatformInfo, p, platformName)
		for _, id := range devices {
			f := found{l: l, id: id}
			if err := f.describe(name); err != nil {
				refused = append(refused, err)
				continue
			}
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(fmt.Errorf("%w: no OpenCL device can be used", driver.ErrAbsent), errors.Join(refused...))
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(rank(a.info), rank(b.info)) })
	for i := range all {
		all[i].info.Index = i
	}
	return all, nil
}

func rank(i driver.Info) int {
	if i.CPU {
		return 1
	}
	return 0
}

// maxIDs bounds what a library may claim to have.
const maxIDs = 256

// ids asks for a list in OpenCL's way: its length, then its elements.
func ids(ask func(n uintptr, to *uintptr, count *uint32) code) ([]uintptr, code) {
	var count uint32
	if c := ask(0, nil, &count); c != success || count == 0 {
		return nil, c
	}
	to := make([]uintptr, min(count, maxIDs))
	c := ask(uintptr(len(to)), &to[0], &count)
	return to, c
}

// describe fills in what a device says of itself; an error says why it cannot be used.
func (f *found) describe(platform string) error {
	i := &f.info
	i.Name, i.Vendor = f.string(deviceName), f.string(deviceVendor)
	i.DriverName, i.DriverVersion = "opencl ("+platform+")", f.string(driverVersion)
	i.Memory, i.MaxAlloc = f.number(deviceMemory), f.number(deviceMaxAlloc)
	i.Shared = f.number(deviceHostMemory) != 0
	i.MaxGroup, i.LocalMemory, i.Units = int(f.number(deviceMaxGroup)), int(f.number(deviceLocalMemory)), int(f.number(deviceUnits))
	i.CPU = f.number(deviceType)&typeCPU != 0
	f.exts = f.string(deviceExtensions)
	i.Dot = f.has("cl_khr_integer_dot_product")
	i.Bus = f.bus()
	major, minor := version(f.string(deviceVersion))
	switch {
	case f.number(deviceAvailable) == 0:
		return fmt.Errorf("%s is not available", i.Name)
	case f.number(deviceCompiler) == 0:
		return fmt.Errorf("%s has no compiler", i.Name)
	case major < 1 || major == 1 && minor < 2:
		return fmt.Errorf("%s has OpenCL %d.%d; 1.2 is needed", i.Name, major, minor)
	case f.string(deviceProfile) != "FULL_PROFILE":
		return fmt.Errorf("%s has OpenCL's embedded profile; the full one is needed", i.Name)
	case f.number(deviceSingleFP)&fpRoundToNearest == 0:
		return fmt.Errorf("%s does not round to nearest", i.Name)
	case f.number(deviceLittleEndian) == 0:
		return fmt.Errorf("%s is not little-endian", i.Name)
	case i.MaxGroup < driver.MaxGroup:
		return fmt.Errorf("%s takes work-groups of %d items at most; %d are needed", i.Name, i.MaxGroup, driver.MaxGroup)
	}
	return nil
}

// version reads "OpenCL 1.2 ...".
func version(s string) (major, minor int) {
	if _, err := fmt.Sscanf(s, "OpenCL %d.%d", &major, &minor); err != nil {
		return 0, 0
	}
	return major, minor
}

func (f *found) has(extension string) bool { return slices.Contains(strings.Fields(f.exts), extension) }

// bus names the card's place, or its UUID, or nothing.
func (f *found) bus() string {
	var b [32]byte
	at := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	if f.has("cl_khr_pci_bus_info") && f.raw(devicePCI, b[:16]) {
		return pci(at(0), at(1), at(2), at(3))
	}
	if f.has("cl_nv_device_attribute_query") && f.raw(deviceNvidiaBus, b[:4]) && f.raw(deviceNvidiaSlot, b[4:8]) {
		f.raw(deviceNvidiaDomain, b[8:12]) // 0 in older drivers
		return pci(at(2), at(0), at(1)>>3, at(1)&7)
	}
	if f.has("cl_amd_device_attribute_query") && f.raw(deviceAMDTopology, b[:24]) && at(0) == 1 {
		return pci(0, uint32(b[21]), uint32(b[22]), uint32(b[23]))
	}
	if f.has("cl_khr_device_uuid") && f.raw(deviceUUID, b[:16]) {
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
	}
	return ""
}

func pci(domain, bus, device, function uint32) string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", domain, bus, device, function)
}

// raw asks for a value of exactly len(b) bytes.
func (f *found) raw(what uintptr, b []byte) bool {
	return codeOf(library.Call(f.l.getDeviceInfo, f.id, what, uintptr(len(b)), uintptr(unsafe.Pointer(&b[0])), 0)) == success
}

// number asks for a number of four or eight bytes; 0 where the device does not know it.
func (f *found) number(what uintptr) uint64 {
	var b [8]byte
	if !f.raw(what, b[:]) {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

func (f *found) string(what uintptr) string { return f.l.text(f.l.getDeviceInfo, f.id, what) }

// maxText bounds names and lists of extensions.
const maxText = 64 << 10

// text asks for a string, at most 64 KiB of it.
func (l *functions) text(ask, of, what uintptr) string {
	var n uintptr
	if codeOf(library.Call(ask, of, what, 0, 0, uintptr(unsafe.Pointer(&n)))) != success || n == 0 || n > maxText {
		return ""
	}
	b := make([]byte, n)
	if codeOf(library.Call(ask, of, what, n, uintptr(unsafe.Pointer(&b[0])), 0)) != success {
		return ""
	}
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.Join(strings.Fields(s), " ")
}
