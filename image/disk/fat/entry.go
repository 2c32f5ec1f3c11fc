package fat

import (
	"encoding/binary"
)

// Attributes of directory entries.
const (
	attrVolume  = 0x08
	attrFolder  = 0x10
	attrArchive = 0x20
	attrLong    = 0x0f
)

// longPerEntry is how many UTF-16 units of a long name one entry holds.
const longPerEntry = 13

// writeFolder writes the entries of a folder and of those below it. parent is the first cluster of the one above.
func (v *volume) writeFolder(n *node, parent uint32) {
	var data []byte
	if n.first != rootCluster {
		if parent == rootCluster {
			parent = 0 // the root is named so
		}
		data = v.entry(data, [11]byte([]byte(".          ")), attrFolder, n.first, 0)
		data = v.entry(data, [11]byte([]byte("..         ")), attrFolder, parent, 0)
	} else if v.label != "" {
		data = v.entry(data, [11]byte([]byte(v.label)), attrVolume, 0, 0)
	}
	for _, child := range n.children {
		data = longEntries(data, child.long, child.short)
		if child.children != nil {
			data = v.entry(data, child.short, attrFolder, child.first, 0)
			v.writeFolder(child, n.first)
		} else {
			data = v.entry(data, child.short, attrArchive, child.first, uint32(child.size))
		}
	}
	v.image.Put(v.at(n.first), data)
}

// entry appends the entry of a file or folder, or the label's.
func (v *volume) entry(data []byte, name [11]byte, attributes byte, first, size uint32) []byte {
	le := binary.LittleEndian
	data = append(data, name[:]...)
	data = append(data, attributes, 0, 0)           // and hundredths of a second
	data = le.AppendUint16(data, v.stamp.time)      // created
	data = le.AppendUint16(data, v.stamp.date)      //
	data = le.AppendUint16(data, v.stamp.date)      // read
	data = le.AppendUint16(data, uint16(first>>16)) //
	data = le.AppendUint16(data, v.stamp.time)      // written
	data = le.AppendUint16(data, v.stamp.date)      //
	data = le.AppendUint16(data, uint16(first))     //
	return le.AppendUint32(data, size)
}

// longEntries appends the entries of a long name, the last part of the name first. The checksum ties them to the entry
// with the short name, which follows.
func longEntries(data []byte, name []uint16, short [11]byte) []byte {
	if name == nil {
		return data
	}
	sum := byte(0)
	for _, b := range short {
		sum = sum>>1 | sum<<7
		sum += b
	}
	count := int(ceil(int64(len(name)), longPerEntry))
	for i := count; i > 0; i-- {
		order := byte(i)
		if i == count {
			order |= 0x40
		}
		var units [longPerEntry]uint16
		for j := range units {
			switch at := (i-1)*longPerEntry + j; {
			case at < len(name):
				units[j] = name[at]
			case at > len(name):
				units[j] = 0xffff // behind the NUL that ends a name
			}
		}
		data = append(data, order)
		data = appendUnits(data, units[:5])
		data = append(data, attrLong, 0, sum)
		data = appendUnits(data, units[5:11])
		data = append(data, 0, 0)
		data = appendUnits(data, units[11:])
	}
	return data
}

func appendUnits(data []byte, units []uint16) []byte {
	for _, u := range units {
		data = binary.LittleEndian.AppendUint16(data, u)
	}
	return data
}
