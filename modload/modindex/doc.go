// Package modindex reads the module index that depmod(8) writes below
// /lib/modules/RELEASE and answers which modules a device, a name or a symbol
// stands for, and what each of them needs. It gives the answers of libkmod,
// with these differences, each on purpose:
//
//   - All softdep lines of a module count, those of modprobe.d(5) included. libkmod takes the first one only,
//     so that btrfs or ksmbd, which have ten, get a tenth of what they ask for.
//   - A query whose brackets are not balanced, as vendor strings in DMI data
//     may be, is looked up; libkmod refuses it.
//   - Names in modprobe.blacklist= may be written with '-'.
//   - A module that several patterns name is given once.
//   - A softdep line with two blanks behind the module is understood; libkmod
//     takes the second for a part of the word "pre:", which it then does not know.
//   - The words deny, in modprobe.d(5), and hapax.deny=, on the kernel command
//     line, are the package's own. See ReadConfig.
//   - Only files whose name ends in ".conf" are read, as modprobe.d(5) has it and
//     newer versions of libkmod do; version 30 takes ".alias" too.
//   - In modules.softdep and modules.weakdep no other directive counts.
//   - A built-in module has no install command and no soft dependencies: it is there.
//   - The size of a configuration is bounded, and what lies beyond is reported.
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
