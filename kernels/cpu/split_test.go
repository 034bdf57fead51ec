package cpu

import "testing"

func TestUnitsCoverAllGroupsAndEndTogether(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 4, 7, 16} {
		for _, most := range []int{1, 3, 4, 8, 30, 1000} {
			for groups := 1; groups < 200; groups++ {
				s := splitGroups(groups, most, workers)
				next := 0
				busy := make([]int, workers) // as if units went to whoever is free
				for u := range s.units {
					first, last := s.unit(u)
					if first != next || last <= first {
						t.Fatalf("%+v: unit %d is %d to %d after %d", s, u, first, last, next)
					}
					if size := last - first; size > most {
						t.Fatalf("%+v: unit %d has %d groups; want at most %d", s, u, size, most)
					}
					next = last
					free := 0
					for w := range busy {
						if busy[w] < busy[free] {
							free = w
						}
					}
					busy[free] += last - first
				}
				if next != groups {
					t.Fatalf("%+v: units end at %d of %d groups", s, next, groups)
				}
				longest := 0
				for _, n := range busy {
					longest = max(longest, n)
				}
				if even := (groups + workers - 1) / workers; longest > even {
					t.Fatalf("%+v: the last of %d workers ends after %d groups; want %d", s, workers, longest, even)
				}
			}
		}
	}
}
