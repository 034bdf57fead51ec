package sample

import (
	"math/rand/v2"
	"testing"
)

// A mask that allows everything makes the sampler look at every token, where
// without one it looks at the blocks alone that can matter: the draws must be
// the same.
func TestBlocksThatAreNotLookedAtChangeNoDraw(t *testing.T) {
	for _, vocab := range []int{1, 63, 64, 65, 1000, 49152} {
		s, r := New(vocab), rand.New(rand.NewPCG(1, uint64(vocab)))
		logits, all := make([]float32, vocab), make([]uint64, (vocab+63)/64)
		for i := range all {
			all[i] = ^uint64(0)
		}
		for round := range 60 {
			scale := []float32{0, 0.5, 3, 40}[round%4]
			for i := range logits {
				logits[i] = float32(r.NormFloat64()) * scale
				if round%3 == 0 { // many ties
					logits[i] = float32(int(logits[i]))
				}
			}
			p := Params{
				Seed: uint64(round), Temperature: []float32{0, 0.3, 1, 5, 1e-30}[r.IntN(5)], TopK: []int{0, 0, 1, 7, 40, vocab / 2, vocab}[r.IntN(7)],
				TopP: []float32{0, 0.1, 0.9, 0.9999, 1}[r.IntN(5)], MinP: []float32{0, 0, 0.05, 0.9, 1}[r.IntN(5)], Repeat: []float32{0, 1.3}[r.IntN(2)],
			}
			in := Input{Logits: logits, Position: round, History: []int32{int32(r.IntN(vocab)), 0}}
			got := s.Draw(&p, in)
			in.Mask = all
			if want := s.Draw(&p, in); got.ID != want.ID {
				t.Fatalf("vocabulary of %d, %+v: token %d without a mask, %d with one that allows all", vocab, p, got.ID, want.ID)
			}
		}
	}
}
