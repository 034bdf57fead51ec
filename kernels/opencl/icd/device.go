package icd

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// options are all that the kernels are built with: no mathematical option.
const options = "-cl-std=CL1.2"

// device is a context with one program and one queue in order.
type device struct {
	l    *functions
	id   uintptr
	info driver.Info
	amd  bool // tells its free memory

	context, queue, program uintptr

	kernels map[string]*kernel
	live    map[*memory]struct{}
	held    int64 // bytes of live memory

	staging staging
	waiting int // launches since the driver was told to begin
	// What C functions are given by address, and their arguments, kept here so that steady
	// use allocates nothing.
	handle        uintptr
	bits          uint32
	global, local [3]uintptr
	data          *byte
	args          [12]uintptr
}

// memory is a buffer, and the parts of it that kernels have been given.
type memory struct {
	d     *device
	id    uintptr
	bytes int64
	parts map[int64]uintptr
}

// Bytes is the size.
func (m *memory) Bytes() int64 { return m.bytes }

// kernel is a function and the arguments that it was last given.
type kernel struct {
	id   uintptr
	name string
	last []driver.Arg
}

// Name is the function's name.
func (k *kernel) Name() string { return k.name }

const (
	// directWrite is how much a device in host memory gets in one copy, without staging.
	directWrite = 64 << 10
	// flushAfter is how many launches a driver may keep to itself before it is told to
	// begin: it need not otherwise until something waits.
	flushAfter = 32

	memReadWrite             = 1 << 0
	bufferRegion             = 0x1220
	migrateUndefined         = 1 << 1
	no, yes                  = 0, 1
	kernelArgs               = 32 // more than any kernel has
	pointerBytes             = unsafe.Sizeof(uintptr(0))
	maxLog                   = 16 << 10
	maxBuildLog      uintptr = 1 << 20
)

func open(f *found, source driver.Program) (*device, error) {
	d := &device{
		l: f.l, id: f.id, info: f.info, amd: f.has("cl_amd_device_attribute_query"),
		kernels: map[string]*kernel{}, live: map[*memory]struct{}{},
	}
	if err := d.open(source); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *device) open(source driver.Program) error {
	l := d.l
	var c int32
	if d.context = library.Call(l.createContext, 0, 1, uintptr(unsafe.Pointer(&d.id)), 0, 0, uintptr(unsafe.Pointer(&c))); c != 0 {
		return fmt.Errorf("make a context: %w", code(c))
	}
	if d.queue = library.Call(l.createQueue, d.context, d.id, 0, uintptr(unsafe.Pointer(&c))); c != 0 {
		return fmt.Errorf("make a queue: %w", code(c))
	}
	if err := d.staging.make(d); err != nil {
		return err
	}
	return d.build(source)
}

func (d *device) build(source driver.Program) error {
	text := cstring(source.Source)
	length := uintptr(len(source.Source))
	var pin runtime.Pinner
	pin.Pin(text) // C reads a pointer to a pointer
	defer pin.Unpin()
	var c int32
	d.program = library.Call(d.l.createProgram, d.context, 1, uintptr(unsafe.Pointer(&text)), uintptr(unsafe.Pointer(&length)), uintptr(unsafe.Pointer(&c)))
	if c != 0 {
		return fmt.Errorf("make the program: %w", code(c))
	}
	if c := codeOf(library.Call(d.l.buildProgram, d.program, 1, uintptr(unsafe.Pointer(&d.id)), uintptr(unsafe.Pointer(cstring(options))), 0, 0)); c != success {
		return fmt.Errorf("build the kernels: %w: the driver's compiler says: %s", c, d.buildLog())
	}
	return nil
}

// buildLog is what the compiler said, at most 16 KiB of it.
func (d *device) buildLog() string {
	var n uintptr
	if codeOf(library.Call(d.l.getBuildInfo, d.program, d.id, programBuildLog, 0, 0, uintptr(unsafe.Pointer(&n)))) != success || n == 0 || n > maxBuildLog {
		return "nothing"
	}
	b := make([]byte, n)
	if codeOf(library.Call(d.l.getBuildInfo, d.program, d.id, programBuildLog, n, uintptr(unsafe.Pointer(&b[0])), 0)) != success {
		return "nothing"
	}
	return string(b[:min(len(b)-1, maxLog)])
}

// Info says what the device is.
func (d *device) Info() driver.Info { return d.info }

// Alloc makes memory. Drivers put off finding room for it until it is used, so it is moved
// to the device at once: what does not fit is an error here.
func (d *device) Alloc(bytes int64) (driver.Memory, error) {
	if bytes < 1 {
		return nil, fmt.Errorf("make device memory of %d bytes", bytes)
	}
	if d.info.MaxAlloc > 0 && uint64(bytes) > d.info.MaxAlloc {
		return nil, fmt.Errorf("%w: %d bytes in one piece; the driver gives at most %d", driver.ErrNoMemory, bytes, d.info.MaxAlloc)
	}
	var c int32
	m := &memory{d: d, bytes: bytes}
	m.id = library.Call(d.l.createBuffer, d.context, memReadWrite, uintptr((bytes+3)&^3), 0, uintptr(unsafe.Pointer(&c)))
	if c != 0 {
		return nil, allocError(bytes, code(c))
	}
	r := codeOf(library.Call(d.l.migrateMem, d.queue, 1, uintptr(unsafe.Pointer(&m.id)), migrateUndefined, 0, 0, 0))
	if r == success {
		r = d.finish()
	}
	if r != success {
		library.Call(d.l.releaseMem, m.id)
		return nil, allocError(bytes, r)
	}
	d.live[m] = struct{}{}
	d.held += bytes
	return m, nil
}

func allocError(bytes int64, c code) error {
	switch c {
	case memAllocationFailure, outOfResources, outOfHostMemory, invalidBufferSize:
		return fmt.Errorf("%w: %d bytes: %w", driver.ErrNoMemory, bytes, c)
	}
	return fmt.Errorf("%w: %w", driver.ErrLost, c)
}

// opError names what a failed command means for the device.
func opError(op string, c code) error {
	switch {
	case c == success:
		return nil
	case c == memAllocationFailure || c == outOfHostMemory:
		return fmt.Errorf("%s: %w: %w", op, driver.ErrNoMemory, c)
	case c <= -30 && c > -70 && c != -36: // the call itself was wrong
		return fmt.Errorf("%s: %w", op, c)
	}
	return fmt.Errorf("%s: %w: %w", op, driver.ErrLost, c)
}

// Free gives memory back. OpenCL keeps it until the commands that use it have ended.
func (d *device) Free(m driver.Memory) {
	b := m.(*memory)
	if _, ok := d.live[b]; !ok {
		return
	}
	delete(d.live, b)
	d.held -= b.bytes
	for _, part := range b.parts {
		library.Call(d.l.releaseMem, part)
	}
	library.Call(d.l.releaseMem, b.id)
}

// Write copies src to where the device fetches it, and on a device in host memory large
// pieces to their place.
func (d *device) Write(dst driver.Memory, offset int64, src []byte) error {
	m := dst.(*memory)
	if offset < 0 || offset+int64(len(src)) > m.bytes {
		return fmt.Errorf("write %d bytes at %d of %d", len(src), offset, m.bytes)
	}
	if d.info.Shared && len(src) > directWrite {
		d.data = &src[0]
		c := d.do(d.l.enqueueWrite, d.queue, m.id, yes, uintptr(offset), uintptr(len(src)), uintptr(unsafe.Pointer(d.data)), 0, 0, 0)
		d.data = nil
		return opError("write", c)
	}
	return opError("write", d.staging.write(d, m, offset, src))
}

// Read waits and copies.
func (d *device) Read(dst []byte, src driver.Memory, offset int64) error {
	m := src.(*memory)
	if offset < 0 || offset+int64(len(dst)) > m.bytes {
		return fmt.Errorf("read %d bytes at %d of %d", len(dst), offset, m.bytes)
	}
	if len(dst) == 0 {
		return d.Sync()
	}
	d.data = &dst[0]
	c := d.do(d.l.enqueueRead, d.queue, m.id, yes, uintptr(offset), uintptr(len(dst)), uintptr(unsafe.Pointer(d.data)), 0, 0, 0)
	d.data = nil
	return opError("read", c)
}

// Kernel gives a function of the program.
func (d *device) Kernel(name string) (driver.Kernel, error) {
	if k := d.kernels[name]; k != nil {
		return k, nil
	}
	var c int32
	id := library.Call(d.l.createKernel, d.program, uintptr(unsafe.Pointer(cstring(name))), uintptr(unsafe.Pointer(&c)))
	if c != 0 {
		return nil, fmt.Errorf("kernel %s: %w", name, code(c))
	}
	k := &kernel{id: id, name: name, last: make([]driver.Arg, 0, kernelArgs)}
	d.kernels[name] = k
	return k, nil
}

// Launch sets the arguments that differ from the kernel's last ones and enqueues it.
func (d *device) Launch(fn driver.Kernel, groups, local [3]int, args ...driver.Arg) error {
	k := fn.(*kernel)
	if len(args) > kernelArgs {
		return fmt.Errorf("kernel %s with %d arguments; at most %d", k.name, len(args), kernelArgs)
	}
	for i := range args {
		if i < len(k.last) && args[i] == k.last[i] {
			continue
		}
		if err := d.setArg(k, i, &args[i]); err != nil {
			k.last = k.last[:min(i, len(k.last))]
			return err
		}
		if i < len(k.last) {
			k.last[i] = args[i]
		} else {
			k.last = append(k.last, args[i])
		}
	}
	for i := range groups {
		d.local[i], d.global[i] = uintptr(local[i]), uintptr(local[i]*groups[i])
	}
	c := d.do(d.l.enqueueNDRange, d.queue, k.id, 3, 0, uintptr(unsafe.Pointer(&d.global)), uintptr(unsafe.Pointer(&d.local)), 0, 0, 0)
	if d.waiting++; c == success && d.waiting >= flushAfter {
		c, d.waiting = d.do(d.l.flush, d.queue), 0
	}
	return opError(k.name, c)
}

func (d *device) setArg(k *kernel, i int, a *driver.Arg) error {
	var c code
	if a.Kind == driver.ArgMemory {
		id, err := a.Memory.(*memory).part(a.Offset)
		if err != nil {
			return fmt.Errorf("kernel %s, argument %d: %w", k.name, i, err)
		}
		d.handle = id
		c = d.do(d.l.setKernelArg, k.id, uintptr(i), pointerBytes, uintptr(unsafe.Pointer(&d.handle)))
	} else {
		d.bits = a.Bits
		c = d.do(d.l.setKernelArg, k.id, uintptr(i), 4, uintptr(unsafe.Pointer(&d.bits)))
	}
	if c != success {
		return fmt.Errorf("kernel %s, argument %d: %w", k.name, i, c)
	}
	return nil
}

// part gives the memory from a byte offset on as an object of its own, made once.
func (m *memory) part(offset int64) (uintptr, error) {
	if offset == 0 {
		return m.id, nil
	}
	if id, ok := m.parts[offset]; ok {
		return id, nil
	}
	if offset < 0 || offset%driver.Align != 0 || offset >= m.bytes {
		return 0, fmt.Errorf("memory of %d bytes from %d on: want a multiple of %d within it", m.bytes, offset, driver.Align)
	}
	region := [2]uintptr{uintptr(offset), uintptr((m.bytes - offset + 3) &^ 3)}
	var c int32
	id := library.Call(m.d.l.createSubBuffer, m.id, memReadWrite, bufferRegion, uintptr(unsafe.Pointer(&region)), uintptr(unsafe.Pointer(&c)))
	if c != 0 {
		return 0, fmt.Errorf("part of memory: %w", code(c))
	}
	if m.parts == nil {
		m.parts = map[int64]uintptr{}
	}
	m.parts[offset] = id
	return id, nil
}

// do calls a function with pointers to nothing but what d holds: Go moves none of it, and d
// keeps it.
func (d *device) do(f uintptr, args ...uintptr) code {
	n := copy(d.args[:], args)
	return codeOf(library.CallSlice(f, d.args[:n]))
}

func (d *device) finish() code { return d.do(d.l.finish, d.queue) }

// Sync waits for all that was asked.
func (d *device) Sync() error { return opError("wait", d.finish()) }

// MemoryInfo gives free and whole memory. OpenCL has no question for what others use; AMD
// has one of its own.
func (d *device) MemoryInfo() (free, total uint64, err error) {
	total = d.info.Memory
	free = total - min(total, uint64(d.held))
	if d.amd {
		var kib [2]uintptr // free, and the largest piece
		if codeOf(library.Call(d.l.getDeviceInfo, d.id, deviceAMDFree, unsafe.Sizeof(kib), uintptr(unsafe.Pointer(&kib)), 0)) == success {
			free = min(free, uint64(kib[0])<<10)
		}
	}
	return free, total, nil
}

// Close waits and gives everything back.
func (d *device) Close() error {
	var err error
	if d.queue != 0 {
		err = d.Sync()
	}
	d.staging.close(d)
	for m := range d.live {
		d.Free(m)
	}
	for _, k := range d.kernels {
		library.Call(d.l.releaseKernel, k.id)
	}
	clear(d.kernels)
	for _, o := range []struct{ release, id uintptr }{
		{d.l.releaseProgram, d.program}, {d.l.releaseQueue, d.queue}, {d.l.releaseContext, d.context},
	} {
		if o.id != 0 {
			library.Call(o.release, o.id)
		}
	}
	d.program, d.queue, d.context = 0, 0, 0
	return err
}
