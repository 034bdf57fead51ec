package cpu

// split cuts a matrix's groups of rows into units: some of a size, and then
// smaller ones, so that workers of the same speed end at the same time.
type split struct {
	groups      int // of the matrix
	units       int
	whole       int // units of the full size
	size, piece int // groups of a whole unit, of a smaller one
}

// kernelGroups is the most groups of rows that a kernel takes at once.
const kernelGroups = 4

// splitGroups cuts groups for that many workers, in units of at most that many
// and, where that allows it, not of less than a kernel takes.
func splitGroups(groups, most, workers int) split {
	s := split{groups: groups, size: most}
	if workers > 1 { // a few units each, as workers are not always of the same speed
		s.size = min(s.size, (groups+4*workers-1)/(4*workers))
	}
	s.size = max(s.size&^(kernelGroups-1), min(most, kernelGroups))
	s.whole = groups / s.size / workers * workers
	rest := groups - s.whole*s.size
	s.piece = max(1, (rest+workers-1)/workers)
	s.units = s.whole + (rest+s.piece-1)/s.piece
	return s
}

// unit gives the groups of a unit: first to last-1.
func (s *split) unit(u int) (first, last int) {
	if u < s.whole {
		return u * s.size, (u + 1) * s.size
	}
	first = s.whole*s.size + (u-s.whole)*s.piece
	return first, min(first+s.piece, s.groups)
}
