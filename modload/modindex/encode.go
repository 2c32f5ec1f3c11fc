package modindex

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// encode returns the .bin file that holds the entries, the bytes that depmod
// of kmod 30 writes when it is given them in this order: children in front of
// their parent, values of one key by priority and the later given first.
// An entry whose key has a byte that depmod refuses is left out.
func encode(entries []entry) ([]byte, error) { return new(encoder).file(entries) }

// file is encode.
func (e *encoder) file(entries []entry) ([]byte, error) {
	sorted := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool {
		return len(e.key) > maxQuery || strings.ContainsFunc(e.key, func(r rune) bool { return r == 0 || r > maxByte })
	})
	slices.Reverse(sorted)
	slices.SortStableFunc(sorted, func(a, b entry) int {
		return cmp.Or(strings.Compare(a.key, b.key), cmp.Compare(a.priority, b.priority))
	})
	e.u32(trieMagic)
	e.u32(trieMajor<<16 | trieMinor)
	e.u32(0) // the root, known at the end
	root := e.node(sorted, 0, 0)
	if len(e.out) > posMask {
		return nil, errors.New("the index is larger than its format allows")
	}
	binary.BigEndian.PutUint32(e.out[8:], root)
	return e.out, nil
}

type encoder struct {
	out     []byte
	written map[writtenNode]uint32 // references; nil: every node is written, as depmod does it
}

// A writtenNode is all that makes a node: the flags of its reference and its bytes.
type writtenNode struct {
	flags uint32
	bytes string
}

func (e *encoder) u32(v uint32) { e.out = binary.BigEndian.AppendUint32(e.out, v) }

func (e *encoder) cstring(s string) { e.out = append(append(e.out, s...), 0) }

// node appends the node for sorted, whose keys agree in their first end bytes.
// The node's prefix is the part of that behind start. It returns the reference.
func (e *encoder) node(sorted []entry, start, end int) uint32 {
	own := 0
	for own < len(sorted) && len(sorted[own].key) == end {
		own++
	}
	first, refs := e.children(sorted[own:], end)

	ref := uint32(len(e.out))
	if end > start {
		ref |= hasPrefix
		e.cstring(sorted[0].key[start:end])
	}
	if len(refs) > 0 {
		ref |= hasChildren
		e.out = append(e.out, first, first+byte(len(refs)-1))
		for _, r := range refs {
			e.u32(r)
		}
	}
	if own > 0 {
		ref |= hasValues
		e.u32(uint32(own))
		for _, v := range sorted[:own] {
			e.u32(v.priority)
			e.cstring(string(v.text))
		}
	}
	return e.once(ref)
}

// once takes back the node at ref, the last one in out, if there is one like it
// already, and returns the reference to that. Children are in front of their
// parents, so branches are compared by their references.
func (e *encoder) once(ref uint32) uint32 {
	if e.written == nil {
		return ref
	}
	pos := ref & posMask
	n := writtenNode{ref &^ posMask, string(e.out[pos:])}
	if same, ok := e.written[n]; ok {
		e.out = e.out[:pos]
		return same
	}
	e.written[n] = ref
	return ref
}

// children appends the nodes below one whose key has end bytes, one for each
// byte that follows there, and returns their references, 0 for a gap.
func (e *encoder) children(sorted []entry, end int) (first byte, refs []uint32) {
	for len(sorted) > 0 {
		c := sorted[0].key[end]
		n := 1
		for n < len(sorted) && sorted[n].key[end] == c {
			n++
		}
		if refs == nil {
			first = c
		}
		for byte(len(refs)) < c-first {
			refs = append(refs, 0)
		}
		// All keys between the first and the last share what those two share.
		refs = append(refs, e.node(sorted[:n], end+1, shared(sorted[0].key, sorted[n-1].key)))
		sorted = sorted[n:]
	}
	return first, refs
}

// shared returns how many bytes a and b have in common at their start.
func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
