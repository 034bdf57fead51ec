package spec

// Scores learn how likely a drafted token is accepted when all before it in its
// draft were: by the length of the context that its source had matched, which
// grows with each token that is right, or by its position for a source that
// does not match. They start from what is usual of text and forget what is old,
// so a reply that begins to quote is noticed within a few tokens.
type Scores struct {
	cells map[string]*[2][buckets]cell
}

// cell is a moving average with its weight.
type cell struct{ right, weight float64 }

const (
	buckets     = 10
	priorWeight = 3
	mostWeight  = 120
	// surest is the highest likelihood: nothing is ever certain, or a pipe
	// would be filled without end.
	surest = 0.995
)

// usual are the likelihoods of a matched context before anything is known, by
// bucket; usualFirst is that of a source that does not match.
var usual = [buckets]float64{0.06, 0.15, 0.3, 0.4, 0.5, 0.65, 0.78, 0.87, 0.93, 0.96}

const usualFirst = 0.6

// bucket is the cell of the i-th token of a draft.
func bucket(match, i int) (kind, at int) {
	n := i + 1
	if match > 0 {
		kind, n = 1, match+i
	}
	switch {
	case n <= 4:
		return kind, n - 1
	case n <= 6:
		return kind, 4
	case n <= 9:
		return kind, 5
	case n <= 14:
		return kind, 6
	case n <= 22:
		return kind, 7
	case n <= 40:
		return kind, 8
	}
	return kind, 9
}

// Likely is how likely the i-th token of a draft is right if those before it are.
func (s *Scores) Likely(source string, match, i int) float64 {
	kind, at := bucket(match, i)
	c := s.cells[source]
	if c == nil {
		if kind == 0 {
			return usualFirst
		}
		return usual[at]
	}
	p := c[kind][at].mean()
	if kind == 0 { // a position is like those before it until it is known better
		p = c[kind][0].mean()
		for _, d := range c[kind][1 : at+1] {
			p = (d.right + priorWeight*p) / (d.weight + priorWeight)
		}
	}
	return min(p, surest)
}

func (c cell) mean() float64 { return c.right / c.weight }

// Note takes in what became of the i-th token of a draft whose tokens before it
// were right.
func (s *Scores) Note(source string, match, i int, right bool) {
	c := s.cells[source]
	if c == nil {
		if s.cells == nil {
			s.cells = map[string]*[2][buckets]cell{}
		}
		c = new([2][buckets]cell)
		c[0][0] = cell{usualFirst * priorWeight, priorWeight}
		for at, p := range usual {
			c[1][at] = cell{p * priorWeight, priorWeight}
		}
		s.cells[source] = c
	}
	kind, at := bucket(match, i)
	d := &c[kind][at]
	if d.weight >= mostWeight {
		d.right *= 1 - 1/d.weight
		d.weight--
	}
	d.weight++
	if right {
		d.right++
	}
}
