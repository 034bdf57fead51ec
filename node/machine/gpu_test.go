package machine

import (
	"bytes"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shirou/gopsutil/v4/cpu"
)

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestCardsAreReadFromTheSystemsFiles(t *testing.T) {
	root := fstest.MapFS{
		"proc/driver/nvidia/gpus/0000:01:00.0/information":          file("Model: \t\t GeForce GTX 1080\nIRQ: 1\n"),
		"sys/class/drm/card0/device/vendor":                         file("0x1002\n"),
		"sys/class/drm/card0/device/product_name":                   file("Radeon\n"),
		"sys/class/drm/card0/device/uevent":                         file("DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:0C:00.0\n"),
		"sys/class/drm/card0/device/hwmon/hwmon3/temp1_input":       file("48000\n"),
		"sys/class/drm/card0/device/hwmon/hwmon3/power1_average":    file("35500000\n"),
		"sys/class/drm/card0/device/mem_info_vram_total":            file("1000\n"),
		"sys/class/drm/card0/device/mem_info_vram_used":             file("300\n"),
		"sys/class/drm/card0-DP-1/device/vendor":                    file("0x1002\n"),
		"sys/class/drm/card1/device/vendor":                         file("0x8086\n"),
		"sys/class/drm/card1/device/device":                         file("0x56a0\n"),
		"sys/class/drm/card1/device/uevent":                         file("DRIVER=xe\n"),
		"sys/class/drm/card1/device/tile0/physical_vram_size_bytes": file("17179869184\n"),
		"sys/class/drm/card2/device/vendor":                         file("0x1234\n"),
		"sys/class/drm/card3/device/vendor":                         file("0x10de\n"),
		"sys/class/drm/card4/device/vendor":                         file("0x1002\n"),
		"sys/class/drm/card4/device/device":                         file("0x1636\n"),
		"sys/class/drm/card4/device/product_name":                   file("\n"),
		"sys/class/drm/card4/device/mem_info_vram_total":            file("500\n"),
		"sys/class/drm/card4/device/mem_info_vram_used":             file("900\n"),
	}
	nvidia := procNVIDIA(root)
	got := append(nvidia, drmGPUs(root, len(nvidia) > 0)...)
	want := []GPU{
		{Name: "GeForce GTX 1080", Vendor: "nvidia", Driver: "nvidia", Bus: "0000:01:00.0"},
		{Name: "Radeon", Vendor: "amd", Driver: "amdgpu", VRAMTotal: 1000, VRAMFree: 700, Bus: "0000:0c:00.0", Celsius: 48, Watts: 35.5},
		{Name: "Intel GPU 0x56a0", Vendor: "intel", Driver: "xe", VRAMTotal: 16 << 30},
		{Name: "AMD GPU 0x1636", Vendor: "amd", VRAMTotal: 500},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := drmGPUs(root, false); len(got) != 4 || got[2].Vendor != "nvidia" {
		t.Errorf("without NVIDIA's driver its card is told by the kernel: %+v", got)
	}
}

// endless is a file without an end.
type endless struct{ fs.File }

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("9"), len(p))), nil }
func (endless) Close() error               { return nil }

// endlessFS has endless files alone.
type endlessFS struct{ fstest.MapFS }

func (e endlessFS) Open(name string) (fs.File, error) {
	f, err := e.MapFS.Open(name)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return f, nil
	}
	return endless{f}, nil
}

func TestHostileFilesAreBounded(t *testing.T) {
	tree := fstest.MapFS{}
	for _, card := range []string{"a", "b", "c", "d", "e", "f"} {
		for _, n := range []string{"0", "1", "2", "3", "4", "5", "6", "7", "8"} {
			tree["proc/driver/nvidia/gpus/"+card+n+"/information"] = file("Model: " + strings.Repeat("x\x1b", 3000))
			dir := "sys/class/drm/card" + card + n + "/device/"
			tree[dir+"vendor"] = file("0x1002")
			tree[dir+"mem_info_vram_total"] = file("99999999999999999999999999")
			tree[dir+"uevent"] = file("DRIVER=\x07\xff\n")
		}
	}
	for _, list := range [][]GPU{procNVIDIA(tree), drmGPUs(tree, true), procNVIDIA(endlessFS{tree}), drmGPUs(endlessFS{tree}, true)} {
		if len(list) > maxCards {
			t.Errorf("%d cards", len(list))
		}
		for _, g := range list {
			if len(g.Name) > maxCardName || strings.ContainsAny(g.Name, "\x1b\x07") || g.Driver != "" && g.Driver != "nvidia" || g.VRAMTotal != 0 {
				t.Fatalf("%+v", g)
			}
		}
	}
	if _, ok := number(endlessFS{tree}, "sys/class/drm/carda0/device/vendor"); ok {
		t.Error("an endless number is a number")
	}
}

func TestTheVendorsCommandIsRead(t *testing.T) {
	got := parseSMI("00000000:18:00.0, 31, 70.25, NVIDIA H100 80GB HBM3, 81559, 81004\n[N/A], [N/A], [N/A], Orin (nvgpu), [N/A], [N/A]\nx, 1e9, -3, A, B, 100, 200\nnonsense\n, , , , -1, 5\nA, 1, 2\n")
	want := []GPU{
		{Name: "NVIDIA H100 80GB HBM3", Vendor: "nvidia", Driver: "nvidia", VRAMTotal: 81559 << 20, VRAMFree: 81004 << 20, Bus: "0000:18:00.0", Celsius: 31, Watts: 70.25},
		{Name: "Orin (nvgpu)", Vendor: "nvidia", Driver: "nvidia", Shared: true},
		{Name: "A, B", Vendor: "nvidia", Driver: "nvidia", VRAMTotal: 100 << 20, VRAMFree: 100 << 20},
		{Name: "NVIDIA GPU", Vendor: "nvidia", Driver: "nvidia", Shared: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w := &limitedWriter{w: io.Discard, left: 10}
	if _, err := w.Write(make([]byte, 11)); err == nil {
		t.Error("an endless answer is taken")
	}
}

func FuzzSMI(f *testing.F) {
	f.Add("00000000:18:00.0, 31, 70.25, NVIDIA H100, 81559, 81004\n")
	f.Add(strings.Repeat("0,NaN,Inf,a,9223372036854775807,1\n", 100))
	f.Fuzz(func(t *testing.T, s string) {
		list := parseSMI(s)
		if len(list) > maxCards {
			t.Fatalf("%d cards", len(list))
		}
		for _, g := range list {
			if !(g.Celsius >= 0 && g.Watts >= 0) || g.VRAMFree < 0 || g.VRAMFree > g.VRAMTotal || g.Name == "" || len(g.Name) > maxCardName {
				t.Fatalf("%+v", g)
			}
		}
	})
}

func TestCardsAreNotAskedAllTheTime(t *testing.T) {
	now := time.Unix(1000, 0)
	p := &Probe{dir: t.TempDir(), now: func() time.Time { return now }}
	p.gpus, p.gpusAt = []GPU{{Name: "kept"}}, now
	if i := p.Facts(t.Context()); len(i.GPUs) != 1 || i.GPUs[0].Name != "kept" || i.DiskTotal < i.DiskFree || i.DiskTotal == 0 {
		t.Errorf("%+v", i)
	}
	now = now.Add(gpuEvery)
	if i := p.Facts(t.Context()); len(i.GPUs) == 1 && i.GPUs[0].Name == "kept" {
		t.Error("cards are never asked again")
	}
}

func TestTheProcessorsLoadIsAMeanSinceTheLastLook(t *testing.T) {
	a := cpu.TimesStat{User: 10, System: 5, Idle: 100}
	b := cpu.TimesStat{User: 11, System: 6, Nice: 1, Idle: 106, Iowait: 1}
	if got := share(a, b, true); got != 0.3 {
		t.Errorf("got %v", got)
	}
	if share(a, b, false) != 0 || share(b, a, true) != 0 || share(a, a, true) != 0 {
		t.Error("a reading without a past is a load")
	}
}
