package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/cuda/ptx"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// maxArgs bounds the arguments of a kernel.
const maxArgs = 32

// device is an opened card: its primary context, one stream, and the kernels' module.
//
// The driver keeps the current context by OS thread, and goroutines change threads: each
// call holds its thread from enter to leave.
type device struct {
	api  *api
	info driver.Info
	card card

	context, stream, module uintptr
	retained                bool
	closed                  bool
	lost                    error // the first error that wraps driver.ErrLost

	signatures map[string]ptx.Kernel
	kernels    map[string]*kernel
	live       map[uintptr]struct{}
	up         staging
	down       pinned

	// A launch's arguments and their addresses, which the driver copies. They and
	// what calls write to lie here so that nothing is allocated for a call.
	values   [maxArgs]uint64
	pointers [maxArgs]unsafe.Pointer
	word     [2]uint64
	current  [1]uintptr
	queue    [1]uintptr
	launch   [11]uintptr
	args     [2]uintptr
	copying  [4]uintptr

	gathered queue
}

// schedule is how a thread waits for a card.
var schedule uintptr = ctxBlockingSync

// memory is a piece of the card's memory.
type memory struct {
	d       *device
	address uintptr
	bytes   int64
}

// Bytes gives the size.
func (m *memory) Bytes() int64 { return m.bytes }

// kernel is a function of the module.
type kernel struct {
	d      *device
	name   string
	fn     uintptr
	params []ptx.Kind
}

// Name gives the kernel's name.
func (k *kernel) Name() string { return k.name }

// Info says what the card is.
func (d *device) Info() driver.Info { return d.info }

// start makes what a device consists of. What is there when it fails, Close gives back.
func (d *device) start(p *program) error {
	// Others in this process may have set the flags already: then they stay.
	d.api.call(cuDevicePrimaryCtxSetFlags, uintptr(d.card.handle), schedule)
	if r := d.api.call(cuDevicePrimaryCtxRetain, uintptr(unsafe.Pointer(&d.context)), uintptr(d.card.handle)); r != success {
		return d.fail("make a context", r)
	}
	d.retained = true
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := d.compile(p.text); err != nil {
		return err
	}
	if r := d.api.call(cuStreamCreate, uintptr(unsafe.Pointer(&d.stream)), streamNonBlocking); r != success {
		return d.fail("make a stream", r)
	}
	if err := d.up.make(d); err != nil {
		return err
	}
	if err := d.down.make(d, readBytes); err != nil {
		return err
	}
	return d.proveGraphs()
}

// compile has the driver make the card's code of a text. The driver keeps what it made in
// its own cache, so that only the first time takes long.
func (d *device) compile(text []byte) error {
	// The driver takes addresses of addresses, so all lies in the heap, where it stays.
	in := &struct {
		options [2]uint32
		values  [2]uintptr
		log     [16 << 10]byte
	}{options: [2]uint32{jitErrorLog, jitErrorLogSize}}
	in.values = [2]uintptr{uintptr(unsafe.Pointer(&in.log[0])), uintptr(len(in.log))}
	r := d.api.call(cuModuleLoadDataEx, uintptr(unsafe.Pointer(&d.module)), uintptr(unsafe.Pointer(&text[0])),
		uintptr(len(in.options)), uintptr(unsafe.Pointer(&in.options[0])), uintptr(unsafe.Pointer(&in.values[0])))
	if r == success {
		return nil
	}
	err := d.fail("compile the kernels", r)
	if words := zeroed(in.log[:]); words != "" {
		err = fmt.Errorf("%w\n%s", err, words)
	}
	return err
}

var errClosed = errors.New("cuda: device is closed")

// enter makes the device's context the current one of this thread and keeps the goroutine
// on it until leave. A device that is lost or closed refuses.
func (d *device) enter() error {
	if d.lost != nil {
		return d.lost
	}
	if d.closed {
		return errClosed
	}
	runtime.LockOSThread()
	d.current[0] = d.context
	if r := d.api.again(cuCtxSetCurrent, d.current[:]); r != success {
		runtime.UnlockOSThread()
		return d.fail("choose the context", r)
	}
	return nil
}

func (d *device) leave() { runtime.UnlockOSThread() }

// fail makes an error of a result and notes when the device is lost.
func (d *device) fail(op string, r result) error {
	err := d.api.failure(op, r)
	if d.lost == nil && errors.Is(err, driver.ErrLost) {
		d.lost = err
	}
	return err
}

// do is one call in the device's context.
//
//go:uintptrescapes
func (d *device) do(op string, f function, args ...uintptr) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if r := d.api.call(f, args...); r != success {
		return d.fail(op, r)
	}
	return nil
}

// Alloc makes memory, at an address that is a multiple of 256.
func (d *device) Alloc(bytes int64) (driver.Memory, error) {
	if bytes < 1 {
		return nil, fmt.Errorf("cuda: allocate %d bytes: want at least one", bytes)
	}
	if err := d.do("allocate", cuMemAlloc, uintptr(unsafe.Pointer(&d.word[0])), uintptr(bytes)); err != nil {
		return nil, fmt.Errorf("%d bytes on %s: %w", bytes, d.info.Name, err)
	}
	m := &memory{d, uintptr(d.word[0]), bytes}
	d.live[m.address] = struct{}{}
	return m, nil
}

// Free gives memory back. The driver waits for what uses it.
func (d *device) Free(h driver.Memory) {
	if m, ok := h.(*memory); ok && m.d == d && m.address != 0 {
		// What a lost device does not take back now, Close gives back. An error of an
		// earlier kernel is told by Sync.
		if d.ordered() == nil && d.do("free", cuMemFree, m.address) == nil {
			delete(d.live, m.address)
		}
		m.address = 0
	}
}

// piece checks that a piece of memory is of this device and within it.
func (d *device) piece(h driver.Memory, offset int64, n int) (uintptr, error) {
	m, ok := h.(*memory)
	if !ok || m.d != d || m.address == 0 {
		return 0, fmt.Errorf("cuda: memory %v is not of %s, or was freed", h, d.info.Name)
	}
	if offset < 0 || int64(n) > m.bytes-offset {
		return 0, fmt.Errorf("cuda: %d bytes at %d of a memory of %d", n, offset, m.bytes)
	}
	return m.address + uintptr(offset), nil
}

// Write copies src to the card by way of memory that the card reads by itself, so that the
// next piece is made ready while one is on its way.
func (d *device) Write(dst driver.Memory, offset int64, src []byte) error {
	to, err := d.piece(dst, offset, len(src))
	if err != nil || len(src) == 0 {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := d.flush(); err != nil {
		return err
	}
	return d.up.write(d, to, src)
}

// Read waits for all that was asked and copies memory from the card.
func (d *device) Read(dst []byte, src driver.Memory, offset int64) error {
	from, err := d.piece(src, offset, len(dst))
	if err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := d.flush(); err != nil {
		return err
	}
	for len(dst) > 0 {
		n := min(len(dst), len(d.down.bytes))
		d.copying = [4]uintptr{uintptr(d.down.address), from, uintptr(n), d.stream}
		if r := d.api.again(cuMemcpyDtoHAsync, d.copying[:]); r != success {
			return d.fail("read", r)
		}
		if r := d.wait(); r != success {
			return d.fail("read", r)
		}
		copy(dst, d.down.bytes[:n])
		dst, from = dst[n:], from+uintptr(n)
	}
	d.up.settled()
	return nil
}

// Kernel finds a kernel of the module.
func (d *device) Kernel(name string) (driver.Kernel, error) {
	if k, ok := d.kernels[name]; ok {
		return k, nil
	}
	sig, ok := d.signatures[name]
	if !ok || len(sig.Params) > maxArgs {
		return nil, fmt.Errorf("cuda: there is no kernel %s, or it takes over %d arguments", name, maxArgs)
	}
	k := &kernel{d: d, name: name, params: sig.Params}
	symbol := append([]byte(name), 0)
	if err := d.do("find kernel "+name, cuModuleGetFunction, uintptr(unsafe.Pointer(&k.fn)), d.module, uintptr(unsafe.Pointer(&symbol[0]))); err != nil {
		return nil, err
	}
	d.kernels[name] = k
	return k, nil
}

// The largest grid of work-groups in the second and third dimension.
const maxGroups = 65535

// Launch puts a kernel on the stream, or keeps it for when others have gathered. Arguments
// that the kernel does not take are refused: the driver would read beyond them.
func (d *device) Launch(h driver.Kernel, groups, local [3]int, args ...driver.Arg) error {
	k, ok := h.(*kernel)
	if !ok || k.d != d {
		return fmt.Errorf("cuda: kernel %v is not of %s", h, d.info.Name)
	}
	if err := d.gather(k, args); err != nil {
		return fmt.Errorf("cuda: launch %s: %w", k.name, err)
	}
	if groups[1] > maxGroups || groups[2] > maxGroups {
		return fmt.Errorf("cuda: launch %s: %v work-groups; at most %d in the second and third dimension", k.name, groups, maxGroups)
	}
	if d.lost != nil {
		return d.lost
	}
	if d.closed {
		return errClosed
	}
	d.gathered.add(k.fn, groups, local, d.values[:len(args)])
	if d.gathered.launches < segmentLaunches {
		return nil
	}
	return d.ordered()
}

// ordered puts what has gathered on the stream.
func (d *device) ordered() error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	return d.flush()
}

// gather puts a launch's arguments where the driver reads them.
func (d *device) gather(k *kernel, args []driver.Arg) error {
	if len(args) != len(k.params) {
		return fmt.Errorf("%d arguments; it takes %d", len(args), len(k.params))
	}
	for i, a := range args {
		want := k.params[i]
		switch {
		case a.Kind == driver.ArgMemory && want == ptx.Pointer:
			address, err := d.piece(a.Memory, a.Offset, 0)
			if err != nil {
				return fmt.Errorf("argument %d: %w", i, err)
			}
			d.values[i] = uint64(address)
		case (a.Kind == driver.ArgInt || a.Kind == driver.ArgUint) && want == ptx.Word, a.Kind == driver.ArgFloat && want == ptx.Float:
			d.values[i] = uint64(a.Bits) // the kernel reads the lower half, which comes first
		default:
			return fmt.Errorf("argument %d is of kind %d; the kernel takes %d", i, a.Kind, want)
		}
	}
	return nil
}

// Sync waits until the stream is empty.
func (d *device) Sync() error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := d.flush(); err != nil {
		return err
	}
	if r := d.wait(); r != success {
		return d.fail("wait", r)
	}
	d.up.settled()
	return nil
}

// polls is how often a wait asks before it sleeps: some 20 microseconds, what waking up
// takes. Longer waits leave the core to others.
const polls = 64

// wait waits until the stream is empty. The caller has entered.
func (d *device) wait() result {
	d.queue[0] = d.stream
	for range polls {
		if r := d.api.again(cuStreamQuery, d.queue[:]); r != notReady {
			return r
		}
	}
	return d.api.again(cuStreamSynchronize, d.queue[:])
}

// MemoryInfo asks the driver, which counts what other programs hold.
func (d *device) MemoryInfo() (free, total uint64, err error) {
	if err := d.do("ask for free memory", cuMemGetInfo, uintptr(unsafe.Pointer(&d.word[0])), uintptr(unsafe.Pointer(&d.word[1]))); err != nil {
		return 0, 0, err
	}
	return d.word[0], d.word[1], nil
}
