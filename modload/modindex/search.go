package modindex

import (
	"bytes"
	"encoding/binary"
)

// A search looks for every key that, read as a pattern, covers one string. The
// keys are those of modules.alias: what stands before the first of "*?[" is
// compared byte by byte, the rest has the meaning of Fnmatch.
//
// libkmod spells out each pattern below the first wildcard and calls fnmatch
// for it. Here the walk matches as it goes down and leaves a branch that can no
// longer fit: behind "acpi*:" there are hundreds of patterns, and one or two
// that begin with the right letter.
//
// A search keeps its memory from one use to the next; one goroutine may use it.
type search struct {
	query []byte  // normalised; the whole of it
	found []value // ascending priority; of equal ones the later found is first

	trie    *trie
	key     []byte // what is left to match; below a wildcard: all behind the literal part
	pattern []byte // what the walk has spelled from the first wildcard on
	budget  int    // of work, see workLimit
}

// set makes query the string to look for.
func (s *search) set(query string) {
	s.query = append(s.query[:0], query...)
	underscore(s.query)
}

// in returns the values of all keys of t that cover the query, until the next call.
func (s *search) in(t *trie) []value {
	s.found = s.found[:0]
	if len(t.data) == 0 {
		return nil
	}
	s.trie, s.key = t, s.query
	s.budget = workLimit(len(t.data), len(s.query))
	if err := s.literal(); err != nil {
		t.spoiled(err)
		return nil
	}
	return s.found
}

// workLimit returns what a search for a key may cost in a trie. It looks at each
// byte twice at most, once as a literal and once below a wildcard, and each time
// it may have to move a piece along the key. The constant is for fnmatch. Only
// a trie with loops or with shared branches takes more.
func workLimit(size, key int) int { return 2*size*(2+key/32) + 1<<20 }

// node decodes a node and pays for it.
func (s *search) node(n *node, ref uint32) error {
	if err := s.trie.node(n, ref); err != nil {
		return err
	}
	if s.budget -= 1 + len(n.prefix) + len(n.kids); s.budget < 0 {
		return errWork
	}
	return nil
}

// literal follows key from the root, and tries the patterns that begin on the way.
func (s *search) literal() error {
	var n node
	for ref := s.trie.root; ref != 0; {
		if err := s.node(&n, ref); err != nil {
			return err
		}
		for i, c := range n.prefix {
			if c == '*' || c == '?' || c == '[' {
				n.prefix, s.key = n.prefix[i:], s.key[i:]
				return s.below(&n, tail{})
			}
			if i >= len(s.key) || s.key[i] != c {
				return nil
			}
		}
		s.key = s.key[len(n.prefix):]
		for _, c := range [...]byte{'*', '?', '['} {
			if child := n.child(c); child != 0 {
				if err := s.branch(child, c, tail{}); err != nil {
					return err
				}
			}
		}
		if len(s.key) == 0 {
			return s.take(&n)
		}
		ref = n.child(s.key[0])
		s.key = s.key[1:]
	}
	return nil
}

// branch goes on in the child at ref, in the slot of c, if c fits.
func (s *search) branch(ref uint32, c byte, t tail) error {
	if !s.extend(&t, c) {
		return nil
	}
	var n node
	if err := s.node(&n, ref); err != nil {
		return err
	}
	return s.below(&n, t)
}

// below tries every pattern that begins with t and goes on in n.
func (s *search) below(n *node, t tail) error {
	if t.size+len(n.prefix) > maxQuery {
		return errKey
	}
	for _, c := range n.prefix {
		if !s.extend(&t, c) {
			return nil
		}
	}
	for i := 0; i < len(n.kids); i += 4 {
		ref := liveRef(binary.BigEndian.Uint32(n.kids[i:]))
		if ref == 0 {
			continue
		}
		if err := s.branch(ref, n.first+byte(i/4), t); err != nil {
			return err
		}
	}
	if n.count > 0 && s.covers(&t) {
		return s.take(n)
	}
	return nil
}

// take files the values of a matching key.
func (s *search) take(n *node) error {
	for i, p := uint32(0), n.values; i < n.count; i++ {
		v, rest, ok := cutValue(p)
		if !ok {
			return errValues
		}
		if s.budget -= len(p) - len(rest) + len(s.found); s.budget < 0 {
			return errWork
		}
		p = rest
		s.found = append(s.found, v)
		at := len(s.found) - 1
		for at > 0 && s.found[at-1].priority >= v.priority {
			s.found[at] = s.found[at-1]
			at--
		}
		s.found[at] = v
	}
	return nil
}

// A tail is how far a pattern, from its first wildcard on, has been matched
// with the key. As in any matching of '*', only the piece behind the last star is
// open, and it stands as far left as it can: a later star takes what that leaves.
type tail struct {
	size    int  // of the pattern so far
	piece   int  // where in it the open piece begins
	at      int  // where in the key the open piece stands
	starred bool // a star precedes it, so it may move to the right
	masked  bool // it holds a '?'
	opaque  bool // a class or an escape came: only fnmatch can tell, at the end
}

// extend appends c to the pattern and reports whether it can still fit.
func (s *search) extend(t *tail, c byte) bool {
	end := t.at + t.size - t.piece
	s.pattern = append(s.pattern[:t.size], c)
	t.size++
	switch {
	case t.opaque:
		return true
	case c == '[' || c == '\\':
		t.opaque = true
		return true
	case c == '*':
		t.at, t.piece, t.starred, t.masked = end, t.size, true, false
		return true
	case c == '?':
		t.masked = true
	}
	if end < len(s.key) && fits(c, s.key[end]) {
		return true
	}
	return t.starred && s.move(t)
}

// move looks for the next place of the open piece, to the right of where it stood.
func (s *search) move(t *tail) bool {
	if t.at++; t.at > len(s.key) {
		return false
	}
	piece, rest := s.pattern[t.piece:t.size], s.key[t.at:]
	s.budget -= 1 + len(rest)/32
	if !t.masked {
		i := bytes.Index(rest, piece)
		t.at += i
		return i >= 0
	}
	for ; len(piece) <= len(rest); rest = rest[1:] {
		if fitsAll(piece, rest) {
			t.at = len(s.key) - len(rest)
			return true
		}
	}
	return false
}

// covers reports whether the pattern, now complete, takes key to its end.
func (s *search) covers(t *tail) bool {
	if t.opaque {
		s.budget -= t.size * (1 + len(s.key)/64)
		return fnmatch(s.pattern[:t.size], s.key)
	}
	piece := s.pattern[t.piece:t.size]
	end := len(s.key) - len(piece)
	if !t.starred {
		return t.at == end
	}
	return end >= t.at && fitsAll(piece, s.key[end:])
}

// fitsAll reports whether key, which is no shorter, begins with piece.
func fitsAll(piece, key []byte) bool {
	for i, c := range piece {
		if !fits(c, key[i]) {
			return false
		}
	}
	return true
}

// fits reports whether c, a byte of a pattern that is neither '*' nor quoted, covers k.
func fits(c, k byte) bool { return c == k || c == '?' }
