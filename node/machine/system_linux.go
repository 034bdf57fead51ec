package machine

import "os"

func systemGPUs() []GPU { return nil }

// systemCPU is the board's name, where the processor itself has none to tell:
// "Raspberry Pi 5 Model B Rev 1.0".
func systemCPU() string {
	text, _ := readText(os.DirFS("/"), "sys/firmware/devicetree/base/model")
	return cardName(text, "")
}
