package archive

import "io/fs"

// Type and permission bits of c_mode, as in stat(2).
const (
	modeFifo   = 0o010000
	modeChar   = 0o020000
	modeDir    = 0o040000
	modeBlock  = 0o060000
	modeFile   = 0o100000
	modeLink   = 0o120000
	modeSocket = 0o140000
	modeType   = 0o170000
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
)

// unixMode is the c_mode of a file mode that Validate accepted.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= modeSetuid
	}
	if m&fs.ModeSetgid != 0 {
		mode |= modeSetgid
	}
	if m&fs.ModeSticky != 0 {
		mode |= modeSticky
	}
	switch m.Type() {
	case fs.ModeDir:
		return mode | modeDir
	case fs.ModeSymlink:
		return mode | modeLink
	case fs.ModeDevice:
		return mode | modeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		return mode | modeChar
	}
	return mode | modeFile
}

// goMode is the inverse of unixMode. A type that stat(2) does not know becomes fs.ModeIrregular.
func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&modeSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if mode&modeSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if mode&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	switch mode & modeType {
	case modeFile:
		return m
	case modeDir:
		return m | fs.ModeDir
	case modeLink:
		return m | fs.ModeSymlink
	case modeBlock:
		return m | fs.ModeDevice
	case modeChar:
		return m | fs.ModeDevice | fs.ModeCharDevice
	case modeFifo:
		return m | fs.ModeNamedPipe
	case modeSocket:
		return m | fs.ModeSocket
	}
	return m | fs.ModeIrregular
}
