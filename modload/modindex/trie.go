package modindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// The layout of modules.*.bin, as libkmod/libkmod-index.c of kmod describes it.
// All integers are big-endian and unaligned:
//
//	header   magic u32, version u32 (major<<16 | minor), root reference u32
//	node     [prefix NUL] [first u8, last u8, (last-first+1) references] [n u32, n values]
//	value    priority u32, string NUL
//
// A reference is a position in the file whose high bits say which of the three
// parts the node there has; position 0 is no node. The key of a node is the key
// of its parent, the byte of the slot it hangs in, and its own prefix.
const (
	trieMagic   = 0xB007F457
	trieMajor   = 2
	trieMinor   = 1
	headerSize  = 12
	hasPrefix   = 0x80000000
	hasValues   = 0x40000000
	hasChildren = 0x20000000
	posMask     = 0x0FFFFFFF
	maxByte     = 127 // depmod refuses bytes beyond ASCII
)

// A trie is one index: keys, each with values of ascending priority. The zero
// trie has no keys. Any number of goroutines may read it.
type trie struct {
	data   []byte
	root   uint32
	file   string                 // for errors
	damage *atomic.Pointer[error] // shared by the tries of one Index; the first one stays
}

// newTrie checks the header of data and nothing else.
func newTrie(file string, data []byte, damage *atomic.Pointer[error]) (trie, error) {
	if len(data) < headerSize {
		return trie{}, fmt.Errorf("%s: %d bytes are too short for an index", file, len(data))
	}
	if magic := binary.BigEndian.Uint32(data); magic != trieMagic {
		return trie{}, fmt.Errorf("%s: magic %#x is not that of an index", file, magic)
	}
	if major := binary.BigEndian.Uint32(data[4:]) >> 16; major != trieMajor {
		return trie{}, fmt.Errorf("%s: index format %d, want %d", file, major, trieMajor)
	}
	if len(data) > posMask {
		return trie{}, fmt.Errorf("%s: %d bytes are more than an index can address", file, len(data))
	}
	root := binary.BigEndian.Uint32(data[8:])
	if int(root&posMask) > len(data) {
		return trie{}, fmt.Errorf("%s: the root lies behind the end", file)
	}
	return trie{data: data, root: root, file: file, damage: damage}, nil
}

var (
	errReference = errors.New("a reference leaves the file")
	errPrefix    = errors.New("a prefix has no end")
	errChildren  = errors.New("a table of children is not one")
	errValues    = errors.New("a list of values leaves the file")
	errWork      = errors.New("it has loops")
	errKey       = errors.New("a key is too long")
	errShrunk    = errors.New("it shrank while it was mapped")
)

// spoiled remembers the first damage that any search met.
func (t *trie) spoiled(cause error) {
	err := fmt.Errorf("%s is damaged: %w; run depmod", t.file, cause)
	t.damage.CompareAndSwap(nil, &err)
}

// A node is a decoded node. It borrows the bytes of its trie.
type node struct {
	prefix []byte
	first  byte
	kids   []byte // references, four bytes each, for the slots first, first+1, ...
	count  uint32 // of values
	values []byte // they start here
}

// node decodes the node at ref into n. Of its children and values only the
// presence is checked.
func (t *trie) node(n *node, ref uint32) error {
	*n = node{}
	pos := ref & posMask
	if pos == 0 || int(pos) > len(t.data) {
		return errReference
	}
	p := t.data[pos:]
	if ref&hasPrefix != 0 {
		end := bytes.IndexByte(p, 0)
		if end < 0 {
			return errPrefix
		}
		n.prefix, p = p[:end], p[end+1:]
	}
	if ref&hasChildren != 0 {
		if len(p) < 2 || p[0] > p[1] || p[1] > maxByte {
			return errChildren
		}
		n.first = p[0]
		size := 4 * (int(p[1]-p[0]) + 1)
		if p = p[2:]; len(p) < size {
			return errChildren
		}
		n.kids, p = p[:size], p[size:]
	}
	if ref&hasValues != 0 {
		if len(p) < 4 {
			return errValues
		}
		n.count, n.values = binary.BigEndian.Uint32(p), p[4:]
	}
	return nil
}

// child returns the reference in the slot of c, 0 if it is empty or there is none.
func (n *node) child(c byte) uint32 {
	i := 4 * (int(c) - int(n.first))
	if i < 0 || i >= len(n.kids) {
		return 0
	}
	return liveRef(binary.BigEndian.Uint32(n.kids[i:]))
}

// liveRef returns 0 for a reference to position 0, whatever its flags.
func liveRef(ref uint32) uint32 {
	if ref&posMask == 0 {
		return 0
	}
	return ref
}

// A value is one value of a key. Lower priorities come first; depmod counts
// them along modules.order.
type value struct {
	priority uint32
	text     []byte // borrowed from the trie
}

// cutValue returns the first value in p and what follows it.
func cutValue(p []byte) (v value, rest []byte, ok bool) {
	if len(p) < 5 {
		return v, nil, false
	}
	end := bytes.IndexByte(p[4:], 0)
	if end < 0 {
		return v, nil, false
	}
	return value{binary.BigEndian.Uint32(p), p[4 : 4+end]}, p[4+end+1:], true
}

// find returns the first value of exactly key. It is what libkmod does in
// modules.dep and modules.builtin, where '*' has no meaning.
func (t *trie) find(key []byte) (v value, ok bool) {
	if len(t.data) == 0 {
		return v, false
	}
	var n node
	for ref := t.root; ref != 0; {
		if err := t.node(&n, ref); err != nil {
			t.spoiled(err)
			return v, false
		}
		var same bool
		if key, same = bytes.CutPrefix(key, n.prefix); !same {
			return v, false
		}
		if len(key) == 0 {
			if n.count == 0 {
				return v, false
			}
			if v, _, ok = cutValue(n.values); !ok {
				t.spoiled(errValues)
			}
			return v, ok
		}
		// Each turn takes a byte of key, so a loop in the file ends here too.
		ref, key = n.child(key[0]), key[1:]
	}
	return v, false
}

// has reports whether find would find something.
func (t *trie) has(key []byte) bool {
	_, ok := t.find(key)
	return ok
}

// An entry is a key with one of its values.
type entry struct {
	key string
	value
}

// entries returns all that the trie holds, the values of a key in their order,
// keys in that of their bytes. It is for the few callers that need everything.
func (t *trie) entries() []entry {
	if len(t.data) == 0 {
		return nil
	}
	// Keys share their beginnings, so spelled out they are longer than the file:
	// with the entries around them, 3 times as long in practice. Beyond this it
	// must be that branches are shared.
	w := walk{t: t, budget: 8*len(t.data) + 1<<20}
	if err := w.all(t.root, make([]byte, 0, 256)); err != nil {
		t.spoiled(err)
		return nil
	}
	return w.found
}

type walk struct {
	t      *trie
	budget int // of bytes to look at or to allocate
	found  []entry
}

// entrySize is what an entry takes beside its key.
const entrySize = int(unsafe.Sizeof(entry{}))

func (w *walk) all(ref uint32, key []byte) error {
	var n node
	if err := w.t.node(&n, ref); err != nil {
		return err
	}
	key = append(key, n.prefix...)
	w.budget -= 1 + len(n.prefix) + len(n.kids)
	if len(key) > maxQuery {
		return errKey
	}
	for i, p := uint32(0), n.values; i < n.count; i++ {
		v, rest, ok := cutValue(p)
		if !ok {
			return errValues
		}
		w.budget -= entrySize + len(key) + len(p) - len(rest)
		if w.budget < 0 {
			return errWork
		}
		w.found = append(w.found, entry{string(key), v})
		p = rest
	}
	for i := 0; i < len(n.kids); i += 4 {
		if w.budget < 0 {
			return errWork
		}
		ref := liveRef(binary.BigEndian.Uint32(n.kids[i:]))
		if ref == 0 {
			continue
		}
		if err := w.all(ref, append(key, n.first+byte(i/4))); err != nil {
			return err
		}
	}
	return nil
}
