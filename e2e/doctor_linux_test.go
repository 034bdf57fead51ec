package e2e_test

import (
	"regexp"
	"testing"
)

// TestLabADoctorSeesAFirewall has one node's doctor before and after a firewall
// goes up that lets nobody in: what is connected stays so, and a peer that dials
// back finds the port closed.
func TestLabADoctorSeesAFirewall(t *testing.T) {
	lab := newLab(t)
	a, b := labHost(t, lab, "a", 0, "--memory", "0"), labHost(t, lab, "b", 0, "--memory", "0")
	labMesh(t, a, b)
	says := func(wants ...string) {
		t.Helper()
		out, stderr, err := run(t, b.home, "doctor")
		if err != nil {
			t.Errorf("%v\n%s", err, stderr)
		}
		for _, w := range wants {
			if !regexp.MustCompile("(?m)^" + w).MatchString(out) {
				t.Errorf("%q is not said:\n%s", w, out)
			}
		}
	}
	says(
		`ok    daemon`,
		`ok    port +connected back by a at 10\.77\.0\.2:4710$`,
		`ok    clock +within`,
		`ok    multicast +mDNS hears this node and one other$`,
		`ok    path +large messages pass`,
	)
	b.host.SetFirewall(true)
	says(
		`warn  port +a cannot connect to 10\.77\.0\.2:4710: nothing answers`,
		` +→ allow TCP and UDP port 4710`,
		`ok    clock +within`,
		`ok    path +large messages pass`,
	)
}
