package vocab

import (
	"cmp"
	"slices"
	"strings"
)

// specials finds special tokens in text.
type specials struct {
	tokens []string // of the whole vocabulary
	attrs  []attr
	order  []int32 // longest first, then by id
	first  [256]bool
	// next is the tree of all special tokens: node<<8|byte to node; ends tells which token ends at a node.
	next map[uint64]int32
	ends map[int32]int32
}

// fragment is a special token, or text (id is NoToken).
type fragment struct {
	id   int32
	text string
}

func newSpecials(tokens []string, attrs []attr) specials {
	s := specials{tokens: tokens, attrs: attrs, next: make(map[uint64]int32), ends: make(map[int32]int32)}
	for id, a := range attrs {
		if a&(attrControl|attrUser|attrUnknown) == 0 {
			continue
		}
		s.order = append(s.order, int32(id))
		s.first[tokens[id][0]] = true
		node := int32(0)
		for _, b := range []byte(tokens[id]) {
			key := uint64(node)<<8 | uint64(b)
			child, ok := s.next[key]
			if !ok {
				child = int32(len(s.next) + 1)
				s.next[key] = child
			}
			node = child
		}
		s.ends[node] = int32(id)
	}
	slices.SortFunc(s.order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(len(tokens[b]), len(tokens[a])), cmp.Compare(a, b))
	})
	return s
}

// split cuts text at special tokens: longer ones first, wherever they stand. User-defined tokens always count, control
// and unknown ones only with parse.
func (s *specials) split(text string, parse bool) []fragment {
	out := []fragment{{NoToken, text}}
	present := s.present(text, parse)
	if len(present) == 0 {
		return out
	}
	for _, id := range s.order {
		if present[id] {
			out = s.cut(out, id)
		}
	}
	return out
}

// present is the set of special tokens that occur in text at all, so that split need not look for thousands of others.
func (s *specials) present(text string, parse bool) map[int32]bool {
	var found map[int32]bool
	for i := 0; i < len(text); i++ {
		if !s.first[text[i]] {
			continue
		}
		node := int32(0)
		for j := i; j < len(text); j++ {
			child, ok := s.next[uint64(node)<<8|uint64(text[j])]
			if !ok {
				break
			}
			node = child
			id, ok := s.ends[node]
			if ok && (parse || s.attrs[id]&(attrControl|attrUnknown) == 0) {
				if found == nil {
					found = make(map[int32]bool)
				}
				found[id] = true
			}
		}
	}
	return found
}

// cut replaces each occurrence of one token in the text fragments, from left to right.
func (s *specials) cut(in []fragment, id int32) []fragment {
	token := s.tokens[id]
	out := make([]fragment, 0, len(in)+2)
	for _, f := range in {
		if f.id != NoToken {
			out = append(out, f)
			continue
		}
		rest := f.text
		for {
			i := strings.Index(rest, token)
			if i < 0 {
				break
			}
			if i > 0 {
				out = append(out, fragment{NoToken, rest[:i]})
			}
			out = append(out, fragment{id, ""})
			rest = rest[i+len(token):]
			if s.attrs[id]&attrStripRight != 0 {
				rest = strings.TrimLeft(rest, " \t\n\v\f\r")
			}
		}
		if rest != "" {
			out = append(out, fragment{NoToken, rest})
		}
	}
	return out
}
