package machine

import (
	"testing"
	"testing/fstest"
)

func TestAMachineWithoutGraphicsIsKnownBySight(t *testing.T) {
	for name, want := range map[string]bool{
		"dev/dri/renderD128": true, "dev/nvidia0": true, "dev/nvidiactl": true, "dev/dxg": true, "dev/kfd": true,
		"dev/dri/card0": false, "dev/null": false,
	} {
		if got := graphicsPresent(fstest.MapFS{name: &fstest.MapFile{}}); got != want {
			t.Errorf("with /%s: %v", name, got)
		}
	}
}
