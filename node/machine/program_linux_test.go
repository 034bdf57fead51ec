package machine

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOnlyPagesThatTheFileHasAreTaken reads mappings as Linux lists them, one that
// the loader has relocated among them: its pages would come back as the file has
// them, wrong.
func TestOnlyPagesThatTheFileHasAreTaken(t *testing.T) {
	mapping := func(first, anonymous string) string {
		return first + "\nSize:               2048 kB\nRss:                 512 kB\nAnonymous:      " + anonymous + " kB\nVmFlags: rd ex mr mw me\n"
	}
	const exe = "/opt/weft"
	smaps := mapping("00400000-00402000 r--p 00000000 fe:00 12 /opt/weft", "0") +
		mapping("00402000-014c4000 r-xp 00002000 fe:00 12 /opt/weft", "0") +
		mapping("014c4000-014c5000 r--p 010c4000 fe:00 12 /opt/weft", "4") +
		mapping("014c5000-014c6000 r-xs 010c4000 fe:00 12 /opt/weft", "0") +
		mapping("zz-014c7000 r-xp 010c4000 fe:00 12 /opt/weft", "0") +
		mapping("014c8000-014c7000 r-xp 010c4000 fe:00 12 /opt/weft", "0") +
		mapping("0294f000-02a20000 rw-p 0254e000 fe:00 12 /opt/weft", "0") +
		mapping("02a20000-02a30000 rw-p 00000000 00:00 0 ", "0") +
		mapping("7f0000000000-7f0000001000 r--p 00000000 fe:00 12 /opt/weft", "0") // far away: not looked at
	want := []part{{0x400000, 0x2000}, {0x402000, 0x10c2000}}
	got := programParts(strings.NewReader(smaps), exe)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(part{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, other := range []string{"/opt/weft (deleted)", "/opt/weft-model", ""} {
		if got := programParts(strings.NewReader(smaps), other); len(got) > 0 {
			t.Errorf("%q: %v", other, got)
		}
	}
}

// TestTheProgramGoesOnWithoutItsPages takes the program's pages away from under
// itself.
func TestTheProgramGoesOnWithoutItsPages(t *testing.T) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip("not run:", err)
	}
	defer f.Close()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if parts := programParts(f, self); len(parts) == 0 {
		t.Error("the program is not found in its own memory")
	}
	for range 10 {
		returnProgram()
	}
	if Resident() < 1<<20 {
		t.Errorf("resident memory %d", Resident())
	}
}
