package cpu

// productQueue is products that wait for an operation of another kind. Sharing
// work out costs a few microseconds each time, about what a product of one row
// with a small matrix takes: queries, keys and values are one task that way, and
// so are gate and up.
type productQueue struct {
	tasks [queuedProducts]matmulTask
	n     int
}

// queuedProducts is how many products wait at most.
const queuedProducts = 4

// add makes room for a product.
func (q *productQueue) add() *matmulTask {
	q.n++
	return &q.tasks[q.n-1]
}

// clear runs the products that wait if there is no room for another one, or if
// one of them has to do with the buffer that it writes or with the one that it
// may read.
func (q *productQueue) clear(d *Device, dst *buffer, a *acts) {
	for i := range q.n {
		if t := &q.tasks[i]; q.n == queuedProducts || t.dst == dst || t.dst == a.source || t.a.source == dst {
			d.flush()
			return
		}
	}
}

// flush runs the products that wait.
func (d *Device) flush() {
	q := &d.products
	if q.n == 0 {
		return
	}
	units, elements := 0, 0
	for i := range q.n {
		t := &q.tasks[i]
		units += t.split.units
		elements += t.n * t.w.rows * t.w.cols / 16
	}
	d.run(q, units, elements)
	q.n = 0
}

// unit runs a unit of one of the products.
func (q *productQueue) unit(worker, u int) {
	for i := range q.n {
		t := &q.tasks[i]
		if u < t.split.units {
			t.unit(worker, u)
			return
		}
		u -= t.split.units
	}
}
