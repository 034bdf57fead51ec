package spec

// edges holds the edges of an automaton's states that have more than one: a
// hash table over a list that only grows.
type edges struct {
	list  []edge
	slots []int32 // 1 beside an index into list; a power of two of them, at most half in use
}

type edge struct {
	from, token, to int32
	more            int32 // of the same state: 1 beside an index into list
}

func (e *edges) reset(room int) {
	e.list = e.list[:0]
	if cap(e.list) < room {
		e.list = make([]edge, 0, room)
	}
	size := 16
	for size < 2*room {
		size *= 2
	}
	if len(e.slots) >= size {
		clear(e.slots)
		return
	}
	e.slots = make([]int32, size)
}

func (e *edges) slot(from, token int32) int {
	h := (uint64(uint32(from))<<32 | uint64(uint32(token))) * 0x9e3779b97f4a7c15
	return int(h>>32) & (len(e.slots) - 1)
}

// find is the target of an edge, nil if there is none.
func (e *edges) find(from, token int32) *int32 {
	for i := e.slot(from, token); e.slots[i] != 0; i = (i + 1) & (len(e.slots) - 1) {
		if d := &e.list[e.slots[i]-1]; d.from == from && d.token == token {
			return &d.to
		}
	}
	return nil
}

// add takes an edge in that is not there and gives 1 beside its index.
func (e *edges) add(d edge) int32 {
	if 2*len(e.list) >= len(e.slots) {
		e.slots = make([]int32, 2*len(e.slots))
		for i := range e.list {
			e.place(int32(i + 1))
		}
	}
	e.list = append(e.list, d)
	id := int32(len(e.list))
	e.place(id)
	return id
}

func (e *edges) place(id int32) {
	d := &e.list[id-1]
	i := e.slot(d.from, d.token)
	for e.slots[i] != 0 {
		i = (i + 1) & (len(e.slots) - 1)
	}
	e.slots[i] = id
}
