package engine

import "runtime/debug"

// version is the module version that the linker recorded, for the report.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
