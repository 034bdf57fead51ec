package kernelstest_test

import (
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/kernelstest"
)

func TestTheOracleAgreesWithItself(t *testing.T) {
	kernelstest.Run(t, func(int) kernels.Device { return kernelstest.Naive() })
}
