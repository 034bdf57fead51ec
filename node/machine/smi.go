package machine

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// NVIDIA's own command tells the memory of its cards where this build cannot
// open the library, or does not find it.
const (
	smiTime   = 5 * time.Second
	maxAnswer = 64 << 10 // bytes
)

// withSMI replaces what the driver's files told by what nvidia-smi tells, if it
// tells as much. Linux is asked only where the driver has a card.
func withSMI(ctx context.Context, list []GPU) []GPU {
	if len(list) == 0 && runtime.GOOS != "windows" {
		return nil
	}
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return list
	}
	ctx, cancel := context.WithTimeout(ctx, smiTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--query-gpu=pci.bus_id,temperature.gpu,power.draw,name,memory.total,memory.free", "--format=csv,noheader,nounits")
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &limitedWriter{w: &out, left: maxAnswer}
	if cmd.Run() != nil {
		return list
	}
	if told := parseSMI(out.String()); len(told) >= len(list) {
		return told
	}
	return list
}

// limitedWriter refuses what is too much, which ends the command that writes.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, io.ErrShortWrite
	}
	l.left -= len(p)
	return l.w.Write(p)
}

// parseSMI reads lines of "BUS, CELSIUS, WATTS, NAME, TOTAL, FREE" with sizes in
// MiB. A size that is not told ("[N/A]" where the memory is the processor's) is 0.
func parseSMI(text string) []GPU {
	var list []GPU
	for line := range strings.Lines(text) {
		fields := strings.Split(line, ",")
		if len(fields) < 6 || len(list) == maxCards {
			continue
		}
		n := len(fields)
		g := GPU{Name: cardName(strings.Join(fields[3:n-2], ","), "NVIDIA GPU"), Vendor: "nvidia", Driver: "nvidia", Bus: busName(fields[0])}
		g.Celsius, g.Watts = reading(fields[1], 200), reading(fields[2], 5000)
		g.VRAMTotal = mebibytes(fields[n-2])
		g.VRAMFree = min(g.VRAMTotal, mebibytes(fields[n-1]))
		g.Shared = g.VRAMTotal == 0
		list = append(list, g)
	}
	return list
}

// reading is a sensor's value, 0 when it is not told or beyond most.
func reading(s string, most float64) float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(v > 0 && v < most) {
		return 0
	}
	return v
}

func mebibytes(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 || n > 1<<30 {
		return 0
	}
	return n << 20
}
