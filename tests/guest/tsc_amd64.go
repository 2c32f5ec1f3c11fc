package main

// tsc returns the time stamp counter. It runs from power-on, so the time that firmware and boot loader took is in it; under
// QEMU's counted clock one tick is a nanosecond.
func tsc() uint64
