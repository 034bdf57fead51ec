package feed

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryReaderGetsAllEventsInOrder(t *testing.T) {
	f := New[int]()
	defer f.Close()
	a, stopA := f.Watch()
	b, stopB := f.Watch()
	defer stopB()
	const n = 1000
	for i := range n {
		f.Emit(i) // nobody reads yet
	}
	for _, ch := range []<-chan int{a, b} {
		for i := range n {
			if got := <-ch; got != i {
				t.Fatalf("event %d is %d", i, got)
			}
		}
	}
	stopA()
	if _, ok := <-a; ok {
		t.Fatal("an ended watch delivered")
	}
	f.Emit(n)
	if got := <-b; got != n {
		t.Fatalf("got %d", got)
	}
}

func TestCloseEndsReadersThatDoNotRead(t *testing.T) {
	f := New[int]()
	ch, _ := f.Watch()
	f.Emit(1)
	f.Emit(2)
	f.Close()
	for range ch { // at most what was on its way; then closed
	}
	late, stop := f.Watch()
	stop()
	if _, ok := <-late; ok {
		t.Fatal("a closed feed delivered")
	}
	f.Emit(3)
}
