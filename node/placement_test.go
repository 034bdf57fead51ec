package node

import (
	"sync"
	"testing"
)

// Who loads a stage lets others have the devices between two tensors.
func TestStepsGetTheirTurnWhileAStageIsLoaded(t *testing.T) {
	var mu sync.Mutex
	var told []int64
	progress := letIn(newTurns(map[int]sync.Locker{0: &mu}), func(done, _ int64) { told = append(told, done) })
	mu.Lock()
	stepped, waiting := make(chan struct{}), make(chan struct{})
	go func() {
		close(waiting)
		mu.Lock()
		close(stepped)
		mu.Unlock()
	}()
	<-waiting
	for tensor := int64(1); ; tensor++ { // until the step has had its turn, which a mutex that others wait for sees to
		progress(tensor, 100)
		select {
		case <-stepped:
			mu.Unlock()
			if len(told) != int(tensor) || told[tensor-1] != tensor {
				t.Errorf("progress was told %v", told)
			}
			return
		default:
		}
	}
}
