package coldplug

// isLeaf reports whether no device below the directory path can have a modalias of its own or be a
// block device. These are the places that grow with the number of CPUs, memory blocks and consoles.
func isLeaf(path []byte) bool {
	switch string(path) {
	case "/devices/system/cpu", // each cpuN has the alias of its modalias file
		"/devices/system/memory",
		"/devices/system/node",
		"/devices/system/clockevents",
		"/devices/system/machinecheck",
		"/devices/virtual/cpuid",
		"/devices/virtual/msr",
		"/devices/virtual/tty",
		"/devices/virtual/vc":
		return true
	}
	return false
}

// holdsNoDevice reports whether the subdirectory name, which ends in a NUL, of a device of the given
// kind is one of the kernel's groups of attributes. mq and queues have entries for each CPU. A group
// and a device of the same name cannot be in one directory; below a plain directory, such as that of
// the leds of a device, "power" is a device.
func holdsNoDevice(name []byte, parent kind) bool {
	switch string(name) {
	case "power\x00":
		return parent != kindNone
	case "mq\x00", "queue\x00":
		return parent == kindDisk
	case "queues\x00", "statistics\x00":
		return parent == kindNet
	}
	return false
}
