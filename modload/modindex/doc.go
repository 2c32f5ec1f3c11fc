// Package modindex reads the module index that depmod(8) writes below
// /lib/modules/RELEASE and answers which modules a device, a name or a symbol
// stands for, and what each of them needs. It gives the answers of libkmod,
// except where it differs on purpose: docs/kmod.md lists that, and names the tests
// that compare the rest with modprobe(8).
//
// The package does not talk to the kernel: the image builder and PID 1 share
// it. At boot it reads the .bin files through mmap(2) and parses nothing but
// their headers. Where one is missing or its header is wrong, the text twin is
// read and turned into the same form in memory, so there is one search for
// both. Reduce writes the index of a smaller set of modules for an image.
//
// # Damaged files
//
// The files are checked while they are searched, never trusted: every offset is
// compared with the size, the work of one search is bounded, and what is wrong
// counts as "no match" and is kept for Err. That includes a file that shrinks
// while it is mapped: the fault is caught and reported in the same way.
// depmod itself never does that, for it renames a finished file into place.
package modindex
