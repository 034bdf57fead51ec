package machine

import (
	"os"
	"strings"
	"testing"
)

func TestOnlyTheProgramsOwnConstantPartsAreFound(t *testing.T) {
	const exe = "/opt/weft"
	for line, size := range map[string]uintptr{
		"00400000-00402000 r--p 00000000 fe:00 12 /opt/weft\n":              0x2000,
		"00402000-014c4000 r-xp 00002000 fe:00 12 /opt/weft\n":              0x10c2000,
		"0294f000-02a20000 rw-p 0254e000 fe:00 12 /opt/weft\n":              0, // written to: its pages are this process's own
		"00402000-014c4000 r-xs 00002000 fe:00 12 /opt/weft\n":              0,
		"00402000-014c4000 r-xp 00002000 fe:00 12 /opt/weft (deleted)\n":    0,
		"00402000-014c4000 r-xp 00002000 fe:00 12 /opt/weft-model\n":        0,
		"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n":                0,
		"7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0          [vdso]\n": 0,
		"zz-014c4000 r-xp 00002000 fe:00 12 /opt/weft\n":                    0,
		"014c4000-00402000 r-xp 00002000 fe:00 12 /opt/weft\n":              0,
		"": 0,
	} {
		if _, got, ok := programPart(line, exe); got != size || ok != (size > 0) {
			t.Errorf("%q: %#x %v, want %#x", line, got, ok, size)
		}
	}
}

// TestTheProgramGoesOnWithoutItsPages takes the program's pages away from under
// itself.
func TestTheProgramGoesOnWithoutItsPages(t *testing.T) {
	file := func() string {
		b, err := os.ReadFile("/proc/self/smaps_rollup")
		if err != nil {
			t.Skip("not run: no smaps in /proc:", err)
		}
		return string(b)
	}
	if !strings.Contains(file(), "Rss:") {
		t.Fatal("no Rss")
	}
	for range 10 {
		returnProgram()
	}
	if Resident() < 1<<20 {
		t.Errorf("resident memory %d", Resident())
	}
}
